//! Byte for byte what `rpi-eeprom-config` and `rpi-eeprom-digest` make.

use crate::{IMAGE, data, run, said};
use std::fs;
use std::process::Command;

/// The hash of an output of the reference.
fn expected(name: &str) -> String {
    let sums = fs::read_to_string(data("expected.sha256")).unwrap();
    let line = sums.lines().find(|line| line.split_whitespace().nth(1) == Some(name)).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

fn edited_like(name: &str, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join(name);
    let before = fs::read(data(IMAGE)).unwrap();
    said(&[&["edit"], arguments, &["-o", out.to_str().unwrap(), IMAGE]].concat());
    let sum = Command::new("sha256sum").arg(&out).output().unwrap();
    assert_eq!(String::from_utf8(sum.stdout).unwrap()[..64], expected(name), "{name}");
    assert_eq!(fs::read(data(IMAGE)).unwrap(), before, "the image itself stays");
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "no temporary file stays behind");
}

#[test]
fn settings() {
    edited_like("http.bin", &["-c", "http.conf"]);
}

#[test]
fn settings_and_key() {
    edited_like("http-pubkey.bin", &["-c", "http.conf", "-p", "public.pem"]);
}

#[test]
fn settings_key_certificate_and_time() {
    let arguments = ["-c", "http.conf", "-p", "public.pem", "--cacertder", "cacert.der", "-t", "1790000000"];
    edited_like("http-pubkey-ca-ts.bin", &arguments);
}

#[test]
fn signed_settings_and_key() {
    edited_like("http-signed-pubkey.bin", &["-c", "http.conf", "-d", "http.conf.sig", "-p", "public.pem"]);
    let long = ["--config", "http.conf", "--digest", "http.conf.sig", "--pubkey", "public.pem"];
    edited_like("http-signed-pubkey.bin", &long);
}

#[test]
fn settings_and_time() {
    edited_like("tftp-ts.bin", &["-c", "tftp.conf", "-t", "1790000000"]);
}

#[test]
fn digests() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments) in [
        ("http.conf.sig", &["-k", "private.pem", "-i", "http.conf"][..]),
        ("pieeprom.sig", &["-i", IMAGE]),
        ("pieeprom-as-boot-img.sig", &["-k", "private.pem", "-i", IMAGE]),
    ] {
        let out = folder.path().join(name);
        said(&[&["digest"], arguments, &["-o", out.to_str().unwrap()]].concat());
        assert_eq!(fs::read(&out).unwrap(), fs::read(data(name)).unwrap(), "{name}");
    }
    said(&["digest", "-k", "public.pem", "-i", "http.conf", "-v", "http.conf.sig"]);
    assert!(!run(&["digest", "-k", "public.pem", "-i", "tftp.conf", "-v", "http.conf.sig"]).status.success());
    assert!(!run(&["digest", "-k", "public.pem", "-i", IMAGE, "-v", "pieeprom.sig"]).status.success());
}
