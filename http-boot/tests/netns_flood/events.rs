//! Boot events without end, of Pis that are not there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::flood::{Flooded, SERVER};

const PI: &str = "10000000abcdef01";
/// How many made-up events come before the flood is over.
const EVENTS: u64 = 40_000;

fn event(boot: &str, sequence: u64, step: &str, error: &str) -> String {
    format!(
        r#"{{"format":1,"boot_id":"{boot}","sequence":{sequence},"uptime_ms":{sequence},"step":"{step}","state":"failed","error":"{error}"}}"#
    )
}

/// A connection's worth of events; all but the first thread make up a serial number for each.
fn spam(number: usize, count: &AtomicU64) {
    let Ok(stream) = TcpStream::connect((SERVER, 80)) else { return };
    let (mut answers, mut stream) = (BufReader::new(stream.try_clone().unwrap()), stream);
    let error = "x".repeat(2000);
    for _ in 0..200 {
        let turn = count.fetch_add(1, Ordering::Relaxed);
        let serial = if number == 0 { "00000000feedface".into() } else { format!("{turn:016x}") };
        let body = event(&format!("b{turn}"), turn + 1, &format!("step{}", turn % 500), &error);
        let head = format!(
            "POST /v1/boot/{serial}/events HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all(head.as_bytes()).is_err() || stream.write_all(body.as_bytes()).is_err() {
            return;
        }
        if !read_answer(&mut answers) {
            return;
        }
    }
}

fn read_answer(from: &mut BufReader<TcpStream>) -> bool {
    let mut length = 0;
    for line in from.by_ref().lines() {
        let Ok(line) = line else { return false };
        if line.is_empty() {
            return std::io::copy(&mut from.take(length), &mut std::io::sink()).is_ok();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    false
}

#[test]
fn a_pi_boots_on_while_events_pour_in() {
    let flooded = Flooded::start(&vec![7; 4 << 20]);
    let state = flooded.site.path("state");
    let made = Command::new(env!("CARGO_BIN_EXE_http-boot"))
        .args(["token", "add", "test", "--role", "view", "--state"])
        .arg(&state)
        .output()
        .unwrap();
    let bearer = format!("Authorization: Bearer {}", String::from_utf8(made.stdout).unwrap().trim());
    let before = flooded.resident();
    let count = Arc::new(AtomicU64::new(0));
    let flood = flooded.flood(8, {
        let count = count.clone();
        move |number| spam(number, &count)
    });
    let mut sequence = 0;
    while count.load(Ordering::Relaxed) < EVENTS {
        flooded.fetch("http");
        sequence += 1;
        let body = event("boot-a", sequence, "fetch", "no route");
        let sent = flooded.curl(&["--data-binary", &body], &format!("http://{SERVER}/v1/boot/{PI}/events"));
        assert!(sent.status.success(), "{sent:?}");
    }
    drop(flood);
    let url = format!("http://{SERVER}/v1/devices/{PI}");
    let shown = flooded.curl(&["--header", &bearer], &url).stdout;
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    let shown = &shown["device"];
    assert_eq!((&shown["sequence"], &shown["boot_id"]), (&sequence.into(), &"boot-a".into()), "{shown}");
    let all = flooded.curl(&["--header", &bearer], &format!("http://{SERVER}/v1/devices")).stdout;
    let all: serde_json::Value = serde_json::from_slice(&all).unwrap();
    let devices = all["devices"].as_array().unwrap().len();
    assert!(devices <= 4096, "{devices}");
    // The list of devices has 128 MiB of JSON at most, the recorder's queue 16 MiB.
    let grown = flooded.resident().saturating_sub(before);
    assert!(grown < 320 << 10, "{grown} KiB");
    let on_disk: u64 =
        std::fs::read_dir(&state).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk < 400 << 20, "{on_disk} bytes");
    println!("{EVENTS} events: {devices} devices, {grown} KiB of memory, {on_disk} bytes on disk");
}
