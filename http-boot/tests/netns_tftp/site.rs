//! A server and clients, each in a network namespace of its own, so that nothing of the host's is touched.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cable::{Cable, Weather};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) struct Site {
    pub(crate) folder: TempDir,
    namespace: String,
    pub(crate) cable: Option<Cable>,
    server: Option<Child>,
    /// The server's log, as far as it has come.
    log: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// The server is at 192.0.2.1, 192.0.2.9 and fd00::1, clients at 192.0.2.2 and fd00::2.
    pub(crate) fn new(weather: Weather, seed: u64) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("tb{}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        let mut site = Self { folder, namespace, cable: None, server: None, log: Arc::default() };
        let names = [site.client(), site.server()];
        names.iter().for_each(|name| run(&format!("ip netns add {name}")));
        site.cable = Some(Cable::lay([&names[0], &names[1]], weather, seed));
        for (name, addresses) in names
            .iter()
            .zip([&["192.0.2.2/24", "fd00::2/64"][..], &["192.0.2.1/24", "192.0.2.9/24", "fd00::1/64"]])
        {
            run(&format!("ip -n {name} link set lo up"));
            run(&format!("ip -n {name} link set wire up"));
            for address in addresses {
                let nodad = if address.contains(':') { " nodad" } else { "" };
                run(&format!("ip -n {name} addr add {address} dev wire{nodad}"));
            }
            run(&format!("ip -n {name} route add default dev wire"));
        }
        site
    }

    pub(crate) fn client(&self) -> String {
        format!("{}c", self.namespace)
    }

    pub(crate) fn server(&self) -> String {
        format!("{}s", self.namespace)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.path("root/tftp").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Starts `http-boot serve --tftp`, in front of it these words.
    pub(crate) fn spawn(&self, before: &[&str], arguments: &[&str]) -> Child {
        fs::create_dir_all(self.path("root/tftp")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.server()])
            .args(before)
            .args([env!("CARGO_BIN_EXE_http-boot"), "serve", "--log-json", "--root"])
            .arg(self.path("root"))
            .args(["--listen", "192.0.2.1:80", "--tftp"])
            .args(arguments)
            .env("RUST_LOG", "debug")
            .stderr(Stdio::piped())
            .spawn();
        child.expect("ip (package iproute2)")
    }

    pub(crate) fn serve(&mut self, arguments: &[&str]) {
        let mut child = self.spawn(&[], arguments);
        let stderr = child.stderr.take().unwrap();
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lock().unwrap().push(line);
            }
        });
        self.server = Some(child);
        self.wait_for_log("listening on http");
    }

    /// The first line with these words.
    pub(crate) fn wait_for_log(&self, words: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(line) = self.log().into_iter().find(|line| line.contains(words)) {
                return line;
            }
            assert!(Instant::now() < end, "{words:?} is not in the log: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a file that is fetched has begun.
    pub(crate) fn wait_for_bytes(&self, name: &str) {
        let end = Instant::now() + LIMIT;
        while fs::metadata(self.path(name)).map_or(0, |file| file.len()) == 0 {
            assert!(Instant::now() < end, "{name} does not come: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The lines with these words so far.
    pub(crate) fn log_of(&self, words: &str) -> Vec<String> {
        self.log().into_iter().filter(|line| line.contains(words)).collect()
    }

    /// Sends a signal to the server.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.server.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// A number from the server's `/proc/PID/status`.
    pub(crate) fn status(&self, field: &str) -> u64 {
        let pid = self.server.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn descriptors(&self) -> usize {
        let pid = self.server.as_ref().unwrap().id();
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    }

    /// Runs a shell line where the clients are, in the site's folder.
    pub(crate) fn at_client(&self, line: &str) -> Output {
        let limit = LIMIT.as_secs().to_string();
        let output = Command::new("ip")
            .args(["netns", "exec", &self.client(), "timeout", &limit, "sh", "-c", line])
            .current_dir(self.folder.path())
            .output();
        output.expect("ip (package iproute2)")
    }

    /// Whether a file that was fetched is the one that is served.
    pub(crate) fn same(&self, fetched: &str, served: &str) -> bool {
        fs::read(self.path(fetched)).ok() == fs::read(self.path("root/tftp").join(served)).ok()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            eprintln!("the server's last words: {:#?}", log.get(log.len().saturating_sub(30)..));
        }
        drop(self.cable.take());
        for namespace in [self.client(), self.server()] {
            if Path::new("/run/netns").join(&namespace).exists() {
                let _ = Command::new("ip").args(["netns", "del", &namespace]).status();
            }
        }
    }
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().expect("ip (package iproute2)");
    assert!(status.success(), "{line}: {status} (needs root)");
}

/// Bytes without a short period, so that a piece from a wrong place is noticed.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
