//! `keygen`, `sign` and `verify` against the programs whose formats they share: openssl and minisign.

// A panic is how a test fails; clippy knows that of test functions, and not of what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Output};

/// Runs a peer in `folder` and gives its output; names the Debian package of one that is missing.
fn peer(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; it is in Debian's package {program}"))
}

fn peer_ok(folder: &Path, program: &str, arguments: &[&str]) {
    let output = peer(folder, program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `boot-files`; the text is its standard output, or its standard error where it failed.
fn boot_files(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_boot-files"))
        .args(arguments)
        .current_dir(folder)
        .env("SOURCE_DATE_EPOCH", "1790000000")
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// The one line that a refusal consists of.
fn refused(folder: &Path, arguments: &[&str]) -> String {
    let line = boot_files(folder, arguments).expect_err("this has to be refused");
    assert_eq!(line.trim_end().lines().count(), 1, "a refusal is one line: {line}");
    line
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("boot.img"), vec![0x5a; 300_000]).unwrap();
    folder
}

fn flip_a_bit(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// The bare signature in a boot.sig, as openssl wants it.
fn bare_signature(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path).unwrap();
    let hex = text.lines().find_map(|line| line.strip_prefix("rsa2048: ")).unwrap();
    (0..512).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn the_bytes_are_those_of_rpi_eeprom_digest() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/boot-sig");
    let folder = folder();
    let output = folder.path().join("out.sig");
    boot_files(&data, &["sign", "http.conf", "--key", "private.pem", "-o", output.to_str().unwrap()])
        .unwrap();
    assert_eq!(std::fs::read(&output).unwrap(), std::fs::read(data.join("http.conf.sig")).unwrap());
    for key in ["public.pem", "private.pem"] {
        boot_files(&data, &["verify", "http.conf", "--key", key, "--signature", "http.conf.sig"]).unwrap();
    }
}

#[test]
fn openssl_accepts_what_we_sign_with_our_own_key() {
    let folder = folder();
    let path = folder.path();
    boot_files(path, &["keygen", "--kind", "boot", "boot"]).unwrap();
    peer_ok(path, "openssl", &["pkey", "-in", "boot.pem", "-check", "-noout"]);
    boot_files(path, &["sign", "boot.img", "--key", "boot.pem"]).unwrap();
    std::fs::write(path.join("bare"), bare_signature(&path.join("boot.sig"))).unwrap();
    let check = ["dgst", "-sha256", "-verify", "boot.pub.pem", "-signature", "bare", "boot.img"];
    peer_ok(path, "openssl", &check);
    boot_files(path, &["verify", "boot.img", "--key", "boot.pub.pem"]).unwrap();
    flip_a_bit(&path.join("boot.img"), 299_999);
    assert!(!peer(path, "openssl", &check).status.success());
    assert!(refused(path, &["verify", "boot.img", "--key", "boot.pub.pem"]).contains("SHA-256"));
}

#[test]
fn we_accept_what_openssl_signs_with_its_own_keys_and_refuse_a_flipped_bit() {
    let folder = folder();
    let path = folder.path();
    peer_ok(path, "openssl", &["genrsa", "-out", "pkcs8.pem", "2048"]);
    peer_ok(path, "openssl", &["rsa", "-traditional", "-in", "pkcs8.pem", "-out", "pkcs1.pem"]);
    peer_ok(path, "openssl", &["rsa", "-in", "pkcs8.pem", "-pubout", "-out", "spki.pem"]);
    peer_ok(path, "openssl", &["rsa", "-in", "pkcs8.pem", "-RSAPublicKey_out", "-out", "pkcs1.pub.pem"]);
    assert!(
        std::fs::read_to_string(path.join("pkcs1.pem")).unwrap().starts_with("-----BEGIN RSA PRIVATE KEY")
    );
    assert!(std::fs::read_to_string(path.join("pkcs8.pem")).unwrap().starts_with("-----BEGIN PRIVATE KEY"));

    peer_ok(path, "openssl", &["dgst", "-sha256", "-sign", "pkcs8.pem", "-out", "bare", "boot.img"]);
    for key in ["spki.pem", "pkcs1.pub.pem"] {
        boot_files(path, &["verify", "boot.img", "--key", key, "--signature", "bare"]).unwrap();
    }
    for key in ["pkcs1.pem", "pkcs8.pem"] {
        boot_files(path, &["sign", "boot.img", "--key", key]).unwrap();
        assert_eq!(bare_signature(&path.join("boot.sig")), std::fs::read(path.join("bare")).unwrap());
    }
    flip_a_bit(&path.join("bare"), 100);
    let line = refused(path, &["verify", "boot.img", "--key", "spki.pem", "--signature", "bare"]);
    assert!(line.contains("not made by this key"), "{line}");
    // One hexadecimal digit of the boot.sig's signature, then of its hash.
    // (Of some digits, none is left.)
    for (at, said) in [(200, ["not made by this key", "is not 512 hexadecimal digits"]), (3, ["SHA-256"; 2])]
    {
        boot_files(path, &["sign", "boot.img", "--key", "pkcs8.pem"]).unwrap();
        flip_a_bit(&path.join("boot.sig"), at);
        let line = refused(path, &["verify", "boot.img", "--key", "spki.pem"]);
        assert!(said.iter().any(|said| line.contains(said)), "{line}");
    }
}

#[test]
fn minisign_accepts_ours_and_we_accept_its() {
    let folder = folder();
    let path = folder.path();
    boot_files(path, &["keygen", "--kind", "image", "ours"]).unwrap();
    boot_files(path, &["sign", "boot.img", "--key", "ours.key"]).unwrap();
    peer_ok(path, "minisign", &["-V", "-p", "ours.pub", "-m", "boot.img"]);
    // minisign can use our private key, and we its.
    peer_ok(path, "minisign", &["-S", "-s", "ours.key", "-m", "boot.img"]);
    boot_files(path, &["verify", "boot.img", "--key", "ours.pub"]).unwrap();
    peer_ok(path, "minisign", &["-G", "-W", "-p", "its.pub", "-s", "its.key"]);
    boot_files(path, &["sign", "boot.img", "--key", "its.key"]).unwrap();
    peer_ok(path, "minisign", &["-V", "-p", "its.pub", "-m", "boot.img"]);
    peer_ok(path, "minisign", &["-S", "-s", "its.key", "-m", "boot.img"]);
    boot_files(path, &["verify", "boot.img", "--key", "its.pub"]).unwrap();
    assert!(refused(path, &["verify", "boot.img", "--key", "ours.pub"]).contains("another key"));

    flip_a_bit(&path.join("boot.img"), 0);
    assert!(!peer(path, "minisign", &["-V", "-p", "its.pub", "-m", "boot.img"]).status.success());
    assert!(refused(path, &["verify", "boot.img", "--key", "its.pub"]).contains("changed"));
}

#[test]
fn a_passphrase_protects_an_image_key() {
    let folder = folder();
    let path = folder.path();
    std::fs::write(path.join("pass"), "correct horse\n").unwrap();
    std::fs::write(path.join("wrong"), "battery staple\n").unwrap();
    boot_files(path, &["keygen", "--kind", "image", "safe", "--password-file", "pass"]).unwrap();
    boot_files(path, &["sign", "boot.img", "--key", "safe.key", "--password-file", "pass"]).unwrap();
    peer_ok(path, "minisign", &["-V", "-p", "safe.pub", "-m", "boot.img"]);
    let sign = ["sign", "boot.img", "--key", "safe.key"];
    assert!(refused(path, &sign).contains("--password-file"));
    let wrong = refused(path, &[&sign[..], &["--password-file", "wrong"]].concat());
    assert!(wrong.contains("Wrong password"), "{wrong}");
}

#[test]
fn private_keys_are_private_and_stay() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path();
    for (kind, private, public) in [("boot", "k.pem", "k.pub.pem"), ("image", "k.key", "k.pub")] {
        boot_files(path, &["keygen", "--kind", kind, "k"]).unwrap();
        let mode = |name: &str| path.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(private), mode(public)), (0o600, 0o644));
        let before = std::fs::read(path.join(private)).unwrap();
        assert!(refused(path, &["keygen", "--kind", kind, "k"]).contains("--force"));
        // Half of a pair is reason enough.
        std::fs::remove_file(path.join(public)).unwrap();
        assert!(refused(path, &["keygen", "--kind", kind, "k"]).contains("--force"));
        assert_eq!(std::fs::read(path.join(private)).unwrap(), before);
        boot_files(path, &["keygen", "--kind", kind, "k", "--force"]).unwrap();
        assert_ne!(std::fs::read(path.join(private)).unwrap(), before);
        assert_eq!(mode(private), 0o600);
    }
}

#[test]
fn without_a_key_there_is_hash_and_time_and_that_is_said() {
    let folder = folder();
    let path = folder.path();
    let said = boot_files(path, &["sign", "boot.img", "--timestamp", "5"]).unwrap();
    assert!(said.contains("no signature"), "{said}");
    let text = std::fs::read_to_string(path.join("boot.sig")).unwrap();
    let sum = String::from_utf8(peer(path, "sha256sum", &["boot.img"]).stdout).unwrap();
    assert_eq!(text, format!("{}\nts: 5\n", &sum[..64]));
    boot_files(path, &["keygen", "--kind", "boot", "boot"]).unwrap();
    assert!(refused(path, &["verify", "boot.img", "--key", "boot.pub.pem"]).contains("proves nothing"));
}

#[test]
fn what_cannot_be_a_key_is_refused_with_a_reason() {
    let folder = folder();
    let path = folder.path();
    peer_ok(path, "openssl", &["genrsa", "-out", "long.pem", "3072"]);
    peer_ok(path, "openssl", &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ec.pem"]);
    peer_ok(path, "openssl", &["genrsa", "-aes256", "-passout", "pass:x", "-out", "locked.pem", "2048"]);
    boot_files(path, &["keygen", "--kind", "image", "image"]).unwrap();
    std::fs::write(path.join("noise"), [0xff; 100]).unwrap();
    for (key, said) in [
        ("long.pem", "3072 bits"),
        ("ec.pem", "EC PRIVATE KEY"),
        ("locked.pem", "passphrase"),
        ("missing.pem", "missing.pem"),
        ("image.pub", "public key"),
        ("boot.img", "larger than"),
        ("noise", "noise"),
    ] {
        let line = refused(path, &["sign", "boot.img", "--key", key]);
        assert!(line.contains(said), "{key}: {line}");
    }
    let line = refused(path, &["sign", "boot.img", "--key", "image.key", "--kind", "boot"]);
    assert!(line.contains("not a boot key"), "{line}");
    assert!(refused(path, &["sign", "boot.img", "--kind", "image"]).contains("needs --key"));
    assert!(!path.join("boot.sig").exists() && !path.join("boot.img.minisig").exists());
}
