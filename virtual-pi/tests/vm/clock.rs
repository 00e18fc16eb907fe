//! HTTPS on a machine whose clock is wrong, and a clock that is set.

use std::process::{Child, Command, Stdio};

use crate::site::tls::TlsServer;
use crate::site::{HOST, Images, Server, ssh_ok, wait, wait_console};

tests![
    a_clock_in_1970_keeps_no_signed_image_away,
    a_clock_in_2099_and_expired_authorities_keep_no_signed_image_away,
    a_pinned_key_needs_no_authority,
    another_key_is_refused_and_ssh_says_why,
];

/// A boot server with an OS in it.
fn server() -> Server {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    server
}

/// The battery of a clock is empty, and the server's certificate is not valid before 2090.
fn a_clock_in_1970_keeps_no_signed_image_away() {
    let server = server();
    let tls = TlsServer::start(server.port, (2090, 2099));
    let machine = server.power_on_with(&format!("root=live:{}", tls.url("tiny.squashfs")), |options| {
        options.battery_clock = Some("1970-01-02".into());
    });
    wait_console(&machine, "clock: .* is before this image was built: set to 20");
    wait_console(&machine, "the battery-backed one says 1970-01-02 .* not believed");
    wait_console(&machine, "its certificate is valid from 2090-01-01 .*the clock here says 20.*; going on");
    wait_console(&machine, "TEST-OS end");
}

/// The clock is in 2099, the server's certificate and that of its authority have ended, and a time server knows better.
fn a_clock_in_2099_and_expired_authorities_keep_no_signed_image_away() {
    let server = server();
    let tls = TlsServer::start(server.port, (1990, 2000));
    let chrony = Chrony::start();
    let append =
        format!("root=live:{} lifeboat.ntp={HOST}:{} rd.break", tls.url("tiny.squashfs"), chrony.port);
    let machine = server.power_on_with(&append, |options| options.battery_clock = Some("2099-06-01".into()));
    wait_console(&machine, "its certificate is valid until 2000-01-01 .*the clock here says 20.*; going on");
    wait_console(&machine, "clock: set from 2099-06-01 .* to 20.*, as 10.0.2.2:.* says");
    wait(&machine, "the hold", |status| status.step == "hand-over");
    let here: u64 = ssh_ok(&machine, "date +%s").trim().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(here.abs_diff(now) < 600, "{here}, but it is {now}");
    ssh_ok(&machine, "rescue continue");
    wait_console(&machine, "TEST-OS end");
}

/// Nobody that the image knows vouches for the server: its key is enough.
fn a_pinned_key_needs_no_authority() {
    let server = server();
    let tls = TlsServer::strange(server.port);
    let append = format!("root=live:{} lifeboat.pin={}", tls.url("tiny.squashfs"), tls.pin);
    let machine = server.power_on(&append);
    wait_console(&machine, "TEST-OS end");
}

fn another_key_is_refused_and_ssh_says_why() {
    let server = server();
    let tls = TlsServer::start(server.port, (2020, 2090));
    let other = TlsServer::strange(server.port);
    let append = format!("root=live:{} lifeboat.pin={}", tls.url("tiny.squashfs"), other.pin);
    let machine = server.power_on(&append);
    let status = wait(&machine, "a refusal", |status| status.last_error.is_some());
    let error = status.last_error.unwrap();
    assert!(
        error.step == "manifest" && error.error.contains("none of the 1 that lifeboat.pin= names"),
        "{error:?}"
    );
    assert!(ssh_ok(&machine, "rescue status").contains("lifeboat.pin="));
    let asked = |record: &serde_json::Value| record.to_string().contains("tiny");
    assert!(!server.log().iter().any(asked), "nothing was asked of it");
}

/// A time server on a port of its own, that sets no clock.
struct Chrony {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Chrony {
    fn start() -> Self {
        // The kernel gives a port that is free; chrony cannot say which it would take.
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("chrony.conf");
        let text = format!(
            "local stratum 3\nallow all\nport {port}\nbindaddress 127.0.0.1\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
            folder.path().join("pid").display()
        );
        std::fs::write(&conf, text).unwrap();
        let user = Command::new("id").arg("-un").output().unwrap();
        let process = Command::new("/usr/sbin/chronyd")
            .args(["-x", "-d", "-U", "-u", String::from_utf8(user.stdout).unwrap().trim(), "-f"])
            .arg(&conf)
            .stdin(Stdio::null())
            .spawn()
            .expect("chronyd (package chrony)");
        Chrony { process, port, _folder: folder }
    }
}

impl Drop for Chrony {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
