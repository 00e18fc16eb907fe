//! What `--state DIR` adds to a site: what was seen, people and orders, kept on disk.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::Semaphore;

use crate::devices::{Devices, Serial};
use crate::dhcp::findings::Findings;
use crate::orders::Orders;
use crate::people::login_limit::LoginLimit;
use crate::people::setup_code::SetupCode;
use crate::store::findings::Found;
use crate::store::prune::Policy;
use crate::store::recorder::Recorder;
use crate::store::seen::{Seen, Sighting};
use crate::store::{Store, now, people, to_millis};

/// How many passwords are checked at once: each takes 19 MiB and some hundred milliseconds of a core.
const HASHING: usize = 2;
/// How long the stop waits for what was seen last to be written.
const FLUSH: Duration = Duration::from_secs(3);
/// No version of a bootloader is longer than this many characters.
const VERSION_LIMIT: usize = 128;

/// Whether a folder, which need not be there yet, is in another one.
fn is_below(folder: &Path, root: &Path) -> bool {
    let real =
        |path: &Path| if path == Path::new("") { Path::new(".").canonicalize() } else { path.canonicalize() };
    let existing = folder.ancestors().find_map(|ancestor| real(ancestor).ok());
    matches!((existing, real(root)), (Some(inner), Ok(outer)) if inner.starts_with(&outer))
}

/// All of it.
#[derive(Debug)]
pub struct State {
    /// The database.
    pub store: Store,
    /// What writes reports into it.
    pub recorder: Recorder,
    /// People's orders.
    pub orders: Orders,
    /// Who tried to log in how often.
    pub logins: LoginLimit,
    /// By which the first person is added.
    pub setup_code: SetupCode,
    /// Permits to hash a password.
    pub hashing: Arc<Semaphore>,
    /// Held for as long as the server runs.
    _lock: File,
}

impl State {
    /// Opens the database in `folder` and takes up where an earlier run stopped. `root` is the folder whose files are
    /// served.
    ///
    /// # Errors
    /// When the database cannot be used, or would be served.
    pub fn open(folder: &Path, root: &Path, policy: Policy, devices: &Devices) -> Result<Self> {
        if is_below(folder, root) {
            bail!(
                "the state folder {} is in the root {}, which is for everyone: name another with --state",
                folder.display(),
                root.display()
            );
        }
        let store = Store::open(folder)?;
        let lock = store.lock()?;
        devices.restore(&store).context("reading what was seen before")?;
        let state = Self {
            orders: Orders::load(&store).context("reading the orders")?,
            recorder: Recorder::start(&store, policy)?,
            logins: LoginLimit::default(),
            setup_code: SetupCode::new()?,
            hashing: Arc::new(Semaphore::new(HASHING)),
            store,
            _lock: lock,
        };
        if state.store.read(|t| people::is_empty(t))? {
            tracing::warn!(
                "nobody can log in yet: run `http-boot user add NAME --role operate --state {}`, or type the set-up code {} on the page /ui/",
                folder.display(),
                state.setup_code.to_print()
            );
        }
        Ok(state)
    }

    /// Records an event behind the live memory. `is_newest`: it is of the device's newest boot.
    pub fn saw_event(self: &Arc<Self>, seen: Seen, is_newest: bool) {
        if is_newest && self.orders.note_boot(&seen.serial, &seen.event.boot_id) {
            self.keep_orders(seen.serial.clone());
        }
        self.recorder.event(seen);
    }

    /// Records a bootloader that asked for a file.
    pub fn saw_bootloader(&self, address: IpAddr, version: &str) {
        let version = version.chars().filter(|c| !c.is_control()).take(VERSION_LIMIT).collect();
        self.recorder.bootloader(Sighting { address, version, at: now() });
    }

    /// Records from now on what DHCP finds to be wrong.
    pub fn keep_findings(self: &Arc<Self>, findings: &Findings) {
        let state = self.clone();
        findings.keep_with(Box::new(move |finding| {
            let Ok(cause) = serde_json::to_string(&finding.cause) else { return };
            state.recorder.finding(Found {
                cause,
                text: finding.cause.to_string(),
                first: to_millis(finding.first),
                last: to_millis(finding.last),
                count: finding.count,
            });
        }));
    }

    fn keep_orders(self: &Arc<Self>, serial: Serial) {
        let state = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = state.orders.keep(&state.store, &serial) {
                tracing::error!("writing down that {serial} has followed its order: {error:#}");
            }
        });
    }

    /// Writes what is still to be written.
    pub fn finish(&self) {
        self.recorder.flush(FLUSH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_in_the_root_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (root, other) = (folder.path().join("root"), folder.path().join("other"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&root, other.join("link")).unwrap();
        for inside in [root.clone(), root.join("a/b"), other.join("link/state"), root.join("../root/x")] {
            assert!(is_below(&inside, &root), "{}", inside.display());
        }
        for outside in [other.clone(), other.join("state"), folder.path().join("roots"), root.join("..")] {
            assert!(!is_below(&outside, &root), "{}", outside.display());
        }
    }
}
