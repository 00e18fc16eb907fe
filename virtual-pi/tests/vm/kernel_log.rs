//! The kernel's log leaves the machine: by syslog, and by netconsole, whose module is loaded once there is a network.

use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::Instant;

use crate::site::{HOST, LIMIT, Server, ssh_ok, wait, wait_console};

tests![the_log_of_a_pi_arrives_by_syslog_and_by_netconsole,];

/// A port of this host, read all the while: what the kernel has no room for is lost.
struct Port {
    number: u16,
    packets: mpsc::Receiver<String>,
    text: String,
}

impl Port {
    fn open() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = socket.local_addr().unwrap().port();
        let (sender, packets) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 9000];
            while let Ok(length) = socket.recv(&mut buffer) {
                if sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Port { number, packets, text: String::new() }
    }

    /// Waits until this has come in.
    fn hear(&mut self, wanted: &str) {
        let end = Instant::now() + LIMIT;
        while !self.text.contains(wanted) {
            match self.packets.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(packet) => self.text += &format!("{packet}\n"),
                Err(_) => panic!("{wanted:?} did not come; there is: {}", self.text),
            }
        }
    }
}

fn the_log_of_a_pi_arrives_by_syslog_and_by_netconsole() {
    let [mut syslog, mut netconsole] = [Port::open(), Port::open()];
    let server = Server::start();
    let append = format!(
        "systemd.hostname=cm4-7 lifeboat.syslog={HOST}:{} netconsole=@/eth0,{}@{HOST}/",
        syslog.number, netconsole.number
    );
    let machine = server.power_on(&append);
    wait(&machine, "rescue", |status| status.step == "rescue");
    wait_console(&machine, "netconsole: the kernel's log goes out by eth0");
    // From the kernel's first words on, of which it is PID 1's turn later.
    syslog.hear(" cm4-7 kernel - - [meta sequenceId=\"1\" ");
    syslog.hear("Linux version ");
    syslog.hear(" cm4-7 lifeboat - - [");
    ssh_ok(&machine, "echo '<3>lifeboat-test: said in the guest' > /dev/kmsg");
    netconsole.hear("lifeboat-test: said in the guest");
    syslog.hear("] said in the guest");
    // The child that sends is killed: its successor goes on, and nothing is sent twice.
    crate::site::kill_9(&machine, "init log");
    wait_console(&machine, "log ended");
    ssh_ok(&machine, "echo '<3>lifeboat-test: said to the next' > /dev/kmsg");
    syslog.hear("] said to the next");
    assert_eq!(syslog.text.matches("Linux version ").count(), 1, "{}", syslog.text);
    // Where a person looks, the name is there as well.
    let status = ssh_ok(&machine, "rescue status");
    assert!(status.contains("cm4-7.local (mDNS)"), "{status}");
}
