//! Unmounting, and who is in the way.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::table;
use crate::refusal::refused;

/// As many processes are named.
const NAMED: usize = 5;

/// What is mounted at `folder` and below it, the last mounted first.
pub fn places(folder: &Path) -> Result<Vec<PathBuf>> {
    let mounts = table::read()?;
    Ok(table::below(&mounts, folder).iter().map(|mount| mount.at.clone()).collect())
}

/// Unmounts what is at `folder` and below it, the last mounted first; the places, in that order.
pub fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let places = places(folder)?;
    for at in &places {
        one(at)?;
    }
    Ok(places)
}

fn one(at: &Path) -> Result<()> {
    match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EBUSY) => {
            let users = users(Path::new("/proc"), at);
            let who = if users.is_empty() { "nobody that shows".to_string() } else { users.join(", ") };
            Err(refused(format!("{} is in use by {who}: `cd /` there, or end it", at.display())))
        }
        Err(error) => Err(error).with_context(|| format!("unmounting {}", at.display())),
    }
}

/// The processes with a working folder, a root or an open file at `at` or below it: "sh (812)".
fn users(proc: &Path, at: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let processes = entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    let using = processes.filter(|entry| uses(&entry.path(), at));
    let name = |entry: std::fs::DirEntry| {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        format!("{} ({})", name.trim().replace(char::is_control, "?"), entry.file_name().display())
    };
    using.take(NAMED).map(name).collect()
}

fn uses(process: &Path, at: &Path) -> bool {
    let leads_there = |link: PathBuf| std::fs::read_link(link).is_ok_and(|path| path.starts_with(at));
    let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    leads_there(process.join("cwd"))
        || leads_there(process.join("root"))
        || leads_there(process.join("exe"))
        || files.map(|file| file.path()).any(leads_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_a_folder_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let me = std::process::id().to_string();
        assert!(!users(Path::new("/proc"), &folder).iter().any(|user| user.contains(&me)));
        let _open = std::fs::File::create(folder.join("open")).unwrap();
        let found = users(Path::new("/proc"), &folder);
        assert!(found.len() == 1 && found[0].ends_with(&format!("({me})")), "{found:?}");
    }

    #[test]
    fn nothing_mounted_is_nothing_to_do() {
        let folder = tempfile::tempdir().unwrap();
        assert!(below(folder.path()).unwrap().is_empty());
    }
}
