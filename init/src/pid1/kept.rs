//! What is kept from one boot to the next, where `lifeboat.state=` says where: which images were booted, and how many
//! boots in a row came to nothing. `rescue state` mounts the partition for the moment of each look and each word.
//!
//! A boot counts itself as one that came to nothing when it begins, and takes that back at its goal: before the hand-over,
//! when a person logs in, in a rescue that was asked for. So a power cut at any moment leaves either of two true files:
//! before the first word this boot has not been, behind it it has come to nothing, behind the second it has arrived. The
//! worst that a cut costs is one reboot more or less.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::rollback::Serials;
use super::{file, rollback};
use crate::disk_file::DiskFile;
use crate::state::State;
use crate::status::SESSIONS_DIR;

/// What this boot knows of it, for a worker that is started again.
const KEPT_PATH: &str = "/run/lifeboat/kept.json";
/// The verb waits up to 10 seconds for a disk; what takes so long hangs in the kernel.
const LIMIT: Duration = Duration::from_secs(30);
/// A wait has to have an end; this one begins again.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// What this boot knows of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The newest serial of each image that an earlier boot has started.
    pub serials: Serials,
    /// How many boots in a row came to nothing before this one.
    pub unfinished: u32,
    /// Whether a person was here in this boot: it has come to something.
    pub visited: bool,
}

impl Kept {
    /// What the boot knew before its worker was started again.
    pub fn recall() -> Option<Self> {
        file::read_json(Path::new(KEPT_PATH))
    }

    /// Reads the state in `file`, once in a boot. A file that is missing or damaged is an empty state, and said.
    ///
    /// # Errors
    /// When the disk is not there, or cannot be read.
    pub fn read(file: &DiskFile) -> Result<Self> {
        if let Some(kept) = Self::recall() {
            return Ok(kept);
        }
        let json = rescue_state("get", file, &[])?;
        let state =
            State::parse(&json).map_err(|reason| anyhow::anyhow!("what rescue state says: {reason}"))?;
        let kept = Kept { serials: state.serials, unfinished: state.unfinished, visited: false };
        kept.remember()?;
        Ok(kept)
    }

    fn remember(&self) -> Result<()> {
        file::replace_json(Path::new(KEPT_PATH), self)
    }
}

/// Counts this boot as one that comes to nothing, or with `0` as one that does not; the images that it has seen are not
/// written. What is known already is never lowered (`rescue state put`).
///
/// # Errors
/// When the file cannot be written; the old one is then still there.
pub fn count(file: &DiskFile, unfinished: u32) -> Result<()> {
    write(file, &State { unfinished, ..State::default() })
}

/// The boot is about to reach its goal: nothing is counted any more, and the images are those that were booted.
///
/// # Errors
/// As [`count`].
pub fn finish(file: &DiskFile) -> Result<()> {
    write(file, &State { serials: rollback::seen(), ..State::default() })
}

fn write(file: &DiskFile, state: &State) -> Result<()> {
    rescue_state("put", file, &serde_json::to_vec(state).context("writing the state")?).map(drop)
}

/// Takes back that this boot came to nothing as soon as somebody logs in: a thread waits for it.
pub fn count_none_once_somebody_logs_in(file: DiskFile) {
    let somebody = || std::fs::read_dir(SESSIONS_DIR).ok()?.flatten().next().map(drop);
    let wait = move || {
        loop {
            match file::wait_for(Path::new(SESSIONS_DIR), LOOK_AGAIN, somebody) {
                Ok(Some(())) => break,
                Ok(None) => {}
                Err(error) => return tracing::warn!("waiting for somebody to log in: {error:#}"),
            }
        }
        let visited = Kept { visited: true, ..Kept::recall().unwrap_or_default() };
        if let Err(error) = visited.remember().and_then(|()| count(&file, 0)) {
            tracing::warn!(
                "somebody is here, but this boot goes on counting as one that came to nothing: {error:#}"
            );
        }
    };
    if let Err(error) = std::thread::Builder::new().name("visitors".into()).spawn(wait) {
        tracing::warn!("waiting for somebody to log in: {error}");
    }
}

/// Runs `rescue state VERB FILE`; what it says on standard error is logged.
fn rescue_state(verb: &str, file: &DiskFile, input: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("/rescue")
        .args(["state", verb, &file.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running rescue state")?;
    let process = Pid::from_raw(child.id() as i32);
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).context("telling rescue state")?;
    }
    let (done, ended) = channel();
    // A disk that hangs holds its process in the kernel, and must not hold the boot.
    std::thread::Builder::new()
        .name("state".into())
        .spawn(move || done.send(child.wait_with_output()))
        .context("waiting for rescue state")?;
    let Ok(output) = ended.recv_timeout(LIMIT) else {
        let _ = kill(process, Signal::SIGKILL);
        bail!("{file} has not answered within {} s", LIMIT.as_secs());
    };
    let output = output.context("waiting for rescue state")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(|line| line.trim_start_matches("rescue state: ")).collect();
    ensure!(output.status.success(), "{}", said.last().unwrap_or(&"rescue state failed and did not say why"));
    said.iter().for_each(|line| tracing::warn!("{line}"));
    Ok(output.stdout)
}
