//! SNTP against chrony's server, in a network namespace. No clock is set: that is the vm tier's. Needs root.
#![cfg(feature = "pid1")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use init::pid1::dns::resolver::Resolver;
use init::pid1::sntp::{self, SntpError};
use nix::sched::{CloneFlags, unshare};

const LIMIT: Duration = Duration::from_secs(60);

struct Chrony {
    process: Child,
    _folder: tempfile::TempDir,
}

impl Chrony {
    /// Serves this host's time and sets nothing (`-x`).
    fn start(local: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (needs root)");
        let up =
            Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip (package iproute2)");
        assert!(up.success());
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("chrony.conf");
        let pid = folder.path().join("pid");
        let text = format!(
            "{local}\nallow all\nbindaddress 127.0.0.1\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
            pid.display()
        );
        std::fs::write(&conf, text).unwrap();
        let process = Command::new("chronyd")
            .args(["-x", "-d", "-u", "root", "-f"])
            .arg(&conf)
            .stdin(Stdio::null())
            .spawn()
            .expect("chronyd (package chrony)");
        Chrony { process, _folder: folder }
    }
}

impl Drop for Chrony {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks until the server has started.
fn ask(wanted: impl Fn(&Result<Duration, SntpError>) -> bool) -> Result<Duration, SntpError> {
    let nobody = Resolver::new("/nonexistent/resolv.conf".into(), 53);
    let until = Instant::now() + LIMIT;
    loop {
        let result = sntp::ask("127.0.0.1", sntp::PORT, &nobody);
        if wanted(&result) {
            return result;
        }
        assert!(Instant::now() < until, "{result:?}");
        std::thread::yield_now();
    }
}

#[test]
fn chrony_says_the_time() {
    let _chrony = Chrony::start("local stratum 3");
    let told = ask(Result::is_ok).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(now.abs_diff(told) < Duration::from_secs(60), "{told:?} and {now:?}");
}

#[test]
fn a_server_whose_own_clock_is_not_set_is_not_believed() {
    let _chrony = Chrony::start("");
    let refused = ask(|result| !matches!(result, Err(SntpError::Network(_))));
    assert_eq!(refused, Err(SntpError::Unsynchronized));
}
