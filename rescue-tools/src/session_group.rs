//! The control group of one session (`init/src/cgroups.rs`): what a person starts is in it, the SSH server is not.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use init::cgroups::{PIDS_EACH, SESSIONS, memory_of_one};

use crate::memory;
use crate::sshd::oom;

/// A group, for as long as the session is there. What still runs in it then stays in it, and the next session's start looks
/// again.
#[derive(Debug)]
pub struct SessionGroup {
    folder: PathBuf,
    /// Whoever writes to it enters.
    entrance: File,
}

impl SessionGroup {
    /// Makes the group of the session that this process serves. `None`: there are no groups here, and the session goes on
    /// without one.
    pub fn new(kind: &str) -> Option<Self> {
        Self::make(Path::new(SESSIONS), kind, std::process::id())
    }

    fn make(sessions: &Path, kind: &str, id: u32) -> Option<Self> {
        if !sessions.is_dir() {
            return None;
        }
        sweep(sessions, Path::new("/proc"));
        let folder = sessions.join(format!("{kind}-{id}"));
        let made = std::fs::create_dir(&folder);
        if made.is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
            return None;
        }
        // A kernel may lack one or the other.
        let limit = memory_of_one(memory::total(), memory::available());
        for (file, value) in [("memory.max", limit), ("pids.max", PIDS_EACH.into())] {
            let path = folder.join(file);
            let _ = OpenOptions::new().write(true).open(path).and_then(|file| {
                rustix::io::write(&file, value.to_string().as_bytes()).map_err(io::Error::from)
            });
        }
        let entrance = OpenOptions::new().write(true).open(folder.join("cgroup.procs")).ok()?;
        Some(SessionGroup { folder, entrance })
    }

    /// The way of a new program into its session; without a group it still is what is killed first for memory.
    pub fn way_in(group: Option<&Self>) -> WayIn {
        let entrance = group.and_then(|group| group.entrance.try_clone().ok());
        WayIn { entrance, is_service: oom::is_ours() }
    }
}

impl Drop for SessionGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// What a program does between fork and exec.
#[derive(Debug)]
pub struct WayIn {
    entrance: Option<File>,
    is_service: bool,
}

impl WayIn {
    /// Makes this process one of the session, by bare system calls, which is all that may be there. What cannot be done
    /// does not keep a person out.
    pub fn enter(&self) {
        if let Some(entrance) = &self.entrance {
            let _ = rustix::io::write(entrance, b"0");
        }
        if self.is_service {
            oom::become_session();
        }
    }
}

/// Removes the groups of processes that are no more. The kernel keeps those in which something runs.
fn sweep(sessions: &Path, proc: &Path) {
    for entry in std::fs::read_dir(sessions).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.rsplit_once('-')).map(|(_, id)| id);
        if id.is_some_and(|id| id.parse::<u32>().is_ok() && !proc.join(id).exists()) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_made_limited_and_removed() {
        let sessions = tempfile::tempdir().unwrap();
        assert!(SessionGroup::make(&sessions.path().join("none"), "ssh", 1).is_none());
        let left_over = sessions.path().join("ssh-4194305");
        std::fs::create_dir(&left_over).unwrap();
        std::fs::create_dir(sessions.path().join("made-by-hand")).unwrap();
        // The kernel makes these with the folder.
        let own = sessions.path().join("ssh-1");
        std::fs::create_dir(&own).unwrap();
        for file in ["memory.max", "pids.max", "cgroup.procs"] {
            std::fs::write(own.join(file), "").unwrap();
        }
        let group = SessionGroup::make(sessions.path(), "ssh", 1).unwrap();
        assert!(!left_over.exists() && sessions.path().join("made-by-hand").exists());
        SessionGroup::way_in(Some(&group)).enter();
        let read = |file: &str| std::fs::read_to_string(own.join(file)).unwrap();
        assert_eq!((read("pids.max").as_str(), read("cgroup.procs").as_str()), ("512", "0"));
        assert!(read("memory.max").parse::<u64>().unwrap() >= 16 << 20);
        for file in ["memory.max", "pids.max", "cgroup.procs"] {
            std::fs::remove_file(own.join(file)).unwrap();
        }
        drop(group);
        assert!(!own.exists());
    }
}
