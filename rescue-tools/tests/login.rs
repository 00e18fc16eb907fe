//! Who gets in, and who does not: OpenSSH's client against `rescue sshd`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use common::{Server, code, half_open, make_key, output, text, type_line, until, wait};

#[test]
fn keys_that_are_in_the_file_log_in() {
    let server = Server::start();
    assert_eq!(code(&server.exec("true")), Some(0));
    for kind in ["ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "rsa -b 2048", "rsa -b 4096"] {
        make_key(&server.path("key"), kind);
        let public = std::fs::read_to_string(server.path("key.pub")).unwrap();
        std::fs::write(server.path("authorized_keys"), format!("# {kind}\n\n{public}")).unwrap();
        std::fs::rename(server.path("key"), server.path("id")).unwrap();
        std::fs::rename(server.path("key.pub"), server.path("id.pub")).unwrap();
        let out = server.exec("echo in");
        assert_eq!(
            (text(&out.stdout).as_str(), code(&out)),
            ("in\n", Some(0)),
            "{kind}: {}",
            text(&out.stderr)
        );
    }
    assert!(server.log().contains("root logged in from 127.0.0.1 with SHA256:"), "{}", server.log());
}

#[test]
fn other_keys_passwords_and_users_are_refused() {
    let server = Server::start();
    make_key(&server.path("other"), "ed25519");
    let other = format!("IdentityFile={}", server.path("other").display());
    let mut options = server.options();
    options.retain(|option| !option.starts_with("IdentityFile="));
    options.retain(|option| option != "-o");
    let ssh = |more: &[&str], user: &str| {
        let mut command = Command::new("ssh");
        let mut words = options.iter();
        command.args(words.by_ref().take(2));
        words.for_each(|option| {
            command.args(["-o", option]);
        });
        output(command.args(more).arg(format!("{user}@127.0.0.1")).arg("true"))
    };
    let refused = ssh(&["-o", &other], "root");
    assert_eq!(code(&refused), Some(255));
    assert!(text(&refused.stderr).contains("Permission denied (publickey)"), "{}", text(&refused.stderr));
    assert!(server.log().contains("it is not in the file"), "{}", server.log());

    // The list in the refusal has no other method, so that no client asks for a password.
    let refused = ssh(&["-o", "PubkeyAuthentication=no"], "root");
    assert_eq!(code(&refused), Some(255));
    assert!(text(&refused.stderr).contains("Permission denied (publickey)"), "{}", text(&refused.stderr));

    let good = format!("IdentityFile={}", server.path("id").display());
    let refused = ssh(&["-o", &good], "pi");
    assert_eq!(code(&refused), Some(255));
    assert!(
        server.log().contains("refused \"pi\" from 127.0.0.1: only root logs in here"),
        "{}",
        server.log()
    );
    server.wait_for_no_session();
}

#[test]
fn a_key_with_limits_that_we_cannot_hold_is_refused() {
    let mut server = Server::start();
    let key = std::fs::read_to_string(server.path("id.pub")).unwrap();
    std::fs::write(server.path("authorized_keys"), format!("verify-required {key}")).unwrap();
    assert_eq!(code(&server.exec("true")), Some(255));
    server.restart();
    assert!(
        server.log().contains("authorized_keys, line 1: the option \"verify-required\""),
        "{}",
        server.log()
    );
    // A change of the file needs no restart.
    std::fs::write(server.path("authorized_keys"), format!("no-agent-forwarding {key}")).unwrap();
    assert_eq!(code(&server.exec("true")), Some(0));
    std::fs::remove_file(server.path("authorized_keys")).unwrap();
    assert_eq!(code(&server.exec("true")), Some(255));
    assert!(server.log().contains("No such file"), "{}", server.log());
}

#[test]
fn rsa_keys_that_are_short_or_sign_with_sha1_are_refused() {
    let server = Server::start();
    let replace_key = |kind: &str| {
        let _ = std::fs::remove_file(server.path("id"));
        make_key(&server.path("id"), kind);
        std::fs::copy(server.path("id.pub"), server.path("authorized_keys")).unwrap();
    };
    replace_key("rsa -b 2048");
    let out = output(server.ssh().args(["-o", "PubkeyAcceptedAlgorithms=ssh-rsa", "true"]));
    assert_eq!(code(&out), Some(255));
    assert_eq!(code(&server.exec("true")), Some(0));
    replace_key("rsa -b 1024");
    assert_eq!(code(&server.exec("true")), Some(255));
    assert!(server.log().contains("it is not in the file"), "{}", server.log());
}

#[test]
fn the_host_key_is_made_once_and_is_the_owners() {
    let mut server = Server::start();
    let path = server.run("ssh_host_ed25519_key");
    let first = std::fs::read(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let listed = output(Command::new("ssh-keygen").arg("-lf").arg(&path));
    assert!(text(&listed.stdout).contains(&server.fingerprint), "{}", text(&listed.stdout));
    let written = std::fs::read_to_string(server.run("ssh_host_ed25519_key.fingerprint")).unwrap();
    assert_eq!(written, format!("{}\n", server.fingerprint));

    assert!(server.log().contains(&format!("host key {}, of this boot, made now", server.fingerprint)));
    server.restart();
    assert!(server.log().contains(&format!("host key {}, of this boot, as before", server.fingerprint)));
    assert_eq!(std::fs::read(&path).unwrap(), first);
    assert_eq!(code(&server.exec("true")), Some(0));

    // A key that cannot be read is no reason to stay away.
    std::fs::write(&path, "half a key").unwrap();
    server.restart();
    assert_ne!(written.trim(), server.fingerprint);
    assert!(server.log().contains("making a new host key"), "{}", server.log());
    assert_eq!(code(&server.exec("true")), Some(0));
}

#[test]
fn clients_that_wait_keep_nobody_out() {
    let server = Server::start();
    let waiting: Vec<_> = (0..15).map(|_| half_open(server.address)).collect();
    // No more than 10 of them are kept.
    until("too many wait", || server.sessions().len() <= 10);
    assert_eq!(code(&server.exec("true")), Some(0));
    drop(waiting);
    server.wait_for_no_session();
}

#[test]
fn six_keys_may_be_tried() {
    let server = Server::start();
    let mut ssh = Command::new("ssh");
    let options = server.options();
    let at = options.iter().position(|option| option.starts_with("IdentityFile=")).unwrap();
    ssh.args(&options[..at - 1]).args(&options[at + 1..]);
    for number in 1..=6 {
        let path = if number == 6 { server.path("id") } else { server.path(&number.to_string()) };
        if number != 6 {
            make_key(&path, "ed25519");
        }
        ssh.args(["-o", &format!("IdentityFile={}", path.display())]);
    }
    let sixth = output(ssh.arg("root@127.0.0.1").arg("true"));
    assert_eq!(code(&sixth), Some(0), "{}", text(&sixth.stderr));
}

#[test]
fn the_banner_is_one_line_with_the_step() {
    let server = Server::start();
    let boot = r#"{"goal":"rescue","step":"network","number":4,"total":9,"state":"waiting","uptime_ms":1,"next":"-"}"#;
    std::fs::write(server.run("boot.json"), boot).unwrap();
    let mut ssh = Command::new("ssh");
    ssh.args(server.options().into_iter().map(|option| option.replace("LogLevel=ERROR", "LogLevel=INFO")));
    let out = output(ssh.args(["root@127.0.0.1", "true"]));
    assert_eq!(text(&out.stderr), "Pi Lifeboat: step 4/9 network, waiting\r\n");
}

// The vm tier's `thirty_two_at_once_and_a_flood_while_one_works` holds the same in a guest.
#[test]
fn thirty_two_sessions_and_no_more() {
    let server = Server::start();
    let mut all: Vec<_> = (0..32)
        .map(|_| {
            let mut ssh = server.ssh();
            ssh.arg("echo ready; read line; echo $line").stdin(Stdio::piped()).stdout(Stdio::piped());
            ssh.spawn().unwrap()
        })
        .collect();
    let mut outputs: Vec<_> = all.iter_mut().map(|ssh| BufReader::new(ssh.stdout.take().unwrap())).collect();
    let mut line = String::new();
    for output in &mut outputs {
        line.clear();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
    }
    assert_eq!(code(&server.exec("true")), Some(255));
    for (number, (ssh, output)) in all.iter_mut().zip(&mut outputs).enumerate() {
        type_line(ssh, &format!("{number}\n"));
        line.clear();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{number}\n"));
        assert!(wait(ssh).success());
    }
    server.wait_for_no_session();
    assert_eq!(code(&server.exec("true")), Some(0));
}

#[test]
fn who_connects_often_waits() {
    let server = Server::start();
    // More than may come at once, each over before the next: they come one after the other, and none is refused.
    let began = std::time::Instant::now();
    for _ in 0..15 {
        drop(half_open(server.address));
    }
    assert!(began.elapsed() >= std::time::Duration::from_millis(400), "{:?}", began.elapsed());
    // A stranger's process steps back, a login's does not.
    let stranger = half_open(server.address);
    let niceness = |id: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        // The 19th field, the third being the first behind the name.
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().parse::<i32>().unwrap()
    };
    until("only the stranger is here", || server.sessions().len() == 1);
    until("it does not step back", || niceness(server.sessions()[0]) > niceness(server.child.id()));
    let own = text(&server.exec("cut -d ' ' -f 19 /proc/$$/stat").stdout);
    assert_eq!(own.trim().parse(), Ok(niceness(server.child.id())));
    drop(stranger);
}
