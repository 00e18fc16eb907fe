//! Clients that are not OpenSSH's, and what ssh-audit says of us.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::process::{Command, Stdio};

use common::{Server, code, make_key, output, text};

const KEYS: [&str; 3] = ["ed25519", "ecdsa -b 256", "rsa -b 2048"];

/// Makes the key that may log in.
fn replace_key(server: &Server, kind: &str) {
    let _ = std::fs::remove_file(server.path("id"));
    make_key(&server.path("id"), kind);
    std::fs::copy(server.path("id.pub"), server.path("authorized_keys")).unwrap();
}

#[test]
fn dropbears_client_logs_in() {
    let server = Server::start();
    for kind in KEYS {
        replace_key(&server, kind);
        let converted = output(
            Command::new("dropbearconvert")
                .args(["openssh", "dropbear"])
                .args([server.path("id"), server.path("dropbear")]),
        );
        assert_eq!(code(&converted), Some(0), "{kind}: {}", text(&converted.stderr));
        let mut dbclient = Command::new("dbclient");
        dbclient.arg("-i").arg(server.path("dropbear")).args(["-p", &server.address.port().to_string()]);
        // -y once: takes a host key that it does not know, in a home of its own.
        dbclient.args(["-y", "-T", "root@127.0.0.1", "cat; exit 4"]).env("HOME", server.folder.path());
        let out = output(dbclient.stdin(Stdio::null()));
        assert_eq!(code(&out), Some(4), "{kind}: {}{}", text(&out.stderr), server.log());
    }
}

#[test]
fn putty_logs_in() {
    let server = Server::start();
    for kind in KEYS {
        replace_key(&server, kind);
        let converted = output(
            Command::new("puttygen")
                .arg(server.path("id"))
                .args(["-O", "private", "-o"])
                .arg(server.path("ppk")),
        );
        assert_eq!(code(&converted), Some(0), "{kind}: {}", text(&converted.stderr));
        let mut plink = Command::new("plink");
        plink.args(["-batch", "-ssh", "-noagent", "-P", &server.address.port().to_string()]);
        plink.args(["-hostkey", &server.fingerprint, "-i"]).arg(server.path("ppk"));
        plink.args(["root@127.0.0.1", "cat; exit 4"]).env("HOME", server.folder.path());
        let out = output(plink.stdin(Stdio::null()));
        assert_eq!(code(&out), Some(4), "{kind}: {}{}", text(&out.stderr), server.log());
    }
}

#[test]
fn psftp_copies_a_file() {
    let server = Server::start();
    let converted = output(
        Command::new("puttygen").arg(server.path("id")).args(["-O", "private", "-o"]).arg(server.path("ppk")),
    );
    assert_eq!(code(&converted), Some(0), "{}", text(&converted.stderr));
    let batch = server.path("batch");
    std::fs::write(
        &batch,
        format!("get {} {}\n", server.path("id.pub").display(), server.path("copy").display()),
    )
    .unwrap();
    let mut psftp = Command::new("psftp");
    psftp.args(["-batch", "-noagent", "-P", &server.address.port().to_string()]);
    psftp.args(["-hostkey", &server.fingerprint, "-i"]).arg(server.path("ppk")).arg("-b").arg(&batch);
    let out = output(psftp.arg("root@127.0.0.1").env("HOME", server.folder.path()).stdin(Stdio::null()));
    assert_eq!(code(&out), Some(0), "{}", text(&out.stderr));
    assert_eq!(std::fs::read(server.path("copy")).unwrap(), std::fs::read(server.path("id.pub")).unwrap());
}

#[test]
fn ssh_audit_finds_no_failure() {
    let server = Server::start();
    let audit = |words: &[&str]| output(Command::new("ssh-audit").args(words).stdin(Stdio::null()));
    let port = server.address.port().to_string();
    let mut words = vec!["--no-colors", "-p", &port];
    // Newer ones flood the server to see how fast it is, which is another test's business.
    if text(&audit(&["--help"]).stdout).contains("--skip-rate-test") {
        words.push("--skip-rate-test");
    }
    let out = audit(&[words.as_slice(), &["127.0.0.1"]].concat());
    let said = text(&out.stdout);
    // 0: nothing to say, 2: warnings, 3: failures; 1: no connection.
    assert!(matches!(code(&out), Some(0 | 2)) && !said.contains("[fail]"), "{:?}: {said}", out.status);
    assert!(said.contains("ssh-ed25519") && said.contains("chacha20-poly1305"), "{said}");
}
