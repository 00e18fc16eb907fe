//! The kernel's log leaves the machine: by syslog, and by netconsole, whose module is loaded once there is a network.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod site;

use std::net::UdpSocket;
use std::time::Instant;

use site::{HOST, LIMIT, Server, ssh_ok, wait, wait_console};

/// What comes in on a port of this host, until it is what is wanted.
fn hear(socket: &UdpSocket, text: &mut String, wanted: &str) {
    let end = Instant::now() + LIMIT;
    let mut buffer = [0; 9000];
    while !text.contains(wanted) {
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{wanted:?} did not come; there is: {text}");
        socket.set_read_timeout(Some(left)).unwrap();
        if let Ok(length) = socket.recv(&mut buffer) {
            *text += &String::from_utf8_lossy(&buffer[..length]);
            text.push('\n');
        }
    }
}

#[test]
fn the_log_of_a_pi_arrives_by_syslog_and_by_netconsole() {
    let [syslog, netconsole] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let server = Server::start();
    let append = format!(
        "systemd.hostname=cm4-7 lifeboat.syslog={HOST}:{} netconsole=@/eth0,{}@{HOST}/",
        port(&syslog),
        port(&netconsole)
    );
    let machine = server.power_on(&append);
    wait(&machine, "rescue", |status| status.step == "rescue");
    wait_console(&machine, "netconsole: the kernel's log goes out by eth0");
    let (mut by_syslog, mut by_netconsole) = (String::new(), String::new());
    // From the kernel's first words on, of which it is PID 1's turn later.
    hear(&syslog, &mut by_syslog, " cm4-7 kernel - - [meta sequenceId=\"1\" ");
    hear(&syslog, &mut by_syslog, "Linux version ");
    hear(&syslog, &mut by_syslog, " cm4-7 lifeboat - - [");
    ssh_ok(&machine, "echo '<3>lifeboat-test: said in the guest' > /dev/kmsg");
    hear(&netconsole, &mut by_netconsole, "lifeboat-test: said in the guest");
    hear(&syslog, &mut by_syslog, "] said in the guest");
    // The child that sends is killed: its successor goes on, and nothing is sent twice.
    site::kill_9(&machine, "init log");
    wait_console(&machine, "log ended");
    ssh_ok(&machine, "echo '<3>lifeboat-test: said to the next' > /dev/kmsg");
    hear(&syslog, &mut by_syslog, "] said to the next");
    assert_eq!(by_syslog.matches("Linux version ").count(), 1, "{by_syslog}");
    // Where a person looks, the name is there as well.
    let status = ssh_ok(&machine, "rescue status");
    assert!(status.contains("cm4-7.local (mDNS)"), "{status}");
}
