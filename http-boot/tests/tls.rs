//! TLS as bootloaders, `init` and people speak it: real `openssl`, `curl` and `wget` against the server.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

struct Server {
    folder: TempDir,
    port: u16,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn http_boot(words: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_http-boot")).args(words).current_dir(folder).output().unwrap()
}

fn make_authority(folder: &Path) -> String {
    let output = http_boot(&["ca", "tls", "--name", "127.0.0.1", "--name", "boot.example"], folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_authority(folder.path());
        std::fs::create_dir(folder.path().join("root")).unwrap();
        std::fs::write(folder.path().join("root/boot.sig"), "signature\n").unwrap();
        for ending in ["squashfs", "json", "json.minisig"] {
            std::fs::write(folder.path().join(format!("root/debian.{ending}")), "").unwrap();
        }
        std::fs::write(folder.path().join("fleet.toml"), FLEET).unwrap();
        let words = "serve --root root --listen 127.0.0.1:0 --listen-tls 127.0.0.1:0 --tls-certificate tls/server.pem \
            --tls-key tls/server.key --fleet fleet.toml";
        let mut process = Command::new(env!("CARGO_BIN_EXE_http-boot"))
            .args(words.split_whitespace())
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, port) = line.split_once("https://127.0.0.1:")?;
            port.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        std::thread::spawn(move || lines.for_each(drop));
        Self { folder, port: port.expect("it says where it listens"), process }
    }

    fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}", self.port)
    }

    fn curl(&self, words: &[&str], path: &str) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "20"])
            .args(words)
            .arg(self.url(path))
            .current_dir(self.folder.path());
        curl.output().expect("curl (Debian package: curl)")
    }
}

const FLEET: &str = r#"
format = 1
images.debian.path = "debian.squashfs"
defaults = { boot = "ram", image = "debian" }
"#;

/// The one combination that a Pi 4's bootloader has.
#[test]
fn a_bootloaders_suites_are_there() {
    let server = Server::start();
    for suite in ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"] {
        let words = [
            "--cacert",
            "tls/ca.pem",
            "--tls-max",
            "1.2",
            "--ciphers",
            suite,
            "--curves",
            "P-256",
            "--http1.0",
        ];
        let output = server.curl(&words, "boot.sig");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "signature\n", "{suite}: {output:?}");
    }
    let output = server.curl(&["--cacert", "tls/ca.pem", "--tlsv1.3"], "boot.sig");
    assert_eq!(output.stdout, b"signature\n", "{output:?}");
    // What is asked for over TLS names its files there, too.
    let plan = server.curl(&["--cacert", "tls/ca.pem"], "v1/boot/10000000abcdef01").stdout;
    let plan = String::from_utf8(plan).unwrap();
    assert!(plan.contains(&format!("root=live:{}\"", server.url("debian.squashfs"))), "{plan}");
}

#[test]
fn who_does_not_know_the_authority_gets_nothing() {
    let server = Server::start();
    let output = server.curl(&[], "boot.sig");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    // Nor does a failed handshake, or one that never comes to its end, hold up others.
    let _idle = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    assert!(server.curl(&["--cacert", "tls/ca.pem"], "boot.sig").status.success());
}

#[test]
fn an_authority_is_kept_and_its_hash_is_the_eeproms() {
    let folder = tempfile::tempdir().unwrap();
    let first = make_authority(folder.path());
    let der = std::fs::read(folder.path().join("tls/ca.der")).unwrap();
    let second = make_authority(folder.path());
    assert_eq!(std::fs::read(folder.path().join("tls/ca.der")).unwrap(), der);
    assert!(first.contains("is new") && second.contains("was there already"), "{first}{second}");
    let openssl = |words: &str| {
        let output =
            Command::new("openssl").args(words.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let hash = openssl("dgst -sha256 -r tls/ca.der");
    let hash = hash.split(' ').next().unwrap();
    assert!(second.contains(&format!("HTTP_CACERT_HASH={hash}\n")), "{second}");
    assert!(der.len() < 2048, "the stock EEPROM's slot has 2048 bytes");
    openssl("verify -x509_strict -CAfile tls/ca.pem -purpose sslserver -verify_ip 127.0.0.1 tls/server.pem");
    openssl("verify -x509_strict -CAfile tls/ca.pem -verify_hostname boot.example tls/server.pem");
    let text = openssl("x509 -in tls/server.pem -noout -text");
    assert!(text.contains("ASN1 OID: prime256v1") && text.contains("ecdsa-with-SHA256"), "{text}");
    use std::os::unix::fs::PermissionsExt;
    for key in ["tls/ca.key", "tls/server.key"] {
        assert_eq!(
            std::fs::metadata(folder.path().join(key)).unwrap().permissions().mode() & 0o777,
            0o600,
            "{key}"
        );
    }
}

#[test]
fn a_key_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    make_authority(folder.path());
    let serve = |certificate: &str, key: &str| {
        let words = [
            "serve",
            "--root",
            ".",
            "--listen-tls",
            "127.0.0.1:0",
            "--tls-certificate",
            certificate,
            "--tls-key",
            key,
        ];
        let output = http_boot(&[&words[..], &["--listen", "127.0.0.1:0"]].concat(), folder.path());
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(serve("tls/server.pem", "tls/ca.key").contains("using tls/server.pem with tls/ca.key"));
    assert!(serve("tls/none.pem", "tls/server.key").contains("reading the certificate tls/none.pem"));
    assert!(serve("tls/server.pem", "tls/ca.pem").contains("reading the private key tls/ca.pem"));
    assert!(serve("tls/server.key", "tls/server.key").contains("has no certificate in it"));
}

/// GNU's wget has another TLS library (GnuTLS) than curl.
#[test]
fn wget_fetches_by_our_authority_alone() {
    let server = Server::start();
    let wget = |words: &[&str]| {
        let mut wget = Command::new("wget");
        wget.args(["--quiet", "--tries=1", "--timeout=20", "--output-document=-"]).args(words);
        wget.arg(server.url("boot.sig")).current_dir(server.folder.path());
        wget.output().expect("wget (Debian package: wget)")
    };
    assert_eq!(wget(&["--ca-certificate=tls/ca.pem"]).stdout, b"signature\n");
    let stranger = wget(&[]);
    assert!(stranger.status.code() == Some(5) && stranger.stdout.is_empty(), "{stranger:?}");
}
