//! Which mounts are `rescue mount`'s: only those are taken away by `rescue umount --all`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::table::Mount;
use crate::replace_file::replace_file;
use crate::run_dir::RunDir;

/// The file below `/run/lifeboat`.
const FILE: &str = "mounts.json";

/// One mount; what else was mounted below it goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    source: PathBuf,
    at: PathBuf,
}

/// Keeps that `source` was mounted `at` by us.
pub fn add(run: &RunDir, source: &Path, at: &Path) -> Result<()> {
    let mut records = read(run);
    let record = Record { source: source.into(), at: at.into() };
    records.retain(|known| known.at != record.at);
    records.push(record);
    let text = serde_json::to_vec(&records).context("keeping what is mounted")?;
    replace_file(&run.path().join(FILE), &text, 0o600)
}

/// The folders of ours that are mounted still, the newest first. One that somebody mounted something else on is not ours.
pub fn ours(run: &RunDir, mounts: &[Mount]) -> Vec<PathBuf> {
    let is_there = |record: &Record| {
        let top = mounts.iter().rev().find(|mount| mount.at == record.at);
        top.is_some_and(|mount| mount.source == record.source)
    };
    read(run).into_iter().rev().filter(is_there).map(|record| record.at).collect()
}

/// A file that is missing or broken keeps nothing.
fn read(run: &RunDir) -> Vec<Record> {
    let text = std::fs::read(run.path().join(FILE)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, at: &str) -> Mount {
        Mount { at: at.into(), source: source.into(), kind: "ext4".into(), writable: false }
    }

    #[test]
    fn only_what_is_ours_and_still_there() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::new(folder.path());
        assert!(ours(&run, &[mount("/dev/sda1", "/mnt/a")]).is_empty());
        add(&run, Path::new("/dev/sda1"), Path::new("/mnt/a")).unwrap();
        add(&run, Path::new("/dev/sda2"), Path::new("/mnt/b")).unwrap();
        add(&run, Path::new("/dev/sda3"), Path::new("/mnt/c")).unwrap();
        let mounts = [
            mount("/dev/sda1", "/mnt/a"),
            mount("/dev/sda3", "/mnt/c"),
            mount("/dev/sdb1", "/mnt/c"),
            mount("/dev/sdc1", "/mnt/stranger"),
            mount("/dev/sda2", "/mnt/b"),
        ];
        assert_eq!(ours(&run, &mounts), [PathBuf::from("/mnt/b"), PathBuf::from("/mnt/a")]);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(ours(&run, &mounts).is_empty());
    }
}
