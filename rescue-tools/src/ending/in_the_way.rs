//! What a reboot would cut off: other people's work, writes to disks, disks that are mounted for writing.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::people::people;
use crate::run_dir::RunDir;

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Obstacle {
    /// Someone else is logged in.
    Session {
        /// Who, and what they do.
        who: String,
    },
    /// A program has a block device open for writing.
    Write {
        /// Its process id.
        process: u32,
        /// Its command line.
        command: String,
        /// The device.
        device: PathBuf,
    },
    /// A file system on a disk is mounted for writing.
    Mount {
        /// The device.
        device: String,
        /// Where.
        place: String,
        /// The kind of file system.
        filesystem: String,
    },
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Obstacle::Session { who } => write!(f, "{who}"),
            Obstacle::Write { process, command, device } => {
                write!(f, "{command} (process {process}) has {} open for writing", device.display())
            }
            Obstacle::Mount { device, place, filesystem } => {
                write!(f, "{device} is mounted on {place} ({filesystem}): it is written out and unmounted")
            }
        }
    }
}

/// All of it.
pub fn find(run: &RunDir) -> Vec<Obstacle> {
    let others = people(run).into_iter().filter(|person| !person.own);
    let sessions = others.map(|person| Obstacle::Session { who: person.describe() });
    let mounted = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    sessions.chain(writers(Path::new("/proc"))).chain(mounts(&mounted, Path::new("/sys"))).collect()
}

/// Every process but this one with a block device that it may write to. The kernel's own use (mounts, mappings) is none of
/// a process.
fn writers(proc: &Path) -> Vec<Obstacle> {
    let me = std::process::id();
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<Obstacle> = Vec::new();
    for id in ids.filter(|id| *id != me && *id != 1) {
        let folder = proc.join(id.to_string());
        for open in std::fs::read_dir(folder.join("fd")).into_iter().flatten().flatten() {
            let is_disk = std::fs::metadata(open.path())
                .is_ok_and(|file| file.file_type().is_block_device() && file.rdev() != 0);
            if is_disk && is_open_for_writing(&folder.join("fdinfo").join(open.file_name())) {
                let device = std::fs::read_link(open.path()).unwrap_or_default();
                let obstacle = Obstacle::Write { process: id, command: command(&folder), device };
                if !found.contains(&obstacle) {
                    found.push(obstacle);
                }
            }
        }
    }
    found
}

/// proc_pid_fdinfo(5): `flags:` and the octal figure of open(2).
fn is_open_for_writing(fdinfo: &Path) -> bool {
    let text = std::fs::read_to_string(fdinfo).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 0o3 != 0)
}

fn command(folder: &Path) -> String {
    let bytes = std::fs::read(folder.join("cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace(|character: char| character.is_control(), " ");
    text.trim().chars().take(60).collect()
}

/// proc_pid_mounts(5). An OS image in RAM is on a loop device too, and no disk.
fn mounts(mounts: &str, sys: &Path) -> Vec<Obstacle> {
    let mount = |line: &str| {
        let mut fields = line.split(' ');
        let device = fields.next().filter(|device| device.starts_with("/dev/"))?;
        let (place, filesystem, options) = (fields.next()?, fields.next()?, fields.next()?);
        let for_writing = options.split(',').any(|option| option == "rw");
        let mount = Obstacle::Mount {
            device: device.to_string(),
            place: place.replace("\\040", " "),
            filesystem: filesystem.to_string(),
        };
        (for_writing && !is_in_ram(device, sys)).then_some(mount)
    };
    mounts.lines().filter_map(mount).collect()
}

fn is_in_ram(device: &str, sys: &Path) -> bool {
    let name = device.rsplit('/').next().unwrap_or_default();
    let backing = std::fs::read_to_string(sys.join("block").join(name).join("loop/backing_file"));
    backing.is_ok_and(|file| file.starts_with("/run/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_mounted_for_writing_and_no_images_in_ram() {
        let sys = tempfile::tempdir().unwrap();
        let backing = sys.path().join("block/loop0/loop");
        std::fs::create_dir_all(&backing).unwrap();
        std::fs::write(backing.join("backing_file"), "/run/lifeboat/image/root.squashfs\n").unwrap();
        let text = "proc /proc proc rw 0 0\n/dev/loop0 /sysroot squashfs rw 0 0\n/dev/sda1 /mnt/my\\040disk ext4 rw,relatime 0 0\n/dev/sda2 /b ext4 ro 0 0\nshort\n";
        let found = mounts(text, sys.path());
        let words: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["/dev/sda1 is mounted on /mnt/my disk (ext4): it is written out and unmounted"]);
        assert_eq!(serde_json::to_value(&found[0]).unwrap()["kind"], "mount");
    }

    #[test]
    fn the_access_mode_of_an_open_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("3");
        for (flags, writing) in [("0100000", false), ("0100001", true), ("02100002", true), ("x", false)] {
            std::fs::write(&path, format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t1\n")).unwrap();
            assert_eq!(is_open_for_writing(&path), writing, "{flags}");
        }
    }

    #[test]
    fn the_real_proc_is_survived() {
        let _ = writers(Path::new("/proc"));
    }
}
