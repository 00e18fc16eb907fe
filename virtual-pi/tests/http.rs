//! Boot mode HTTP against servers that answer well or badly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::{Keys, Text, good_image, pi};
use virtual_pi::bootloader::firmware::Boot;
use virtual_pi::bootloader::http::Source;
use virtual_pi::bootloader::http_boot;
use virtual_pi::bootloader::refusal::{Kind, Refusal};

/// A server that gives one prepared answer to each connection, in turn, and passes the requests on.
fn server(answers: Vec<Vec<u8>>) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            let _seen = sender.send(String::from_utf8(request).unwrap());
            // The client may hang up as soon as it has seen the head.
            let _gone = stream.write_all(&answer);
        }
    });
    (port, requests)
}

fn ok(body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

fn part(body: &[u8], start: usize, total: usize) -> Vec<u8> {
    let range = format!("bytes {start}-{}/{total}", total - 1);
    [
        format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: {range}\r\n\r\n",
            body.len()
        )
        .as_bytes(),
        body,
    ]
    .concat()
}

struct Site {
    keys: Keys,
    image: Vec<u8>,
    sig: Vec<u8>,
}

impl Site {
    fn new() -> Self {
        let (keys, image) = (Keys::new(2048), good_image());
        let sig = keys.sign(&image);
        Self { keys, image, sig }
    }

    fn boot(&self, answers: Vec<Vec<u8>>) -> (Result<Boot, Refusal>, Vec<String>, String) {
        let (port, requests) = server(answers);
        let text = Text::default();
        let source = Source::new("127.0.0.1", port, "pi").unwrap();
        let result = http_boot(&pi(), &source, &self.keys.public(), &mut text.log());
        (result, requests.try_iter().collect(), text.text())
    }

    /// The refusal when boot.img is answered like this, after a good boot.sig.
    fn refusal(&self, answers: &[Vec<u8>]) -> (Refusal, String) {
        let (result, _, log) = self.boot([&[ok(&self.sig)], answers].concat());
        (result.unwrap_err(), log)
    }
}

#[test]
fn signature_first_then_image() {
    let site = Site::new();
    let (result, requests, log) = site.boot(vec![ok(&site.sig), ok(&site.image)]);
    result.unwrap();
    assert!(requests[0].starts_with("GET /pi/boot.sig HTTP/1.1\r\nhost: 127.0.0.1:"), "{}", requests[0]);
    assert!(requests[1].starts_with("GET /pi/boot.img HTTP/1.1\r\n"));
    assert!(requests[0].contains("\r\nUser-Agent: rpiboot/1.0 (a03114; version:76697274 timestamp:1771804800)\r\nConnection: close\r\n\r\n"));
    for words in [
        "Boot mode: HTTP (07)",
        "HTTP: GET request for http://127.0.0.1:",
        "Loading boot.img ...",
        "HTTP: got 100% at",
        "rsa-verify pass (0x0)",
    ] {
        assert!(log.contains(words), "{words}\n{log}");
    }
}

#[test]
fn a_broken_download_is_resumed() {
    let site = Site::new();
    let total = site.image.len();
    let mut cut = ok(&site.image);
    cut.truncate(cut.len() - 500_000);
    let have = total - 500_000;
    let again = part(&site.image[have..], have, total);
    let (result, requests, log) = site.boot(vec![ok(&site.sig), cut.clone(), again]);
    result.unwrap();
    assert!(requests[2].contains(&format!("\r\nRange: bytes={have}-\r\n")), "{}", requests[2]);
    assert!(
        log.contains("HTTP: web client failed")
            && log.contains(&format!("the connection closed at {have} of {total} bytes"))
    );
    // A server without ranges sends all again.
    site.boot(vec![ok(&site.sig), cut.clone(), ok(&site.image)]).0.unwrap();
    // Another range than was asked for is not used.
    let wrong = part(&site.image[have + 1..], have + 1, total);
    let (result, requests, _) = site.boot(vec![ok(&site.sig), cut, wrong, ok(&site.image)]);
    result.unwrap();
    assert!(!requests[3].contains("Range:"));
}

#[test]
fn a_download_that_stays_broken_is_given_up() {
    let site = Site::new();
    let mut cut = ok(&site.image);
    cut.truncate(1000);
    let (refusal, log) = site.refusal(&[cut, part(b"", 9, 9), ok(b"")[..10].to_vec()]);
    assert_eq!(refusal.kind, Kind::Download);
    assert!(refusal.reason.contains("given up after 3 tries"), "{}", refusal.reason);
    assert!(log.contains("Error 3 loading boot.img"));
}

#[test]
fn answers_that_are_not_taken() {
    let site = Site::new();
    let answer = |head: &str| format!("HTTP/1.1 {head}\r\n\r\n").into_bytes();
    for (head, kind, words) in [
        ("404 Not Found\r\nContent-Length: 0", Kind::NotFound, "no such file (404)"),
        (
            "302 Found\r\nLocation: http://127.0.0.1/boot.img\r\nContent-Length: 0",
            Kind::Download,
            "redirects (302)",
        ),
        ("301 Moved\r\nLocation: /x\r\nContent-Length: 0", Kind::Download, "redirects (301)"),
        ("200 OK\r\nTransfer-Encoding: chunked", Kind::Download, "Transfer-Encoding: chunked"),
        ("200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip", Kind::Download, "Content-Encoding: gzip"),
        ("200 OK", Kind::Download, "no Content-Length"),
        ("200 OK\r\nContent-Length: 134217729", Kind::TooLarge, "File is too large. Max size 134217728"),
    ] {
        let (refusal, log) = site.refusal(&[answer(head)]);
        assert_eq!(refusal.kind, kind, "{head}");
        assert!(refusal.reason.contains(words), "{}", refusal.reason);
        assert!(log.contains("next boot mode"), "{log}");
        let number = if kind == Kind::NotFound { 6 } else { 3 };
        assert!(log.contains(&format!("Error {number} loading boot.img")), "{log}");
    }
    // What is not HTTP, or no success, is tried again.
    for first in [answer("500 Oops\r\nContent-Length: 0"), b"SSH-2.0-x\r\n\r\n".to_vec(), b"".to_vec()] {
        site.boot(vec![ok(&site.sig), first, ok(&site.image)]).0.unwrap();
    }
}

#[test]
fn a_missing_signature_ends_the_boot_mode() {
    let site = Site::new();
    let (result, requests, log) = site.boot(vec![b"HTTP/1.0 404 Not Found\r\n\r\n".to_vec()]);
    assert_eq!((result.unwrap_err().kind, requests.len()), (Kind::NotFound, 1));
    assert!(log.contains("Error 6 loading boot.sig"));
}

#[test]
fn nobody_listens() {
    let site = Site::new();
    let port = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    let text = Text::default();
    let source = Source::new("127.0.0.1", port, "").unwrap();
    let refusal = http_boot(&pi(), &source, &site.keys.public(), &mut text.log()).unwrap_err();
    assert_eq!(refusal.kind, Kind::Download);
    assert!(refusal.reason.contains("refused"), "{}", refusal.reason);
}

#[test]
fn the_exit_code_tells_why() {
    let site = Site::new();
    let run = |answers: Vec<Vec<u8>>| {
        let (port, _requests) = server(answers);
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtual-pi"));
        command.args([
            "run",
            "--http-host",
            "127.0.0.1",
            "--http-path",
            "pi",
            "--http-port",
            &port.to_string(),
            "--public-key",
        ]);
        let output = command.arg(site.keys.path("boot.pub.pem")).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    assert_eq!(run(vec![missing.clone()]).0, 10);
    assert_eq!(run(vec![ok(&site.sig), missing]).0, 10);
    assert_eq!(run(vec![ok(&site.sig), b"HTTP/1.1 302 Found\r\n\r\n".to_vec()]).0, 11);
    assert_eq!(run(vec![ok(&site.sig), ok(b"other")]).0, 12);
    let empty = vec![0; 4096];
    assert_eq!(run(vec![ok(&site.keys.sign(&empty)), ok(&empty)]).0, 13);
}
