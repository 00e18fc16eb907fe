//! The marks by which people keep the boot from going on to the OS, and let it: files in `/run/lifeboat` that PID 1's
//! steps look at (`init/src/pid1/steps/hand_over.rs`).

use std::path::Path;

use anyhow::{Context, Result};

use crate::people::Person;
use crate::replace_file::replace_file;
use crate::run_dir::RunDir;

/// What [`go_on`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WentOn {
    /// Somebody held the boot.
    pub was_held: bool,
    /// A hand-over had failed and is tried again.
    pub had_failed: bool,
}

/// Keeps the boot from its hand-over, and the reboot timer from its end. Gives the mark's text: by whom, since when.
///
/// # Errors
/// When the mark cannot be written.
pub fn hold(run: &RunDir, who: &str) -> Result<String> {
    let text = format!("{who} since second {}", uptime_s());
    replace_file(&run.hold(), format!("{text}\n").as_bytes(), 0o644)?;
    // In this order: between the two the boot is held.
    remove(&run.go_on())?;
    Ok(text)
}

/// Lets the boot go on: no hold, and a hand-over does not wait for `excepted` sessions.
///
/// # Errors
/// When a mark cannot be written or taken away.
pub fn go_on(run: &RunDir, excepted: &[&Person]) -> Result<WentOn> {
    let names: String = excepted.iter().map(|person| format!("{}\n", person.session)).collect();
    replace_file(&run.go_on(), names.as_bytes(), 0o644)?;
    Ok(WentOn { was_held: remove(&run.hold())?, had_failed: remove(&run.hand_over_failed())? })
}

/// Seconds since the kernel's start, as the kernel's log counts them.
fn uptime_s() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

/// Whether it was there.
fn remove(path: &Path) -> Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::new(folder.path());
        assert!(hold(&run, "root from 192.0.2.7").unwrap().starts_with("root from 192.0.2.7 since second "));
        assert!(run.hold().exists());
        let me = Person { session: "40".into(), who: String::new(), programs: Vec::new(), own: true };
        assert_eq!(go_on(&run, &[&me]).unwrap(), WentOn { was_held: true, had_failed: false });
        assert!(!run.hold().exists());
        assert_eq!(std::fs::read_to_string(run.go_on()).unwrap(), "40\n");
        std::fs::write(run.hand_over_failed(), "ENOENT").unwrap();
        assert_eq!(go_on(&run, &[]).unwrap(), WentOn { was_held: false, had_failed: true });
        hold(&run, "root").unwrap();
        assert!(run.hold().exists() && !run.go_on().exists());
    }
}
