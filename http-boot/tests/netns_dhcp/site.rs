//! A switch with hosts on it, each in a network namespace of its own, so that nothing of this machine's is touched.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::wire::{Cable, Weather};

/// Nothing here takes so long, unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A switch and its hosts.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    prefix: String,
    hosts: Vec<String>,
    children: Vec<(Child, Arc<Mutex<String>>)>,
    cables: Vec<Cable>,
}

/// A program that was started.
#[derive(Clone, Copy)]
pub(crate) struct Started(usize);

impl Site {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("hb{}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        let site = Site { folder, prefix, hosts: Vec::new(), children: Vec::new(), cables: Vec::new() };
        site.add_switch("br0");
        site
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.prefix)
    }

    fn add_switch(&self, bridge: &str) {
        let switch = self.switch();
        if bridge == "br0" {
            run(&format!("ip netns add {switch}"));
        }
        run(&format!(
            "ip -n {switch} link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        ));
        run(&format!("ip -n {switch} link set {bridge} up"));
    }

    /// A host's namespace.
    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// A host on the switch, with an address on `eth0`, as ADDR/PREFIX, or without one.
    pub(crate) fn add_host(&mut self, host: &str, address: Option<&str>) {
        self.add_namespace(host);
        self.plug(host, "eth0", "br0", None);
        self.address(host, "eth0", address);
    }

    /// Takes a host's interface away and gives it another of the same name.
    pub(crate) fn plug_again(&mut self, host: &str, address: &str) {
        run(&format!("ip -n {} link del eth0", self.namespace(host)));
        self.plug(host, "eth0", "br0", None);
        self.address(host, "eth0", Some(address));
    }

    /// A host on a bad cable.
    pub(crate) fn add_host_far_away(&mut self, host: &str, weather: Weather, seed: u64) {
        self.add_namespace(host);
        self.plug(host, "eth0", "br0", Some((weather, seed)));
        self.address(host, "eth0", None);
    }

    /// A host with one foot on the switch, and one on a switch of its own behind it, which forwards between them.
    pub(crate) fn add_router(&mut self, host: &str, near: &str, far: &str) {
        self.add_switch("br1");
        self.add_host(host, Some(near));
        self.plug(host, "eth1", "br1", None);
        self.address(host, "eth1", Some(far));
        output(&self.namespace(host), "sysctl -w net.ipv4.ip_forward=1");
    }

    /// A host on the switch behind the router.
    pub(crate) fn add_host_behind(&mut self, host: &str) {
        self.add_namespace(host);
        self.plug(host, "eth0", "br1", None);
        self.address(host, "eth0", None);
    }

    fn add_namespace(&mut self, host: &str) {
        let namespace = self.namespace(host);
        run(&format!("ip netns add {namespace}"));
        run(&format!("ip -n {namespace} link set lo up"));
        self.hosts.push(host.into());
    }

    fn plug(&mut self, host: &str, interface: &str, bridge: &str, cable: Option<(Weather, u64)>) {
        let (namespace, switch) = (self.namespace(host), self.switch());
        let port = format!("{host}-{}", &interface[3..]);
        run(&format!("ip -n {switch} link add {port} type veth peer name {interface} netns {namespace}"));
        run(&format!("ip -n {switch} link set {port} up"));
        let Some((weather, seed)) = cable else {
            run(&format!("ip -n {switch} link set {port} master {bridge}"));
            return;
        };
        // A checksum that is left to the hardware is none yet where the cable reads the frame.
        output(&namespace, &format!("ethtool -K {interface} tx off"));
        let (near, far) = (format!("{host}-n"), format!("{host}-f"));
        run(&format!("ip -n {switch} link add {near} type veth peer name {far}"));
        output(&switch, &format!("ethtool -K {far} tx off"));
        run(&format!("ip -n {switch} link set {far} master {bridge}"));
        for end in [&near, &far, &port] {
            run(&format!("ip -n {switch} link set {end} promisc on up"));
        }
        self.cables.push(Cable::lay(&switch, [port, near], weather, seed));
    }

    fn address(&self, host: &str, interface: &str, address: Option<&str>) {
        let namespace = self.namespace(host);
        if let Some(address) = address {
            run(&format!("ip -n {namespace} addr add {address} dev {interface}"));
        }
        run(&format!("ip -n {namespace} link set {interface} up"));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts `http-boot serve` on a host, with these flags besides, and waits until it listens.
    pub(crate) fn serve(&mut self, host: &str, flags: &str) -> Started {
        self.serve_with(host, flags, "")
    }

    /// The same, after these words of shell.
    pub(crate) fn serve_with(&mut self, host: &str, flags: &str, before: &str) -> Started {
        let (binary, root) = (env!("CARGO_BIN_EXE_http-boot"), self.path("root"));
        std::fs::create_dir_all(&root).unwrap();
        let line =
            format!("{before} exec {binary} serve --root {} --listen 127.0.0.1:0 {flags}", root.display());
        let started = self.start(host, &line);
        self.wait_said(started, "listening on http");
        started
    }

    /// Starts a shell script on a host, with mounts of its own.
    pub(crate) fn start(&mut self, host: &str, script: &str) -> Started {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.namespace(host), "unshare", "--mount", "sh", "-c"])
            .arg(format!("exec 2>&1; {script}"))
            .env("RUST_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip and unshare (packages iproute2, util-linux)");
        let said = Arc::new(Mutex::new(String::new()));
        let (output, log) = (child.stdout.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap();
                // Only what a person would read of a flood.
                if log.len() < 1 << 20 {
                    log.push_str(&line);
                    log.push('\n');
                }
            }
        });
        self.children.push((child, said));
        Started(self.children.len() - 1)
    }

    /// What a program has said so far.
    pub(crate) fn said(&self, started: Started) -> String {
        self.children[started.0].1.lock().unwrap().clone()
    }

    /// Waits until a program has said something.
    pub(crate) fn wait_said(&self, started: Started, text: &str) -> String {
        wait_for(|| Some(self.said(started)).filter(|said| said.contains(text)))
            .unwrap_or_else(|| panic!("not said within {LIMIT:?}: '{text}'; said: {}", self.said(started)))
    }

    /// The process's number; `ip netns exec` and the shell became the program.
    pub(crate) fn process(&self, started: Started) -> u32 {
        self.children[started.0].0.id()
    }

    /// Ends what was started, by KILL.
    pub(crate) fn kill(&mut self, started: Started) {
        let (child, _) = &mut self.children[started.0];
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Waits until a program ends by itself; whether it was content.
    pub(crate) fn wait_end(&mut self, started: Started) -> bool {
        let (child, _) = &mut self.children[started.0];
        wait_for(|| child.try_wait().unwrap()).expect("an end").success()
    }
}

/// Tries again until there is something.
pub(crate) fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + LIMIT;
    loop {
        match look() {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            found => return found,
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (_, said) in &self.children {
                eprintln!("--- one of the programs said:\n{}", said.lock().unwrap());
            }
        }
        for (child, _) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.cables.clear();
        for host in self.hosts.iter().map(String::as_str).chain(["sw"]) {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(host)]).status();
        }
    }
}

/// What a program says in a namespace.
pub(crate) fn output(namespace: &str, line: &str) -> String {
    let mut command = Command::new("ip");
    let output = command.args(["netns", "exec", namespace]).args(line.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().expect("ip (package iproute2)");
    assert!(status.success(), "{line}: {status} (needs root)");
}
