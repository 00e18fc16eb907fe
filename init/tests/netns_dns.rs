//! The resolver against dnsmasq. Each test has a network namespace of its own, so nothing of the host's is touched. Needs root.
#![cfg(feature = "pid1")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod peers;

use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use init::pid1::dns::resolver::{ResolveError, Resolver};
use init::pid1::http;
use init::pid1::tls::{Authorities, Dates};
use init::transport::Transport;
use nix::sched::{CloneFlags, unshare};
use peers::{Server, answer};

const LIMIT: Duration = Duration::from_secs(60);

/// A network of this thread, and of what it starts, with servers in it.
struct Site {
    folder: tempfile::TempDir,
    servers: Vec<(String, Child)>,
}

impl Site {
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (needs root)");
        run("ip link set lo up");
        for n in 1..=4 {
            run(&format!("ip addr add 192.0.2.{n}/32 dev lo"));
        }
        Site { folder: tempfile::tempdir().unwrap(), servers: Vec::new() }
    }

    fn resolv_conf(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    fn write(&self, text: &str) {
        init::pid1::file::replace(&self.resolv_conf(), text.as_bytes()).unwrap();
    }

    fn resolver(&self) -> Resolver {
        Resolver::new(self.resolv_conf(), 53)
    }

    /// Starts dnsmasq with these records, and waits until it answers.
    fn start(&mut self, address: &str, options: &[&str]) {
        let child = Command::new("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                "--pid-file=",
            ])
            .args(["--user=root", "--bind-interfaces", &format!("--listen-address={address}")])
            .arg("--host-record=is.there,192.0.2.200")
            .args(options)
            .stdin(Stdio::null())
            .spawn()
            .expect("dnsmasq (package dnsmasq-base)");
        self.servers.push((address.into(), child));
        let path = self.folder.path().join("probe");
        std::fs::write(&path, format!("nameserver {address}\n")).unwrap();
        let probe = Resolver::new(path, 53);
        let until = Instant::now() + LIMIT;
        while lookup(&probe, "is.there").is_err() {
            assert!(Instant::now() < until, "dnsmasq at {address} does not answer");
            std::thread::yield_now();
        }
    }

    fn stop(&mut self, address: &str) {
        for (_, child) in self.servers.iter_mut().filter(|(at, _)| at == address) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (_, child) in &mut self.servers {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().expect("ip (package iproute2)");
    assert!(status.success(), "{line}: {status} (needs root)");
}

fn lookup(resolver: &Resolver, name: &str) -> Result<Vec<String>, ResolveError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let addresses = runtime.block_on(resolver.lookup(name))?;
    Ok(addresses.iter().map(IpAddr::to_string).collect())
}

/// Takes questions and never answers.
fn silent(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind((address, 53)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn questions(socket: &UdpSocket) -> usize {
    let mut buffer = [0; 512];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count()
}

#[test]
fn a_dead_server_costs_little_and_once() {
    let mut site = Site::new();
    let dead = silent("192.0.2.1");
    let records =
        ["--host-record=a.example,192.0.2.7", "--host-record=b.example,192.0.2.8", "--local=/example/"];
    site.start("192.0.2.2", &records);
    // Nobody listens at 192.0.2.3: it is refused at once.
    site.write("nameserver 192.0.2.3\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n");
    let resolver = site.resolver();
    assert_eq!(lookup(&resolver, "a.example").unwrap(), ["192.0.2.7"]);
    assert!(questions(&dead) >= 2, "both families were asked for");
    assert_eq!(lookup(&resolver, "b.example").unwrap(), ["192.0.2.8"]);
    assert_eq!(questions(&dead), 0, "the one that answered comes first");
}

#[test]
fn a_server_that_does_not_know_is_followed_by_one_that_does() {
    let mut site = Site::new();
    // dnsmasq without a server above it refuses what it does not know.
    site.start("192.0.2.1", &[]);
    site.start("192.0.2.2", &["--host-record=a.example,192.0.2.7"]);
    site.write("nameserver 192.0.2.1\nnameserver 192.0.2.2\n");
    assert_eq!(lookup(&site.resolver(), "a.example").unwrap(), ["192.0.2.7"]);
    let error = lookup(&site.resolver(), "c.example").unwrap_err().to_string();
    assert!(error.contains("192.0.2.1: REFUSED, 192.0.2.2: REFUSED"), "{error}");
    // A name that is refused with its domain is asked for without it.
    site.write("search other.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions ndots:2\n");
    assert_eq!(lookup(&site.resolver(), "a.example").unwrap(), ["192.0.2.7"]);
}

#[test]
fn an_answer_that_is_cut_off_comes_over_tcp() {
    let mut site = Site::new();
    let hosts = site.folder.path().join("hosts");
    let many: String = (1..=60).map(|n| format!("198.51.100.{n} many.example\n")).collect();
    std::fs::write(&hosts, many).unwrap();
    site.start("192.0.2.1", &[&format!("--addn-hosts={}", hosts.display())]);
    site.write("nameserver 192.0.2.1\n");
    assert_eq!(lookup(&site.resolver(), "many.example").unwrap().len(), 60);
}

#[test]
fn search_domains_complete_a_name() {
    let mut site = Site::new();
    let records =
        ["--host-record=boot.site.example,192.0.2.7", "--host-record=boot,192.0.2.9", "--local=/example/"];
    site.start("192.0.2.1", &records);
    site.write("search other.example site.example\nnameserver 192.0.2.1\n");
    assert_eq!(lookup(&site.resolver(), "boot").unwrap(), ["192.0.2.7"]);
    assert_eq!(lookup(&site.resolver(), "boot.").unwrap(), ["192.0.2.9"]);
    assert_eq!(lookup(&site.resolver(), "BOOT.site.example").unwrap(), ["192.0.2.7"]);
    let error = lookup(&site.resolver(), "no.example").unwrap_err();
    assert!(matches!(error, ResolveError::NoAddress { .. }), "{error}");
}

/// One client lives as long as the boot: it sees each lease.
#[test]
fn a_file_that_changes_counts_at_once() {
    let mut site = Site::new();
    let web = Server::at("192.0.2.4:80", |_| answer("200 OK", &[], b"here"));
    site.start("192.0.2.1", &["--host-record=one.example,192.0.2.4"]);
    site.start("192.0.2.2", &["--host-record=two.example,192.0.2.4"]);
    let transport = Transport::default();
    let client =
        http::client_with(&transport, Dates::Strict, &Authorities::default(), site.resolver()).unwrap();
    let get = |name: &str| {
        let url = format!("http://{name}/x").parse().unwrap();
        http::small_file(&client, &url, 10).map_err(|error| http::causes(error.as_ref()))
    };
    // No file, and an empty one: nobody is asked, least of all a public server.
    assert!(get("one.example").unwrap_err().contains("no name server is known"));
    site.write("");
    assert!(get("one.example").unwrap_err().contains("no name server is known"));
    site.write("nameserver 192.0.2.1\n");
    assert_eq!(get("one.example").unwrap(), b"here");
    site.stop("192.0.2.1");
    site.write("nameserver 192.0.2.2\n");
    assert_eq!(get("two.example").unwrap(), b"here");
    // Nobody answers any more: the address of before serves.
    site.stop("192.0.2.2");
    assert_eq!(get("two.example").unwrap(), b"here");
    assert!(get("three.example").unwrap_err().contains("no name server answers it"));
    assert_eq!(web.count(), 3);
}

#[test]
fn both_families_are_tried() {
    let mut site = Site::new();
    run("ip addr add 2001:db8::7/128 dev lo nodad");
    let web = Server::at("192.0.2.4:80", |_| answer("200 OK", &[], b"four"));
    site.start("192.0.2.1", &["--host-record=both.example,192.0.2.4,2001:db8::7"]);
    site.write("nameserver 192.0.2.1\n");
    assert_eq!(lookup(&site.resolver(), "both.example").unwrap(), ["2001:db8::7", "192.0.2.4"]);
    // Nothing listens at the IPv6 address.
    let transport = Transport::default();
    let client =
        http::client_with(&transport, Dates::Strict, &Authorities::default(), site.resolver()).unwrap();
    let url = "http://both.example/x".parse().unwrap();
    assert_eq!(http::small_file(&client, &url, 10).unwrap(), b"four");
    assert_eq!(web.count(), 1);
}
