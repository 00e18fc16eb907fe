//! A site with a cable: a switch, hosts on it in network namespaces of their own, and Pis that are plugged in. Takes root.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use init::status::BootStatus;

use super::images::{self, Images, program};
use super::{LIMIT, ssh_words};

/// Where the person sits who logs in.
const DESK: &str = "192.0.2.2/24";

/// The switch, and all that is on it.
pub struct Bridge {
    /// For the files of this site.
    pub folder: tempfile::TempDir,
    prefix: String,
    hosts: Vec<String>,
    programs: Vec<(Child, PathBuf)>,
}

impl Bridge {
    /// With nobody on it but the desk, which sits at the switch itself.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("vp{}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir_in(images::folder()).unwrap();
        let mut bridge = Self { folder, prefix, hosts: Vec::new(), programs: Vec::new() };
        bridge.add_namespace("desk");
        let desk = bridge.namespace("desk");
        ip(&format!("-n {desk} link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0"));
        ip(&format!("-n {desk} addr add {DESK} dev br0"));
        ip(&format!("-n {desk} link set br0 up"));
        bridge
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn add_namespace(&mut self, host: &str) {
        let namespace = self.namespace(host);
        ip(&format!("netns add {namespace}"));
        ip(&format!("-n {namespace} link set lo up"));
        self.hosts.push(host.into());
    }

    /// A host with `eth0` on the switch.
    pub fn add_host(&mut self, host: &str, address: &str) {
        self.add_namespace(host);
        let (namespace, desk) = (self.namespace(host), self.namespace("desk"));
        ip(&format!("-n {desk} link add {host} type veth peer name eth0 netns {namespace}"));
        ip(&format!("-n {desk} link set {host} master br0 up"));
        ip(&format!("-n {namespace} addr add {address}/24 dev eth0"));
        ip(&format!("-n {namespace} link set eth0 up"));
    }

    /// A program on a host, as a command.
    pub fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), program]).stdin(Stdio::null());
        command
    }

    /// Starts a program on a host; what it says is in the file that is given back.
    pub fn start(&mut self, host: &str, program: &str, words: &str) -> PathBuf {
        let said = self.folder.path().join(format!("said-{}", self.programs.len()));
        let file = File::create(&said).unwrap();
        let mut command = self.command(host, program);
        command.args(words.split_whitespace()).stdout(file.try_clone().unwrap()).stderr(file);
        self.programs.push((command.spawn().expect("ip (Debian package: iproute2)"), said.clone()));
        said
    }

    /// A DHCP server that gives addresses and knows nothing of boot files, as a home router's.
    pub fn start_router(&mut self) {
        self.add_host("router", "192.0.2.1");
        let leases = self.folder.path().join("leases").display().to_string();
        self.start(
            "router",
            "dnsmasq",
            &format!(
                "--keep-in-foreground --conf-file=/dev/null --port=0 --bind-interfaces --interface=eth0 --user=root \
                 --dhcp-range=192.0.2.100,192.0.2.150,255.255.255.0,1h --dhcp-leasefile={leases} --no-ping --log-dhcp --log-facility=-"
            ),
        );
    }

    /// A boot server with these words besides, that has the rescue's TFTP tree in `tftp` and its boot.img in `pi`.
    pub fn start_server(&mut self, words: &str) -> PathBuf {
        self.add_host("server", "192.0.2.10");
        let root = self.root();
        let rescue = &Images::get().rescue;
        for (from, to) in [(rescue.join("tftp"), root.join("tftp")), (rescue.clone(), root.join("pi"))] {
            std::fs::create_dir_all(&to).unwrap();
            for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    std::fs::hard_link(entry.path(), to.join(entry.file_name())).unwrap();
                }
            }
        }
        let http_boot = program("http-boot").display().to_string();
        let words = format!("serve --root {} --listen 0.0.0.0:80 {words}", root.display());
        let said = self.start("server", &http_boot, &words);
        wait_for_text(&said, "listening on http");
        said
    }

    /// What the boot server serves.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The rescue's cmdline.txt with a word more, in a folder of the TFTP tree.
    pub fn put_command_line(&self, folder: &str, word: &str) {
        let tree = self.root().join("tftp");
        let line = std::fs::read_to_string(tree.join("cmdline.txt")).unwrap();
        std::fs::create_dir_all(tree.join(folder)).unwrap();
        std::fs::write(tree.join(folder).join("cmdline.txt"), format!("{} {word}\n", line.trim())).unwrap();
    }

    /// Powers a Pi on that is plugged into the switch, with an EEPROM that says so.
    pub fn power_on(&mut self, bootconf: &str, words: &str) -> PluggedPi {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        std::fs::write(path("bootconf.txt"), bootconf).unwrap();
        let words = format!(
            "run --bridge br0 --eeprom {} --console {} --report {} --cpus 1 --time-limit {} --public-key {} {words}",
            path("bootconf.txt"),
            path("console"),
            path("report"),
            2 * LIMIT.as_secs(),
            Images::get().boot_key.display(),
        );
        let (console, report) = (path("console").into(), path("report").into());
        let log = self.start("desk", env!("CARGO_BIN_EXE_virtual-pi"), &words);
        PluggedPi { log, console, report }
    }

    /// Runs a command in a Pi by the system's own `ssh`, from the desk.
    pub fn ssh(&self, address: &str, command: &str) -> Output {
        self.ssh_with(&Images::get().ssh_key, address, command)
    }

    /// The same with this private key and no other.
    pub fn ssh_with(&self, key: &Path, address: &str, command: &str) -> Output {
        let mut ssh = self.command("desk", "ssh");
        ssh.args(ssh_words(key)).args([&format!("root@{address}"), command]).output().unwrap()
    }

    /// How the program that says its words here ended.
    pub fn wait_for_end(&mut self, said: &Path) -> std::process::ExitStatus {
        let (child, _) = self.programs.iter_mut().find(|(_, file)| file == said).unwrap();
        child.wait().unwrap()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        for (child, said) in &mut self.programs {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                eprintln!("--- {}:\n{}", said.display(), text(said));
            }
        }
        for host in &self.hosts {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(host)]).status();
        }
    }
}

/// A Pi on the switch: files with what it says.
pub struct PluggedPi {
    /// The bootloader's log.
    pub log: PathBuf,
    /// The serial console.
    pub console: PathBuf,
    report: PathBuf,
}

impl PluggedPi {
    /// Waits for the rescue, and gives an address that it answers at.
    pub fn wait_for_rescue(&self) -> String {
        let began = Instant::now();
        loop {
            let reports = text(&self.report);
            let last = reports.lines().rev().find_map(|line| serde_json::from_str::<BootStatus>(line).ok());
            let address = last.filter(|status| status.step == "rescue").and_then(|_| self.address());
            if let Some(address) = address {
                return address;
            }
            assert!(began.elapsed() < LIMIT, "no rescue: {}\n{}", text(&self.log), text(&self.console));
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    /// The address that the console tells of.
    fn address(&self) -> Option<String> {
        let console = text(&self.console);
        let (_, after) = console.rsplit_once(": address 192.0.2.")?;
        Some(format!("192.0.2.{}", after.split_once('/')?.0))
    }

    /// What the bootloader asked for by TFTP, in its order.
    pub fn asked_for(&self) -> Vec<String> {
        let log = text(&self.log);
        let lines = log.lines().filter(|line| line.contains("TFTP_GET: "));
        lines.filter_map(|line| line.rsplit(' ').next().map(String::from)).collect()
    }
}

/// What a file has by now; nothing, if there is none.
pub fn text(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
}

/// Waits until a program has said something.
pub fn wait_for_text(said: &Path, wanted: &str) {
    let began = Instant::now();
    while !text(said).contains(wanted) {
        assert!(began.elapsed() < LIMIT, "not said: {wanted:?}; said: {}", text(said));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().expect("ip (Debian package: iproute2)");
    assert!(status.success(), "ip {words}: {status} (it takes root)");
}
