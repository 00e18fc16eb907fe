//! Bytes in bulk: nothing lost, nothing piled up, nothing stuck.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Server, code, output, text, until, wait};
use rescue_tools::sshd::intake;
use sha2::{Digest, Sha256};

/// Bytes that do not repeat.
struct Noise {
    state: u64,
    left: usize,
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.left);
        for byte in &mut buffer[..length] {
            self.state =
                self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.state >> 56) as u8;
        }
        self.left -= length;
        Ok(length)
    }
}

fn noise(length: usize) -> Noise {
    Noise { state: 7, left: length }
}

fn digest(mut from: impl Read) -> (u64, String) {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        let length = from.read(&mut buffer).unwrap();
        if length == 0 {
            let hex = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            return (total, hex);
        }
        hash.update(&buffer[..length]);
        total += length as u64;
    }
}

#[test]
fn two_hundred_megabytes_go_both_ways_at_once() {
    const LENGTH: usize = 200_000_000;
    let server = Server::start();
    let mut ssh = server.ssh().arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let sent = std::thread::spawn(move || std::io::copy(&mut noise(LENGTH), &mut input).unwrap());
    let (length, received) = digest(ssh.stdout.take().unwrap());
    assert_eq!((length, sent.join().unwrap()), (LENGTH as u64, LENGTH as u64));
    assert_eq!(received, digest(noise(LENGTH)).1);
    assert!(wait(&mut ssh).success());
}

#[test]
fn a_program_that_does_not_read_does_not_stop_its_output() {
    let server = Server::start();
    // It reads its input only after we have read its output, and there is more input than any window.
    let line = "echo ready; sleep 0.5; head -c 20000000 /dev/zero; sha256sum";
    let mut ssh = server.ssh().arg(line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let sent = std::thread::spawn(move || std::io::copy(&mut noise(20_000_000), &mut input).unwrap());
    let mut output = ssh.stdout.take().unwrap();
    let mut block = vec![0; 20_000_006];
    output.read_exact(&mut block).unwrap();
    assert!(block.starts_with(b"ready\n\0"));
    let mut sum = String::new();
    output.read_to_string(&mut sum).unwrap();
    sent.join().unwrap();
    assert!(sum.starts_with(&digest(noise(20_000_000)).1), "{sum}");
    assert!(wait(&mut ssh).success());
}

#[test]
fn memory_is_bounded() {
    let server = Server::start();
    // Far more input than the queue may hold, for a program that reads nothing of it.
    let mut ssh = server.ssh().arg("exec sleep 1000").stdin(Stdio::piped()).spawn().unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    let count = taken.clone();
    let flood = std::thread::spawn(move || {
        let block = [1; 4096];
        // An end for the case that nothing holds it back.
        while count.load(Ordering::Relaxed) < 200_000_000 && input.write_all(&block).is_ok() {
            count.fetch_add(4096, Ordering::Relaxed);
        }
    });
    until("the window is not used up", || taken.load(Ordering::Relaxed) > u64::from(intake::WINDOW));
    let session = server.sessions()[0];
    // Time for a flood without a dam to rise: a second login with its own data comes and goes.
    assert_eq!(code(&server.exec("head -c 50000000 /dev/zero | wc -c")), Some(0));
    let peak = memory_peak(session);
    assert!(peak < 32 << 20, "{peak} bytes");
    assert!(taken.load(Ordering::Relaxed) < 32 << 20, "the client was not made to wait");
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    flood.join().unwrap();
    server.wait_for_no_session();
}

fn memory_peak(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// What is copied, in MiB. `LIFEBOAT_TRANSFER_MIB=1024` takes a minute or two.
fn mebibytes() -> usize {
    std::env::var("LIFEBOAT_TRANSFER_MIB").map_or(16, |text| text.parse().unwrap())
}

/// A copy of `from` to `to`, either of which may begin with [`REMOTE`].
type Copy<'a> = &'a dyn Fn(&str, &str) -> Command;

const REMOTE: &str = "root@127.0.0.1:";

#[test]
fn sftp_scp_and_rsync_copy_files_both_ways() {
    assert!(
        rescue_tools::sshd::login::sftp_server().is_some(),
        "there is no sftp-server: install the Debian package openssh-sftp-server"
    );
    let server = Server::start();
    let source = server.path("source");
    let length = mebibytes() << 20;
    std::io::copy(&mut noise(length), &mut std::fs::File::create(&source).unwrap()).unwrap();
    let wanted = digest(std::fs::File::open(&source).unwrap());
    let options = server.options();
    let scp = |kind: &'static str| {
        let options = options.clone();
        move |from: &str, to: &str| {
            let mut scp = Command::new("scp");
            scp.args(&options).args([kind, from, to]);
            scp
        }
    };
    let sftp = |from: &str, to: &str| {
        let line = match (from.strip_prefix(REMOTE), to.strip_prefix(REMOTE)) {
            (Some(from), _) => format!("get {from} {to}\n"),
            (_, to) => format!("put {from} {}\n", to.unwrap()),
        };
        std::fs::write(server.path("batch"), line).unwrap();
        let mut sftp = Command::new("sftp");
        sftp.args(&options).arg("-b").arg(server.path("batch")).arg("root@127.0.0.1");
        sftp
    };
    let rsync = |from: &str, to: &str| {
        let mut rsync = Command::new("rsync");
        rsync.args(["-W", "-e", &format!("ssh {}", options.join(" ")), from, to]);
        rsync
    };
    let copies: [(&str, Copy<'_>); 4] =
        [("scp", &scp("-s")), ("scp -O", &scp("-O")), ("sftp", &sftp), ("rsync", &rsync)];
    for (name, copy) in copies {
        let (there, back) = (server.path("there"), server.path("back"));
        for (from, to) in [
            (source.display().to_string(), format!("{REMOTE}{}", there.display())),
            (format!("{REMOTE}{}", there.display()), back.display().to_string()),
        ] {
            let copied = common::output_within(&mut copy(&from, &to), common::PATIENCE * 10);
            assert_eq!(code(&copied), Some(0), "{name}: {}", text(&copied.stderr));
        }
        for copied in [&there, &back] {
            assert_eq!(digest(std::fs::File::open(copied).unwrap()), wanted, "{name}");
            std::fs::remove_file(copied).unwrap();
        }
    }
    let refused = output(server.ssh().args(["-s", "netconf"]));
    assert_ne!(code(&refused), Some(0));
}

#[test]
fn every_cipher_that_is_offered_works() {
    let server = Server::start();
    for cipher in [
        "chacha20-poly1305@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-gcm@openssh.com",
        "aes256-ctr",
        "aes128-ctr",
    ] {
        let out = output(server.ssh().args(["-c", cipher, "seq 1 1000 | tail -1"]));
        assert_eq!(text(&out.stdout), "1000\n", "{cipher}: {}", text(&out.stderr));
    }
}
