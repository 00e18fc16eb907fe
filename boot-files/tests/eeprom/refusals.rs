//! What `boot-files eeprom` does not do, and the one line that says why.

use crate::{IMAGE, data, refused, refused_in_a_line};
use std::fs;
use std::path::Path;
use std::process::Command;

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}; it is in Debian's package openssl"));
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn images_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let name = path.to_str().unwrap();
    let real = fs::read(data(IMAGE)).unwrap();
    let mut broken = real.clone();
    broken[0x72e00] = 0;
    let mut without_settings = real.clone();
    without_settings[0x72e00..0x72e04].fill(0xff);
    for (bytes, part) in [
        (&real[..real.len() - 1], "524287 bytes"),
        (&[&real[..], b"x"].concat(), "524289 bytes"),
        (&[&real[..], &[0xff; 3 << 20]].concat(), "more than 2097152 bytes"),
        (&b""[..], "0 bytes"),
        (&broken, "damaged at byte 0x72e00"),
        (&vec![0xff; 512 << 10], "no sections"),
    ] {
        fs::write(&path, bytes).unwrap();
        for arguments in [&["show", name][..], &["edit", "-c", "http.conf", "-o", "/nonexistent/out", name]] {
            let line = refused_in_a_line(arguments);
            assert!(line.contains(part) && line.contains(name), "{line}");
        }
    }
    fs::write(&path, &without_settings).unwrap();
    let line = refused_in_a_line(&["edit", "-c", "http.conf", "-o", "/nonexistent/out", name]);
    assert!(line.contains("no bootconf.txt"), "{line}");
    assert!(refused_in_a_line(&["show", "/nonexistent"]).contains("/nonexistent"));
}

#[test]
fn settings_keys_and_certificates_that_cannot_work() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("long.conf"), vec![b'#'; 4077]).unwrap();
    fs::write(at("umlaut.conf"), "BOOT_UART=1\n# f\u{fc}r\n").unwrap();
    fs::write(at("long.der"), [&fs::read(data("cacert.der")).unwrap()[..], &[0; 3000]].concat()).unwrap();
    openssl(folder.path(), &["genrsa", "-out", "3072.pem", "3072"]);
    openssl(folder.path(), &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ec.pem"]);
    openssl(
        folder.path(),
        &["x509", "-inform", "DER", "-in", data("cacert.der").to_str().unwrap(), "-out", "ca.pem"],
    );
    // A certificate that is one, and has no room: 2280 bytes are there.
    let names: Vec<_> =
        (0..60).map(|number| format!("DNS:a-rather-long-name-{number}.example.net")).collect();
    let names = format!("subjectAltName={}", names.join(","));
    let arguments = [
        "req",
        "-x509",
        "-key",
        "ec.pem",
        "-subj",
        "/CN=x",
        "-addext",
        &names,
        "-outform",
        "DER",
        "-out",
        "large.der",
    ];
    openssl(folder.path(), &arguments);
    assert!((2281..4076).contains(&fs::metadata(at("large.der")).unwrap().len()));
    let out = at("out.bin");
    for (option, file, part) in [
        ("-c", at("long.conf"), "more than 4076 bytes"),
        ("-c", at("umlaut.conf"), "line 2 has the byte 0xc3"),
        ("-c", at("none.conf"), "none.conf"),
        ("-p", at("3072.pem"), "3072 bits"),
        ("-p", at("ec.pem"), "EC PRIVATE KEY"),
        ("-p", at("long.conf"), "neither a PEM"),
        ("--cacertder", at("ca.pem"), "openssl x509"),
        ("--cacertder", at("long.der"), "no certificate in DER"),
        ("--cacertder", at("large.der"), "room for 2280"),
        ("-d", at("umlaut.conf"), "not 64 hexadecimal digits"),
        ("-d", data("http.conf.sig").to_str().unwrap().to_owned(), "not over the settings"),
        ("-d", data("pieeprom.sig").to_str().unwrap().to_owned(), "no signature"),
    ] {
        let line = refused_in_a_line(&["edit", option, &file, "-o", &out, IMAGE]);
        assert!(line.contains(part), "{option} {file}: {line}");
        assert!(!Path::new(&out).exists(), "nothing is written");
    }
    assert!(refused_in_a_line(&["edit", "-o", &out, IMAGE]).contains("nothing to change"));
}

#[test]
fn a_signature_by_another_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    openssl(folder.path(), &["genrsa", "-out", "other.pem", "2048"]);
    let other = folder.path().join("other.pem");
    let out = folder.path().join("out.bin");
    let arguments = [
        "edit",
        "-c",
        "http.conf",
        "-d",
        "http.conf.sig",
        "-p",
        other.to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
        IMAGE,
    ];
    assert!(refused_in_a_line(&arguments).contains("not made by this key"));
    assert!(!out.exists());
}

#[test]
fn digest_wants_what_the_reference_wants() {
    assert!(refused(&["digest", "-i", "http.conf"]).contains("-o"));
    assert!(refused(&["digest", "-i", "http.conf", "-v", "http.conf.sig"]).contains("-k"));
    assert!(
        refused_in_a_line(&["digest", "-i", "/nonexistent", "-o", "/nonexistent/x"]).contains("/nonexistent")
    );
    let line = refused_in_a_line(&["digest", "-k", "public.pem", "-i", "http.conf", "-o", "/nonexistent/x"]);
    assert!(line.contains("public key"), "{line}");
}
