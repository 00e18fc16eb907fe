//! The boot order, as far as it goes without a cable: what EEPROM images that `boot-files` made say, and what comes after a refusal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use boot_files::eeprom::image::{BOOTCONF, CACERT, Image, PUBKEY};
use boot_files::eeprom::public_key;
use common::{Keys, Text, good_image, pi};
use virtual_pi::bootloader::eeprom::Eeprom;
use virtual_pi::bootloader::modes::{self, Booted, Cable};
use virtual_pi::bootloader::refusal::{Kind, Refusal};

/// Answers each request with what `answers` says of its path, or 404.
fn serve(answers: Vec<(&'static str, Vec<u8>)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut request, mut byte) = (Vec::new(), [0]);
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let found = answers.iter().find(|(path, _)| request.starts_with(&format!("GET {path} ")));
            let (status, body) = found.map_or((404, &[][..]), |(_, body)| (200, body));
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
            let _gone = stream.write_all(&[head.as_bytes(), body].concat());
        }
    });
    port
}

fn boot(eeprom: &Eeprom) -> (Result<Booted, Refusal>, String) {
    let text = Text::default();
    let end = Instant::now() + Duration::from_secs(60);
    let result = modes::boot(&pi(), eeprom, &mut Cable::Host, end, &mut text.log());
    (result, text.text())
}

/// The image is the stock one of the golden data, with a configuration and a key.
#[test]
fn an_eeprom_image_boots_with_its_own_key() {
    let keys = Keys::new(2048);
    let image = good_image();
    let port = serve(vec![("/pi/boot.img", image.clone()), ("/pi/boot.sig", keys.sign(&image))]);
    let stock =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../boot-files/tests/data/eeprom/pieeprom-2711-2026-05-17.bin");
    let mut eeprom = Image::parse(std::fs::read(stock).unwrap()).unwrap();
    let config = format!("BOOT_ORDER=0xe741\nHTTP_HOST=127.0.0.1\nHTTP_PORT={port}\nHTTP_PATH=pi\n");
    eeprom.replace(BOOTCONF, config.as_bytes()).unwrap();
    let key = public_key::encode(&public_key::read(&keys.path("boot.pub.pem")).unwrap()).unwrap();
    eeprom.replace(PUBKEY, &key).unwrap();
    let read = Eeprom::read(eeprom.bytes(), &pi(), None).unwrap();
    let (result, log) = boot(&read);
    assert_eq!(result.unwrap().mode, 7, "{log}");
    assert!(log.contains("boot mode USB disk: this Pi has no such thing"), "{log}");
    // With another key it does not boot, and stops (e).
    eeprom
        .replace(
            PUBKEY,
            &public_key::encode(&public_key::read(&Keys::new(2048).path("boot.pub.pem")).unwrap()).unwrap(),
        )
        .unwrap();
    let (result, log) = boot(&Eeprom::read(eeprom.bytes(), &pi(), None).unwrap());
    assert_eq!(result.unwrap_err().kind, Kind::Signature, "{log}");
    // The authority's certificate is the image's own, and its hash has to be the one of the configuration.
    eeprom.replace(CACERT, b"no certificate").unwrap();
    let hash = "00".repeat(32);
    eeprom.replace(BOOTCONF, format!("HTTP_HOST=x\nHTTP_CACERT_HASH={hash}\n").as_bytes()).unwrap();
    let error = Eeprom::read(eeprom.bytes(), &pi(), None).unwrap_err();
    assert!(error.contains("HTTP_CACERT_HASH"), "{error}");
}

#[test]
fn it_begins_anew_as_often_as_it_may() {
    let port = serve(Vec::new());
    let text = format!("BOOT_ORDER=0xf72\nMAX_RESTARTS=2\nHTTP_HOST=127.0.0.1\nHTTP_PORT={port}\n");
    let mut eeprom = Eeprom::read(text.as_bytes(), &pi(), None).unwrap();
    eeprom.public_key = Some(Keys::new(2048).public());
    let (result, log) = boot(&eeprom);
    assert_eq!(result.unwrap_err().kind, Kind::NotFound);
    assert_eq!(log.matches("Error 6 loading boot.sig").count(), 3, "{log}");
    assert!(log.contains("Boot mode: NETWORK (02) order f7"), "{log}");
}

#[test]
fn flags_and_files_that_do_not_go_together_are_refused() {
    let virtual_pi = |words: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_virtual-pi")).args(words.split(' ')).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (words, said) in [
        ("run", "--eeprom"),
        ("run --http-host x", "--public-key"),
        ("run --eeprom x --http-host y", "cannot be used with"),
        ("run --eeprom x --bridge br0 --ssh-port 0", "cannot be used with"),
    ] {
        let (code, error) = virtual_pi(words);
        assert!(code == Some(2) && error.contains(said), "{words}: {code:?} {error}");
    }
    let (code, error) = virtual_pi("run --eeprom /no/such/file");
    assert!(code == Some(1) && error.contains("/no/such/file"), "{error}");
}
