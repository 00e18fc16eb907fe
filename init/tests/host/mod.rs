//! Hosts in network namespaces, joined by cables: a Pi's children run in one, the programs that they are held against in
//! others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use init::status::NetworkStatus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Nothing here takes so long unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(90);

/// A host in a namespace of its own, with its own `/run`, `/etc` and name.
pub struct Host {
    folder: tempfile::TempDir,
    namespace: String,
    pub children: Vec<Child>,
}

impl Host {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("nb{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let host = Host { folder: tempfile::tempdir().unwrap(), namespace, children: Vec::new() };
        for folder in ["run/lifeboat", "run/avahi-daemon", "run/lldpd", "etc"] {
            std::fs::create_dir_all(host.path(folder)).unwrap();
        }
        run(&format!("ip netns add {}", host.namespace));
        host.ip("link set lo up");
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn ip(&self, words: &str) {
        run(&format!("ip -n {} {words}", self.namespace));
    }

    /// A cable from `ours` of this host to `theirs` of another.
    pub fn plug(&self, ours: &str, other: &Host, theirs: &str) {
        self.ip(&format!("link add {ours} type veth peer name {theirs} netns {}", other.namespace));
    }

    /// Starts a line of shell here.
    pub fn start(&mut self, line: &str) {
        let here = self.folder.path().display();
        let script = format!("mount --bind {here}/run /run && {line}");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "unshare", "--mount", "--uts", "sh", "-c", &script])
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus())
            .stdin(Stdio::null())
            .spawn();
        self.children.push(child.expect("ip and unshare (packages iproute2, util-linux)"));
    }

    /// `init network`, as on a Pi with this command line.
    pub fn start_network(&mut self, command_line: &str) {
        std::fs::write(self.path("cmdline"), command_line).unwrap();
        self.start_init("network");
    }

    /// A child of PID 1, with the same command line.
    pub fn start_init(&mut self, child: &str) {
        let (here, init) = (self.folder.path().display().to_string(), env!("CARGO_BIN_EXE_init"));
        self.start(&format!(
            "mount --bind {here}/etc /etc && mount --bind {here}/cmdline /proc/cmdline && exec {init} {child}"
        ));
    }

    /// Avahi, with a message bus of its own: its tools ask it that way.
    pub fn start_avahi(&mut self, host_name: &str) {
        let config = format!(
            "[server]\nhost-name={host_name}\nallow-interfaces=eth0\n[publish]\npublish-workstation=no\n[wide-area]\nenable-wide-area=no\n"
        );
        std::fs::write(self.path("avahi.conf"), config).unwrap();
        let bus = self.bus();
        self.start(&format!("exec dbus-daemon --system --nofork --nopidfile --address={bus}"));
        wait_until("dbus-daemon (package dbus) is there", || self.path("bus").exists().then_some(()));
        let config = self.path("avahi.conf").display().to_string();
        self.start(&format!("exec avahi-daemon -f {config} --no-drop-root --no-chroot --no-rlimits"));
        self.wait_for_output(&format!("avahi-resolve -4 -n {host_name}.local"), |text| {
            text.contains("192.0.2.1")
        });
    }

    fn bus(&self) -> String {
        format!("unix:path={}", self.path("bus").display())
    }

    pub fn output(&self, line: &str) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(line.split(' '))
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus())
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    pub fn wait_for_output(&self, line: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        wait_until(&format!("{line}, by {}", self.namespace), || {
            last = self.output(line);
            wanted(&last).then(|| last.clone())
        })
    }

    /// Waits until the network child has written what is wanted.
    pub fn wait(&self, wanted: impl Fn(&NetworkStatus) -> bool) -> NetworkStatus {
        let folder = self.path("run/lifeboat");
        let path = folder.join("network.json");
        let mut last = None;
        let seen = init::pid1::file::wait_for(&folder, LIMIT, || {
            last = init::pid1::file::read_json::<NetworkStatus>(&path);
            last.clone().filter(&wanted)
        });
        seen.unwrap().unwrap_or_else(|| panic!("not within {LIMIT:?}; last seen: {last:?}"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
        }
        for child in &mut self.children {
            let end = Instant::now() + Duration::from_secs(5);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().expect("ip (package iproute2)");
    assert!(status.success(), "{line}: {status} (needs root)");
}

/// For what tells nobody when it changes.
pub fn wait_until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A Pi, and a host at the other end of its cable.
pub fn pair() -> (Host, Host) {
    let (pi, peer) = (Host::new(), Host::new());
    peer.plug("eth0", &pi, "eth0");
    peer.ip("addr add 192.0.2.1/24 dev eth0");
    peer.ip("link set eth0 up");
    (pi, peer)
}
