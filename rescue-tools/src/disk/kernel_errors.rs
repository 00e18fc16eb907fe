//! What the kernel's log says went wrong with disks, counted by device.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use serde::Serialize;

use crate::kernel_log::KMSG_PATH;

/// A record is no longer (the kernel's `CONSOLE_EXT_LOG_MAX`).
const RECORD: usize = 8192;

/// What went wrong with one device since the machine started, as far as the kernel's log goes back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// Reads that failed.
    pub read: u64,
    /// Writes and other orders that failed.
    pub write: u64,
    /// What the file system on it complained of.
    pub file_system: u64,
    /// The last line.
    pub last: String,
}

/// Reads the kernel's log as far as it goes; by the kernel's names of the devices.
pub fn read() -> BTreeMap<String, Errors> {
    count(records(Path::new(KMSG_PATH)).iter().map(String::as_str))
}

/// The records' first lines; empty where the log cannot be read.
fn records(path: &Path) -> Vec<String> {
    let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let Ok(mut log) = OpenOptions::new().read(true).custom_flags(flags).open(path) else {
        return Vec::new();
    };
    let mut records = Vec::new();
    let mut record = [0; RECORD];
    loop {
        match log.read(&mut record) {
            Ok(0) => break,
            // Each read gives one record: "6,123,4567,-;message".
            Ok(size) => {
                let text = String::from_utf8_lossy(record.get(..size).unwrap_or_default()).into_owned();
                let message = text.split_once(';').map_or(text.as_str(), |(_, message)| message);
                records.extend(message.lines().next().map(String::from));
            }
            // The oldest were overwritten meanwhile: the next read goes on with what is there.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    records
}

/// Counts the lines that tell of an error, by device.
pub fn count<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, Errors> {
    let mut devices: BTreeMap<String, Errors> = BTreeMap::new();
    for line in lines {
        let Some((device, kind)) = of_line(line) else { continue };
        let errors = devices.entry(device.to_string()).or_default();
        match kind {
            What::Read => errors.read += 1,
            What::Write => errors.write += 1,
            What::FileSystem => errors.file_system += 1,
        }
        errors.last = line.replace(char::is_control, "?");
    }
    devices
}

enum What {
    Read,
    Write,
    FileSystem,
}

/// What the lines of file systems begin with that name a device; those of FAT say "error" when it is one.
const FILE_SYSTEMS: [&str; 5] =
    ["EXT4-fs error (device ", "BTRFS error (device ", "BTRFS critical (device ", "FAT-fs (", "exFAT-fs ("];

/// `blk_status_to_errno`'s names, as block/blk-core.c prints them: "critical medium error, dev sda, sector 8 op …".
fn of_line(line: &str) -> Option<(&str, What)> {
    if let Some((_, after)) = line.split_once(" error, dev ") {
        let is_read = after.contains("(READ)") || !after.contains(" op 0x");
        return Some((name(after)?, if is_read { What::Read } else { What::Write }));
    }
    for start in FILE_SYSTEMS {
        if let Some(after) = line.strip_prefix(start) {
            let is_error = start.contains("device") || line.contains("error");
            return Some((name(after).filter(|_| is_error)?, What::FileSystem));
        }
    }
    let after = line.strip_prefix("XFS (").or_else(|| line.strip_prefix("F2FS-fs ("))?;
    let words = ["orruption", "I/O error", "nconsistent", "Mismatch", "nvalid", "shutdown", "run fsck"];
    let is_error = words.iter().any(|word| line.contains(word));
    Some((name(after).filter(|_| is_error)?, What::FileSystem))
}

/// The device's name at the beginning of `text`.
fn name(text: &str) -> Option<&str> {
    let end = text
        .find(|character: char| !character.is_ascii_alphanumeric() && character != '-' && character != '_');
    text.get(..end.unwrap_or(text.len())).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_are_counted_by_device() {
        let log = "I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 0\n\
            critical medium error, dev sda, sector 2056 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2\n\
            Buffer I/O error on dev sda, logical block 256, async page read\n\
            I/O error, dev mmcblk0, sector 8 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2\n\
            EXT4-fs error (device sda2): ext4_lookup:1857: inode #2: comm ls: deleted inode referenced: 12\n\
            EXT4-fs (sda2): mounted filesystem with ordered data mode\n\
            XFS (dm-0): Metadata corruption detected at xfs_agf_verify, xfs_agf block 0x32001\n\
            XFS (dm-0): Mounting V5 Filesystem\n\
            FAT-fs (sda1): Volume was not properly unmounted.\n\
            FAT-fs (sda1): error, fat_get_cluster: invalid cluster chain\n\
            BTRFS error (device sdb: state EA): bad tree block start\n";
        let errors = count(log.lines());
        let of = |name: &str| errors.get(name).map(|errors| (errors.read, errors.write, errors.file_system));
        assert_eq!(of("sda"), Some((2, 0, 0)));
        assert_eq!(of("mmcblk0"), Some((0, 1, 0)));
        assert_eq!(of("sda2"), Some((0, 0, 1)));
        assert_eq!(of("dm-0"), Some((0, 0, 1)));
        assert_eq!(of("sda1"), Some((0, 0, 1)));
        assert_eq!(of("sdb"), Some((0, 0, 1)));
        assert_eq!(errors.len(), 6);
        assert!(errors["sda"].last.contains("sector 2056"));
    }

    #[test]
    fn a_log_is_read_to_its_end() {
        let log = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(log.path(), "3,1,2,-;I/O error, dev sda, sector 1\n SUBSYSTEM=block\n").unwrap();
        assert_eq!(records(log.path()), ["I/O error, dev sda, sector 1"]);
        assert!(records(Path::new("/nowhere")).is_empty());
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "(XFS \\(|FAT-fs \\(|I/O error, dev |EXT4-fs error \\(device )?.{0,60}") {
            count([line.as_str()].into_iter());
        }
    }
}
