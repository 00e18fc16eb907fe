//! A site for the vm tier: images that were really built, a boot server that really serves, a Pi that boots from it.
//!
//! The images are made once, into `target/vm`, by the project's own programs; a second run finds them unchanged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

pub mod bridge;
pub mod desk;
pub mod images;
pub mod layer;
pub mod proxy;
pub mod tls;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use init::status::BootStatus;
use virtual_pi::board::{Board, Pi, Serial};
use virtual_pi::bootloader::{http::Source, http_boot, log::Log, signature::PublicKey};
use virtual_pi::machine::{Machine, Options};

pub use images::{Images, program};

/// Software emulation on two busy cores: nothing here takes so long unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(300);
/// The host, as a guest of QEMU's user network sees it.
pub const HOST: &str = "10.0.2.2";

/// A boot server with files in a folder of its own.
pub struct Server {
    pub root: tempfile::TempDir,
    pub port: u16,
    /// Where it keeps people and what was seen, if it does.
    state: Option<tempfile::TempDir>,
    process: Option<Child>,
    log: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Server {
    /// Serves `boot.img` and `boot.sig` below `/pi`.
    pub fn start() -> Self {
        let mut server = Self::new(None);
        server.run();
        server
    }

    /// The same with the web page, and somebody who may give orders there.
    pub fn with_page(name: &str, password: &str) -> Self {
        let state = tempfile::tempdir_in(images::folder()).unwrap();
        let mut command = Command::new(program("http-boot"));
        command.args(["user", "add", name, "--role", "operate", "--state"]).arg(state.path());
        let mut server = Self::new(Some(state));
        let mut child = command.stdin(Stdio::piped()).spawn().expect("http-boot was built");
        writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
        assert!(child.wait().unwrap().success());
        server.run();
        server
    }

    fn new(state: Option<tempfile::TempDir>) -> Self {
        let root = tempfile::tempdir_in(images::folder()).unwrap();
        let pi = root.path().join("pi");
        std::fs::create_dir(&pi).unwrap();
        for name in ["boot.img", "boot.sig"] {
            std::fs::hard_link(Images::get().rescue.join(name), pi.join(name)).unwrap();
        }
        Server { root, port: 0, state, process: None, log: Arc::default() }
    }

    /// Starts the process; again on the same port after a [`Server::kill`].
    pub fn run(&mut self) {
        let mut command = Command::new(program("http-boot"));
        command
            .args(["serve", "--log-json", "--listen", &format!("127.0.0.1:{}", self.port), "--root"])
            .arg(self.root.path());
        if let Some(state) = &self.state {
            command.arg("--state").arg(state.path());
        }
        let mut process =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("http-boot was built");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        self.port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| listening_port(&line))
            .expect("http-boot says where it listens");
        let log = self.log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                log.lock().unwrap().extend(serde_json::from_str(&line).ok());
            }
        });
        self.process = Some(process);
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Puts a file there in one step; a reader sees the old one or the new one.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let temporary = self.root.path().join(".new");
        std::fs::write(&temporary, bytes).unwrap();
        std::fs::rename(&temporary, self.root.path().join(name)).unwrap();
    }

    /// Serves an OS image: the squashfs, its manifest and signature.
    pub fn put_os(&self, squashfs: &Path) {
        for path in
            [squashfs.into(), squashfs.with_extension("json"), squashfs.with_extension("json.minisig")]
        {
            let name = path.file_name().unwrap();
            std::fs::hard_link(&path, self.root.path().join(name)).unwrap();
        }
    }

    /// The URL of a file, as the guest sees it.
    pub fn url(&self, name: &str) -> String {
        format!("http://{HOST}:{}/{name}", self.port)
    }

    /// What the server knows of its devices.
    pub fn devices(&self) -> serde_json::Value {
        let url = format!("http://127.0.0.1:{}/v1/devices", self.port);
        let output = Command::new("curl").args(["-sf", &url]).output().expect("curl (Debian package: curl)");
        serde_json::from_slice(&output.stdout).expect("devices are JSON")
    }

    /// Waits until the server knows this of its devices: events arrive some time after what they tell of.
    pub fn wait_for_devices(&self, text: &str) {
        let began = Instant::now();
        while !self.devices().to_string().contains(text) {
            assert!(began.elapsed() < LIMIT, "no {text:?} in {}", self.devices());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The log's records so far.
    pub fn log(&self) -> Vec<serde_json::Value> {
        self.log.lock().unwrap().clone()
    }

    /// Powers a Pi on that boots from here, with more words on its command line.
    pub fn power_on(&self, append: &str) -> Machine {
        self.power_on_with(append, |_| {})
    }

    /// The same, of another kind.
    pub fn power_on_with(&self, append: &str, change: impl FnOnce(&mut Options)) -> Machine {
        let pi = Pi::new(Board::Pi4B, Serial(0x1000_0000_abcd_ef01), 1024);
        let source = Source::new("127.0.0.1", self.port, "pi").unwrap();
        let key = std::fs::read_to_string(&Images::get().boot_key).unwrap();
        let key = PublicKey::from_pem(&key).unwrap();
        let boot =
            http_boot(&pi, &source, &key, &mut Log::to_stderr()).expect("the bootloader takes boot.img");
        let mut options = Options::new(pi, boot);
        options.append = append.into();
        options.time_limit = LIMIT * 2;
        // Two would wait for each other where several machines share few cores.
        options.cpus = 1;
        change(&mut options);
        Machine::start(&options).expect("QEMU starts")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `…listening on http://127.0.0.1:41234…`, in whichever field of the log record.
fn listening_port(line: &str) -> Option<u16> {
    let (_, after) = line.split_once("127.0.0.1:")?;
    line.contains("listening").then_some(())?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Runs a command in the Pi by the system's own `ssh`.
pub fn ssh(machine: &Machine, command: &str) -> Output {
    machine.ssh_banner(LIMIT).expect("an SSH banner");
    Command::new("ssh")
        .args(ssh_options(machine))
        .args(["root@127.0.0.1", command])
        .stdin(Stdio::null())
        .output()
        .expect("ssh (Debian package: openssh-client)")
}

/// `ssh`'s words for this machine.
pub fn ssh_options(machine: &Machine) -> Vec<String> {
    let port = machine.ssh_port().unwrap().to_string();
    [vec!["-p".to_owned(), port], ssh_words(&Images::get().ssh_key)].concat()
}

/// `ssh`'s words for any machine.
pub fn ssh_words(key: &Path) -> Vec<String> {
    let key = key.display().to_string();
    let fixed =
        ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"];
    // A machine that is gone must not hold up a test until its limit.
    let fixed = fixed.into_iter().chain(["ConnectTimeout=60", "ServerAliveInterval=20"]);
    let mut words: Vec<String> =
        ["-F", "/dev/null", "-o", "IdentitiesOnly=yes", "-i", &key].map(String::from).into();
    words.extend(fixed.flat_map(|option| ["-o".to_owned(), option.to_owned()]));
    words
}

/// [`ssh`]; the command must succeed, and its output is given as text.
pub fn ssh_ok(machine: &Machine, command: &str) -> String {
    let output = ssh(machine, command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command}: {}\n{}{}\nconsole:\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr),
        machine.console()
    );
    text(&output.stdout)
}

/// Kills the processes whose command line ends so, as the out-of-memory killer would.
pub fn kill_9(machine: &Machine, command: &str) -> Output {
    ssh(machine, &format!("kill -KILL $(ps | awk '/{command}$/ {{ print $1 }}')"))
}

/// Waits until the boot says so; shows the console when it does not.
pub fn wait(machine: &Machine, what: &str, wanted: impl Fn(&BootStatus) -> bool) -> BootStatus {
    match machine.wait_for_report(wanted, LIMIT) {
        Ok(status) => status,
        Err(error) => panic!("{what}: {error:#}\nconsole:\n{}", machine.console()),
    }
}

/// Waits for a line on the console.
pub fn wait_console(machine: &Machine, pattern: &str) -> String {
    match machine.wait_for_console(pattern, LIMIT) {
        Ok(line) => line,
        Err(error) => panic!("{pattern}: {error:#}\nconsole:\n{}", machine.console()),
    }
}

/// The folder of this workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}
