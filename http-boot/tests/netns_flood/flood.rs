//! A host that floods the server, and one that boots from it.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::site::{Site, Started};
use super::wire::within;

pub(crate) const SERVER: &str = "192.0.2.1";
pub(crate) const FLOODER: &str = "192.0.2.66";

/// A server with TLS and a database, a Pi and a host that floods.
pub(crate) struct Flooded {
    pub(crate) site: Site,
    pub(crate) server: Started,
}

/// Runs until this is dropped.
pub(crate) struct Flood(Arc<AtomicBool>, Vec<JoinHandle<()>>);

impl Flooded {
    /// A server with this file.
    pub(crate) fn start(file: &[u8]) -> Self {
        let mut site = Site::new();
        site.add_host("boot", Some("192.0.2.1/24"));
        site.add_host("pi", Some("192.0.2.2/24"));
        site.add_host("flooder", Some("192.0.2.66/24"));
        std::fs::create_dir_all(site.path("root")).unwrap();
        std::fs::write(site.path("root/boot.img"), file).unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_http-boot"))
            .args(["ca", "tls", "--name", SERVER])
            .current_dir(site.folder.path())
            .output();
        assert!(made.unwrap().status.success());
        let (tls, state) = (site.path("tls"), site.path("state"));
        let flags = format!(
            "--listen {SERVER}:80 --listen-tls {SERVER}:443 --tls-certificate {0}/server.pem --tls-key {0}/server.key --state {1}",
            tls.display(),
            state.display()
        );
        // As systemd starts services: the server has to ask for more by itself.
        let server = site.serve_with(
            "boot",
            &flags,
            "ulimit -S -n 1024; export RUST_LOG=warn,http_boot::server=info;",
        );
        Self { site, server }
    }

    /// curl at the Pi.
    pub(crate) fn curl(&self, words: &[&str], url: &str) -> Output {
        let pi = self.site.namespace("pi");
        let output = Command::new("ip")
            .args([
                "netns",
                "exec",
                &pi,
                "curl",
                "-sS",
                "--fail",
                "--max-time",
                "60",
                "--cacert",
                "tls/ca.pem",
            ])
            .args(words)
            .arg(url)
            .current_dir(self.site.folder.path())
            .output();
        output.expect("ip and curl (packages iproute2, curl)")
    }

    /// Fetches the file; whether it is whole.
    pub(crate) fn fetch(&self, scheme: &str) {
        let output = self.curl(&[], &format!("{scheme}://{SERVER}/boot.img"));
        assert!(output.status.success(), "{scheme}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == std::fs::read(self.site.path("root/boot.img")).unwrap(), "{scheme}");
    }

    /// `threads` of this at the host that floods, each again and again. The number is the thread's.
    pub(crate) fn flood(&self, threads: usize, act: impl Fn(usize) + Clone + Send + 'static) -> Flood {
        let end = Arc::new(AtomicBool::new(false));
        let start = |number| {
            let (end, act) = (end.clone(), act.clone());
            within(&self.site.namespace("flooder"), move || {
                while !end.load(Ordering::Relaxed) {
                    act(number);
                }
            })
        };
        let threads = (0..threads).map(start).collect();
        Flood(end, threads)
    }

    /// Of the server's `/proc/PID/status`, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.site.process(self.server))).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.site.process(self.server))).unwrap().count()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        for thread in self.1.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the flood broke");
        }
    }
}
