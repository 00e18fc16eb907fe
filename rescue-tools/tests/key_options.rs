//! What stands before a key in `authorized_keys`, and what a certificate says: OpenSSH's client against `rescue sshd`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use common::{Server, code, free_address, make_key, output, text, until, wait};

/// Lets the server's key in with `options`.
fn set_options(server: &Server, options: &str) {
    let key = std::fs::read_to_string(server.path("id.pub")).unwrap();
    std::fs::write(server.path("authorized_keys"), format!("{options} {key}")).unwrap();
}

#[test]
fn a_command_runs_in_the_place_of_all() {
    let server = Server::start();
    set_options(&server, r#"command="echo \"asked: $SSH_ORIGINAL_COMMAND\"; exit 3""#);
    let out = server.exec("cat /etc/shadow; $(x)");
    assert_eq!((text(&out.stdout).as_str(), code(&out)), ("asked: cat /etc/shadow; $(x)\n", Some(3)));
    let shell = output(server.ssh().stdin(Stdio::null()));
    assert_eq!(text(&shell.stdout), "asked: \n");
    // sftp is a command as well.
    let sftp = output(server.ssh().args(["-s", "sftp"]).stdin(Stdio::null()));
    assert!(text(&sftp.stdout).contains("sftp-server"), "{}", text(&sftp.stdout));
    let terminal = output(server.ssh().args(["-tt", "id"]).stdin(Stdio::null()));
    assert_eq!(text(&terminal.stdout), "asked: id\r\n");
}

#[test]
fn from_lets_in_and_keeps_out() {
    let server = Server::start();
    for (from, enters) in [
        ("127.0.0.0/8", true),
        ("10.0.0.0/8,127.0.0.?", true),
        ("*,!127.0.0.1", false),
        ("10.0.0.0/8,::1", false),
    ] {
        set_options(&server, &format!("from=\"{from}\""));
        let out = server.exec("true");
        assert_eq!(code(&out), Some(if enters { 0 } else { 255 }), "{from}: {}", text(&out.stderr));
    }
    assert!(server.log().contains("with a from= that does not have 127.0.0.1"), "{}", server.log());
}

#[test]
fn terminals_are_refused_where_the_key_says_so() {
    let server = Server::start();
    for (options, has) in
        [("no-pty", false), ("restrict", false), ("restrict,pty", true), ("no-agent-forwarding", true)]
    {
        set_options(&server, options);
        let out = output(server.ssh().args(["-tt", "tty -s"]).stdin(Stdio::null()));
        assert_eq!(code(&out), Some(if has { 0 } else { 255 }), "{options}: {}", text(&out.stderr));
    }
}

/// Says `hello` to one who connects, and then back what it hears.
fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                stream.write_all(b"hello ").unwrap();
                let mut from = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut from, &mut stream);
            });
        }
    });
    port
}

/// `ssh -W`, with `bytes` to send.
fn through(server: &Server, to: &str, bytes: &'static [u8]) -> Output {
    let mut ssh = server.ssh();
    ssh.args(["-W", to]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ssh = ssh.spawn().unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let typing = std::thread::spawn(move || {
        let _ = input.write_all(bytes);
    });
    let output = ssh.wait_with_output().unwrap();
    typing.join().unwrap();
    output
}

#[test]
fn ports_are_forwarded_for_a_key_that_may() {
    let server = Server::start();
    let port = echo_server();
    let to = format!("127.0.0.1:{port}");
    // Off by default, and for all that say nothing of it.
    for options in
        ["no-user-rc", "restrict", "port-forwarding,restrict", "port-forwarding,permitopen=\"*:1\""]
    {
        set_options(&server, options);
        let refused = through(&server, &to, b"x");
        assert_eq!((code(&refused), text(&refused.stdout).as_str()), (Some(255), ""), "{options}");
    }
    assert_eq!(server.log().matches("its key does not permit it").count(), 4, "{}", server.log());
    for options in ["port-forwarding".to_string(), format!("restrict,port-forwarding,permitopen=\"{to}\"")] {
        set_options(&server, &options);
        assert_eq!(text(&through(&server, &to, b"and back").stdout), "hello and back");
    }
    set_options(&server, "port-forwarding");
    let local = format!("localhost:{port}");
    assert_eq!(text(&through(&server, &local, b"x").stdout), "hello x");
    assert_eq!(code(&through(&server, "host.example:80", b"")), Some(255));
    assert!(server.log().contains("names are not looked up"), "{}", server.log());
}

#[test]
fn many_forwardings_share_a_connection() {
    let server = Server::start();
    set_options(&server, "port-forwarding");
    let (port, ours) = (echo_server(), free_address());
    let (nobody, dead) = (free_address(), free_address());
    let mut ssh = server.ssh();
    ssh.args(["-N", "-L", &format!("{ours}:127.0.0.1:{port}"), "-L", &format!("{dead}:{nobody}")]);
    let mut ssh = ssh.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("no port is forwarded", || TcpStream::connect(ours).is_ok() && TcpStream::connect(dead).is_ok());
    // One after the other, more than channels may be open: those that came to nothing are forgotten.
    for _ in 0..40 {
        let mut stream = TcpStream::connect(dead).unwrap();
        let _ = stream.read(&mut [0; 1]);
    }
    for length in [1, 100_000, 3_000_000] {
        let mut stream = TcpStream::connect(ours).unwrap();
        let sent: Vec<u8> = (0..length).map(|index: u32| (index % 251) as u8).collect();
        let mut to = stream.try_clone().unwrap();
        let bytes = sent.clone();
        let sending = std::thread::spawn(move || {
            to.write_all(&bytes).unwrap();
            to.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        sending.join().unwrap();
        assert!(back.strip_prefix(b"hello ") == Some(&sent), "{length}: {} came back", back.len());
    }
    ssh.kill().unwrap();
    wait(&mut ssh);
    server.wait_for_no_session();
}

/// Signs the key `id` with the authority `ca` into `id-cert.pub`.
fn sign(server: &Server, words: &[&str]) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-s"]).arg(server.path("ca")).args(["-I", "someone"]).args(words);
    let signed = output(keygen.arg(server.path("id.pub")));
    assert_eq!(code(&signed), Some(0), "{}", text(&signed.stderr));
}

fn with_certificate(server: &Server, line: &str) -> Output {
    let certificate = format!("CertificateFile={}", server.path("id-cert.pub").display());
    output(server.ssh().args(["-o", &certificate, line]).stdin(Stdio::null()))
}

fn trust(server: &Server, options: &str) {
    let ca = std::fs::read_to_string(server.path("ca.pub")).unwrap();
    std::fs::write(server.path("authorized_keys"), format!("cert-authority{options} {ca}")).unwrap();
}

#[test]
fn certificates_of_a_known_authority_log_in() {
    let server = Server::start();
    for kind in ["ed25519", "ecdsa", "rsa -b 2048"] {
        let _ = std::fs::remove_file(server.path("ca"));
        make_key(&server.path("ca"), kind);
        trust(&server, "");
        sign(&server, &["-n", "root", "-z", "7"]);
        let out = with_certificate(&server, "echo in");
        assert_eq!(text(&out.stdout), "in\n", "{kind}: {}{}", text(&out.stderr), server.log());
    }
    assert!(
        server.log().contains("the certificate \"someone\", number 7, signed by SHA256:"),
        "{}",
        server.log()
    );
    // Neither the key alone nor the authority's own key does.
    std::fs::remove_file(server.path("id-cert.pub")).unwrap();
    assert_eq!(code(&server.exec("true")), Some(255));
    std::fs::copy(server.path("ca"), server.path("id")).unwrap();
    std::fs::copy(server.path("ca.pub"), server.path("id.pub")).unwrap();
    assert_eq!(code(&server.exec("true")), Some(255));
}

#[test]
fn other_certificates_do_not_log_in() {
    let server = Server::start();
    make_key(&server.path("ca"), "ed25519");
    trust(&server, "");
    for (words, says) in [
        (["-n", "pi"].as_slice(), "its principals"),
        (&[], "its principals"),
        (&["-n", "root", "-O", "source-address=10.0.0.0/8"], "source-address"),
        (&["-n", "root", "-O", "critical:own=1"], "critical option \"own\""),
        (&["-n", "root", "-O", "verify-required"], "verify-required"),
    ] {
        sign(&server, words);
        assert_eq!(code(&with_certificate(&server, "true")), Some(255), "{words:?}");
        assert!(server.log().contains(says), "{words:?}: {}", server.log());
    }
    sign(&server, &["-n", "root", "-V", "20200101:20200201"]);
    assert_eq!(code(&with_certificate(&server, "true")), Some(255), "expired");
    assert!(server.log().contains("refused a certificate: Certificate is expired"), "{}", server.log());
    make_key(&server.path("other"), "ed25519");
    std::fs::copy(server.path("other"), server.path("ca")).unwrap();
    std::fs::copy(server.path("other.pub"), server.path("ca.pub")).unwrap();
    sign(&server, &["-n", "root"]);
    assert_eq!(code(&with_certificate(&server, "true")), Some(255), "another authority");
    assert!(server.log().contains("its authority is not in the file"), "{}", server.log());
}

#[test]
fn a_certificate_limits_and_so_does_its_authoritys_line() {
    let server = Server::start();
    make_key(&server.path("ca"), "ed25519");
    trust(&server, ",principals=\"ops,root-of-all\"");
    sign(
        &server,
        &["-n", "ops", "-O", "force-command=echo $SSH_ORIGINAL_COMMAND", "-O", "source-address=127.0.0.0/8"],
    );
    assert_eq!(text(&with_certificate(&server, "forced").stdout), "forced\n");
    sign(&server, &["-n", "root"]);
    assert_eq!(code(&with_certificate(&server, "true")), Some(255), "not one of the line's principals");

    let terminal = |options: &str, words: &[&str]| {
        trust(&server, options);
        sign(&server, &[["-n", "root"].as_slice(), words].concat());
        let certificate = format!("CertificateFile={}", server.path("id-cert.pub").display());
        let mut ssh = server.ssh();
        code(&output(ssh.args(["-o", &certificate, "-tt", "tty -s"]).stdin(Stdio::null())))
    };
    assert_eq!(terminal("", &[]), Some(0));
    assert_eq!(terminal("", &["-O", "no-pty"]), Some(255));
    assert_eq!(terminal(",restrict", &[]), Some(255));
    trust(&server, ",command=\"echo ours\"");
    sign(&server, &["-n", "root"]);
    assert_eq!(text(&with_certificate(&server, "x").stdout), "ours\n");
    sign(&server, &["-n", "root", "-O", "force-command=echo theirs"]);
    assert_eq!(code(&with_certificate(&server, "x")), Some(255));
}
