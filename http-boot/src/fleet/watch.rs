//! The file, read again when it has changed. A change that is wrong changes nothing: the fleet stays as it was, and the log says why.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use super::Fleet;
use super::check::Findings;
use super::file::Boot;
use crate::boot_tree::rendering::{Rendering, Text};
use crate::clients::Identity;
use crate::http::files::Root;

/// How often the file is looked at.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// A fleet's file, and what it last said that was right.
pub struct Watched {
    path: PathBuf,
    root: Arc<Root>,
    now: RwLock<Now>,
    gate: OnceLock<Gate>,
}

#[derive(Debug)]
struct Now {
    fleet: Arc<Fleet>,
    /// What the file looked like when it was read.
    version: Option<Version>,
    findings: Option<Findings>,
    /// Since when the file is right and yet does not count, for what is not in it: an interface without an address.
    refused: Option<Instant>,
}

/// How often such a file is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Takes what of a file takes effect elsewhere, or says all that is wrong with it, and has then taken nothing.
pub type Gate = Box<dyn Fn(&Fleet) -> Result<(), Findings> + Send + Sync>;

/// Enough to see that a file is another one.
type Version = (SystemTime, u64, u64);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("path", &self.path).field("now", &self.now).finish_non_exhaustive()
    }
}

impl Watched {
    /// Reads the file.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn open(path: &Path, root: Arc<Root>) -> Result<Self, Findings> {
        let version = version(path);
        let fleet = Arc::new(Fleet::read(path, Some(&root))?);
        let now = RwLock::new(Now { fleet, version, findings: None, refused: None });
        Ok(Self { path: path.into(), root, now, gate: OnceLock::new() })
    }

    /// From now on, a change counts only where this takes it, too.
    pub fn set_gate(&self, gate: Gate) {
        let _is_set_once = self.gate.set(gate);
    }

    /// The fleet as of the last file that was right.
    pub fn fleet(&self) -> Arc<Fleet> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).fleet.clone()
    }

    /// What is wrong with the file as it is now, if it is.
    pub fn findings(&self) -> Option<Findings> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).findings.clone()
    }

    /// Reads the file if it has changed. Held by `a_wrong_change_changes_nothing`.
    pub fn refresh(&self) {
        let version = version(&self.path);
        {
            let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
            let may_count_now = now.refused.is_some_and(|since| since.elapsed() >= TRY_AGAIN);
            if version == now.version && !may_count_now {
                return;
            }
        }
        let mut refused = None;
        let read = Fleet::read(&self.path, Some(&self.root));
        let read = read.and_then(|fleet| match self.gate.get().map(|gate| gate(&fleet)) {
            Some(Err(findings)) => {
                refused = Some(Instant::now());
                Err(findings.at(&self.path))
            }
            _ => Ok(fleet),
        });
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let is_said = now.version == version && read.as_ref().err() == now.findings.as_ref();
        (now.version, now.refused) = (version, refused);
        match read {
            Ok(fleet) => {
                tracing::info!(
                    devices = fleet.devices().len(),
                    "{} has changed and is right: it counts now",
                    self.path.display()
                );
                now.fleet = Arc::new(fleet);
                now.findings = None;
            }
            Err(_) if is_said => {}
            Err(findings) => {
                for finding in &findings.0 {
                    tracing::error!("{finding}");
                }
                tracing::error!(
                    "{} has changed and is wrong: what it said before goes on counting",
                    self.path.display()
                );
                now.findings = Some(findings);
            }
        }
    }
}

fn version(path: &Path) -> Option<Version> {
    use std::os::unix::fs::MetadataExt;
    let file = path.metadata().ok()?;
    Some((file.modified().ok()?, file.len(), file.ino()))
}

impl Rendering for Watched {
    fn refuses(&self, who: Identity) -> bool {
        self.fleet().assignment(who).boot == Some(Boot::Local)
    }

    fn render(&self, who: Identity, text: Text, shared: &[u8]) -> Option<Vec<u8>> {
        let fleet = self.fleet();
        let assignment = fleet.assignment(who);
        let shared = std::str::from_utf8(shared).ok()?;
        let rendered = match text {
            Text::Config if assignment.config.is_empty() => return None,
            Text::CommandLine if assignment.cmdline.is_empty() && assignment.keys.is_empty() => return None,
            Text::Config => assignment.config(shared),
            Text::CommandLine => assignment.cmdline(shared),
        };
        // A device that the file names was checked; one of which less is known may lack what a placeholder wants.
        rendered
            .map(String::into_bytes)
            .inspect_err(|error| tracing::error!("making {text:?} for {who}: {error}"))
            .ok()
    }
}
