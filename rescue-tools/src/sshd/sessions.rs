//! `/run/lifeboat/sessions`: a file for each process that someone is logged in to, named by its id. PID 1 looks there
//! before it starts the machine anew.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::replace_file::make_folder;
use crate::run_dir::RunDir;

/// The file of the process `id`.
pub fn file(run: &RunDir, id: u32) -> PathBuf {
    run.sessions().join(id.to_string())
}

/// Writes down that someone is logged in to this process.
pub fn begin(run: &RunDir) -> Result<()> {
    make_folder(&run.sessions())?;
    let path = file(run, std::process::id());
    std::fs::write(&path, "").with_context(|| format!("writing {}", path.display()))
}

/// Nobody is logged in to the process `id` any more. It is no error if nobody was.
pub fn end(run: &RunDir, id: u32) {
    let _ = std::fs::remove_file(file(run, id));
}

/// The processes that serve a login, also those of a listener before this one, whose end they survived. Files of
/// processes that are no more are removed: a left-over would keep the machine from starting anew for ever.
pub fn sweep(run: &RunDir) -> Vec<u32> {
    let mut live = Vec::new();
    for entry in std::fs::read_dir(run.sessions()).into_iter().flatten().flatten() {
        match entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            Some(id) if is_session(Path::new("/proc"), id) => live.push(id),
            Some(id) => end(run, id),
            None => {}
        }
    }
    live
}

/// Whether the process `id` is a session's, and not another one that got the number since.
fn is_session(proc: &Path, id: u32) -> bool {
    let command = std::fs::read(proc.join(id.to_string()).join("cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).any(|word| word == b"sshd-session")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_overs_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::new(folder.path());
        begin(&run).unwrap();
        std::fs::write(run.sessions().join("4194305"), "").unwrap();
        // This process is none that serves a login, and no process has the other number.
        assert!(sweep(&run).is_empty());
        assert_eq!(std::fs::read_dir(run.sessions()).unwrap().count(), 0);
    }
}
