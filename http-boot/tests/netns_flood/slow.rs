//! Connections that are held open and say next to nothing ("slowloris").

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::flood::{FLOODER, Flooded, SERVER};
use super::site::wait_for;

/// How often a thread looks at its connections, 20 ms apart, before it begins anew.
const LOOKS: usize = 200;
const THREADS: usize = 8;
const PORTS: [(u16, &[u8]); 4] = [
    // A head that never ends.
    (80, b"GET /boot.img HTTP/1.1\r\nHost: x\r\nX-Slow: "),
    // Nothing at all.
    (80, b""),
    // The beginning of a TLS handshake.
    (443, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
    // A large answer that nobody reads.
    (80, b"GET /boot.img HTTP/1.1\r\nHost: x\r\n\r\n"),
];

/// How many connections the server serves at once, where the process may have so many file descriptors.
fn served() -> usize {
    let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    usize::try_from(descriptors / 4).unwrap_or(usize::MAX).min(4096)
}

/// Opens what it can, holds it, and comes again for each that is cut.
fn hold(number: usize) {
    let (port, words) = PORTS[number % PORTS.len()];
    // All threads together more than are served.
    let each = served() * 6 / 5 / THREADS;
    let mut held: Vec<TcpStream> = Vec::new();
    // A round of a few seconds; the next one begins with new connections.
    for _ in 0..LOOKS {
        held.retain_mut(|stream| match stream.read(&mut [0]) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        });
        while held.len() < each {
            let Ok(mut stream) = TcpStream::connect((SERVER, port)) else { break };
            let _may_be_cut = stream.write_all(words);
            stream.set_nonblocking(true).unwrap();
            held.push(stream);
        }
        if words.starts_with(b"GET") && number.is_multiple_of(PORTS.len()) {
            held.iter_mut().for_each(|stream| drop(stream.write(b"x")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn slow_connections_keep_nobody_out() {
    raise_own_limit();
    let flooded = Flooded::start(&vec![7; 8 << 20]);
    let site = &flooded.site;
    // One that began before the flood, and takes longer than it.
    let mut before = Command::new("ip")
        .args(["netns", "exec", &site.namespace("pi"), "curl", "-sS", "--fail", "--limit-rate", "400k"])
        .args(["-o", site.path("before").to_str().unwrap(), &format!("http://{SERVER}/boot.img")])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let flood = flooded.flood(THREADS, hold);
    let said = site.wait_said(flooded.server, &format!("all {} connections are taken", served()));
    assert!(said.contains(&format!("of them by {FLOODER}")), "{said}");
    for _ in 0..10 {
        flooded.fetch("http");
        flooded.fetch("https");
    }
    assert!(before.wait().unwrap().success(), "a transfer goes on");
    assert_eq!(std::fs::read(site.path("before")).unwrap().len(), 8 << 20);
    // A socket and a file each; those that were just cut are about to close.
    let descriptors = flooded.descriptors();
    assert!(descriptors < 2 * served() + 300, "{descriptors}");
    drop(flood);
    wait_for(|| (flooded.descriptors() < 100).then_some(())).expect("all is given back");
}

fn raise_own_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
