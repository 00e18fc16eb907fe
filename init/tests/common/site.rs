//! A device and a server, each in a network namespace of its own, so that nothing of the host's is touched.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use init::status::NetworkStatus;

use super::cable::{Cable, Weather};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The device's MAC address, where a cable joins it.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// A device and a server, joined by a cable.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    namespace: String,
    pub(crate) cable: Option<Cable>,
    children: Vec<Child>,
}

impl Site {
    /// Joined directly: the kernel's own cable.
    pub(crate) fn new(command_line: &str) -> Self {
        let site = Site::namespaces(command_line);
        let (server, device) = (site.server(), site.device());
        run(&format!("ip -n {server} link add eth0 type veth peer name eth0 netns {device}"));
        site.raise_server();
        site
    }

    /// Joined by a cable that a test can look into, and whose weather it chooses.
    pub(crate) fn with_cable(command_line: &str, weather: Weather, seed: u64) -> Self {
        let mut site = Site::namespaces(command_line);
        let (server, device, cable) = (site.server(), site.device(), site.between());
        run(&format!("ip netns add {cable}"));
        for (namespace, port) in [(&device, "device"), (&server, "server")] {
            run(&format!("ip -n {cable} link add {port} type veth peer name eth0 netns {namespace}"));
            // A checksum that is left to the hardware is none yet where the cable reads the frame.
            let said = output(namespace, "ethtool -K eth0 tx off");
            assert!(said.contains("tx-checksum-ip-generic: off"), "ethtool (package ethtool): {said}");
            run(&format!("ip -n {cable} link set {port} up"));
        }
        let mac = MAC.map(|byte| format!("{byte:02x}")).join(":");
        run(&format!("ip -n {device} link set eth0 address {mac}"));
        site.cable = Some(Cable::lay(&cable, weather, seed));
        site.raise_server();
        site
    }

    fn namespaces(command_line: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("lb{}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let site = Site { folder, namespace, cable: None, children: Vec::new() };
        std::fs::write(site.path("cmdline"), command_line).unwrap();
        std::fs::create_dir_all(site.path("run/lifeboat")).unwrap();
        std::fs::create_dir_all(site.path("etc")).unwrap();
        run(&format!("ip netns add {}", site.server()));
        run(&format!("ip netns add {}", site.device()));
        site
    }

    fn raise_server(&self) {
        let server = self.server();
        run(&format!("ip -n {server} link set lo up"));
        run(&format!("ip -n {server} addr add 192.0.2.1/24 dev eth0"));
        run(&format!("ip -n {server} link set eth0 up"));
    }

    pub(crate) fn server(&self) -> String {
        format!("{}s", self.namespace)
    }

    pub(crate) fn device(&self) -> String {
        format!("{}d", self.namespace)
    }

    fn between(&self) -> String {
        format!("{}c", self.namespace)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts `init network` with a `/run`, an `/etc` and a command line of its own. The number is for [`Site::stop`].
    pub(crate) fn start_network(&mut self) -> usize {
        let script = format!("{} exec {} network", self.private(), env!("CARGO_BIN_EXE_init"));
        self.start(&self.device(), &script)
    }

    /// Runs `init WORD` there, to its end.
    pub(crate) fn init(&mut self, word: &str) {
        let script = format!("{} exec {} {word}", self.private(), env!("CARGO_BIN_EXE_init"));
        let started = self.start(&self.device(), &script);
        assert!(self.children[started].wait().unwrap().success(), "init {word}");
    }

    fn private(&self) -> String {
        let here = self.folder.path().display();
        format!(
            "set -e; mount --bind {here}/run /run; mount --bind {here}/etc /etc; mount --bind {here}/cmdline /proc/cmdline;"
        )
    }

    /// Starts a shell script in a namespace, with mounts and a host name of its own.
    pub(crate) fn start(&mut self, namespace: &str, script: &str) -> usize {
        let child = Command::new("ip")
            .args(["netns", "exec", namespace, "unshare", "--mount", "--uts", "sh", "-c", script])
            .stdin(Stdio::null())
            .spawn();
        self.children.push(child.expect("ip and unshare (packages iproute2, util-linux)"));
        self.children.len() - 1
    }

    /// Ends what was started, by KILL.
    pub(crate) fn stop(&mut self, started: usize) {
        let _ = self.children[started].kill();
        let _ = self.children[started].wait();
    }

    pub(crate) fn is_running(&mut self, started: usize) -> bool {
        self.children[started].try_wait().unwrap().is_none()
    }

    /// Waits until the written status is as wanted.
    pub(crate) fn wait(&self, wanted: impl Fn(&NetworkStatus) -> bool) -> NetworkStatus {
        let folder = self.path("run/lifeboat");
        let path = folder.join("network.json");
        let mut last = None;
        let seen = init::pid1::file::wait_for(&folder, LIMIT, || {
            last = init::pid1::file::read_json::<NetworkStatus>(&path);
            last.clone().filter(&wanted)
        });
        seen.unwrap().unwrap_or_else(|| panic!("not within {LIMIT:?}; last seen: {last:?}"))
    }

    /// What the device's kernel says.
    pub(crate) fn output(&self, line: &str) -> String {
        output(&self.device(), line)
    }

    /// Waits until the kernel says what is wanted.
    pub(crate) fn wait_output(&self, line: &str, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let said = self.output(line);
            if wanted(&said) {
                return said;
            }
            assert!(Instant::now() < end, "{line}: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The device's IPv4 address, as the kernel has it.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        address(&self.output("ip -4 -oneline addr show eth0"))
    }
}

/// The first address in what `ip -oneline addr` says.
pub(crate) fn address(said: &str) -> Option<Ipv4Addr> {
    let (_, rest) = said.split_once("inet ")?;
    rest.split_once('/')?.0.parse().ok()
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(self.cable.take());
        for namespace in [self.server(), self.device(), self.between()] {
            if Path::new("/run/netns").join(&namespace).exists() {
                let _ = Command::new("ip").args(["netns", "del", &namespace]).status();
            }
        }
    }
}

pub(crate) fn output(namespace: &str, line: &str) -> String {
    let output =
        Command::new("ip").args(["netns", "exec", namespace]).args(line.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().expect("ip (package iproute2)");
    assert!(status.success(), "{line}: {status} (needs root)");
}

/// All addresses of all interfaces, with their prefixes.
pub(crate) fn addresses(status: &NetworkStatus) -> Vec<&str> {
    status.interfaces.iter().flat_map(|interface| &interface.addresses).map(String::as_str).collect()
}
