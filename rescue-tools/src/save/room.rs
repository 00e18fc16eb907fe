//! Where an image would go: on which file system, whether there is room, and that it is not the disk that is read.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use init::size::human;

use crate::disk::inventory::{Device, Inventory};
use crate::memory;
use crate::refusal::refused;

/// What is in RAM, or may be: what is written there is gone with the machine, and takes its memory.
const IN_RAM: [&str; 4] = ["rootfs", "ramfs", "tmpfs", "overlay"];
/// What the machine keeps for itself.
const FLOOR: u64 = 64 << 20;

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    at: PathBuf,
    kind: String,
    source: PathBuf,
}

/// Looks at the folder that is to get `needed` bytes of an image of `device`. What may be too little room on a disk is a
/// line of warning: an image has holes.
///
/// # Errors
/// A refusal: it is on the same disk, or in RAM that does not have so much to spare.
pub fn check(inventory: &Inventory, device: &Device, folder: &Path, needed: u64) -> Result<Option<String>> {
    let folder =
        folder.canonicalize().with_context(|| format!("looking for the folder {}", folder.display()))?;
    let table = std::fs::read("/proc/self/mountinfo").context("reading the table of mounts")?;
    let mounts = parse(&table);
    let mount =
        holder(&mounts, &folder).with_context(|| format!("finding where {} is mounted", folder.display()))?;
    if let Some(disk) = same_disk(inventory, device, mount) {
        return Err(refused(format!(
            "refusing to save {} to {}: that is on the same disk ({}); use another disk, or a stream: ssh pi rescue \
             save {} > FILE",
            device.path.display(),
            folder.display(),
            disk.display(),
            device.path.display()
        )));
    }
    let stat =
        rustix::fs::statvfs(&folder).with_context(|| format!("looking for room in {}", folder.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let in_ram = IN_RAM.contains(&mount.kind.as_str());
    let room = if in_ram {
        let spare = memory::available().saturating_sub(FLOOR);
        // A ramfs has no limit and says 0.
        if free == 0 { spare } else { spare.min(free) }
    } else {
        free
    };
    if room >= needed {
        return Ok(None);
    }
    let figures = format!("the image may take {}, there is room for {}", human(needed), human(room));
    if in_ram {
        return Err(refused(format!(
            "refusing to save {} to {}: that is in RAM, {figures}; use a mounted disk, or a stream: ssh pi rescue save \
             {} > FILE",
            device.path.display(),
            folder.display(),
            device.path.display()
        )));
    }
    Ok(Some(format!("{}: {figures}: it may not fit, unless much of the disk is empty", folder.display())))
}

/// The mount that a path is in: the last one of those furthest down.
fn holder<'m>(mounts: &'m [Mount], path: &Path) -> Option<&'m Mount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.at))
        .max_by_key(|mount| mount.at.components().count())
}

/// The device of the mount, if it is on a disk that `device` is on too.
fn same_disk(inventory: &Inventory, device: &Device, mount: &Mount) -> Option<PathBuf> {
    let disks =
        inventory.devices.iter().filter(|disk| disk.subtree().iter().any(|one| one.number == device.number));
    let source = mount.source.canonicalize().unwrap_or_else(|_| mount.source.clone());
    disks
        .flat_map(Device::subtree)
        .find(|one| one.path == mount.source || one.path == source || one.mounts.contains(&mount.at))
        .map(|one| one.path.clone())
}

fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = words.iter().position(|word| *word == b"-")?;
    Some(Mount {
        at: unescape(words.get(4)?),
        kind: String::from_utf8_lossy(words.get(dash + 1)?).into_owned(),
        source: unescape(words.get(dash + 2)?),
    })
}

/// `\040` is a space, and so on.
fn unescape(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal.and_then(|digits| u8::from_str_radix(&String::from_utf8_lossy(digits), 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::lsblk;

    const TABLE: &[u8] = b"1 1 0:2 / / rw - rootfs rootfs rw\n\
        30 1 254:2 / /mnt/a\\040b rw,noatime shared:1 - ext4 /dev/vdi3 rw\n\
        31 30 0:40 / /mnt/a\\040b/in rw - fuse.sshfs me@host:/ rw\nnonsense\n";

    #[test]
    fn a_path_is_in_the_nearest_mount() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 3);
        for (path, kind) in [
            ("/root", "rootfs"),
            ("/mnt/a b/x", "ext4"),
            ("/mnt/a b/in/x", "fuse.sshfs"),
            ("/mnt/a b2", "rootfs"),
        ] {
            assert_eq!(holder(&mounts, Path::new(path)).unwrap().kind, kind, "{path}");
        }
    }

    #[test]
    fn the_same_disk_is_known_by_any_part_of_it() {
        let inventory = Inventory {
            devices: lsblk::parse(include_bytes!("../disk/fixtures/lsblk-stacked.json")).unwrap(),
        };
        let mounts = parse(TABLE);
        for (name, found) in [("vdi", true), ("vdi1", true), ("vdi3", true), ("vdf", false), ("vda", false)] {
            let device = inventory.named(name).unwrap();
            assert_eq!(same_disk(&inventory, device, &mounts[1]).is_some(), found, "{name}");
        }
    }

    #[test]
    fn no_room_in_ram_is_refused_and_on_a_disk_told() {
        let inventory = Inventory {
            devices: lsblk::parse(include_bytes!("../disk/fixtures/lsblk-stacked.json")).unwrap(),
        };
        let device = inventory.named("vdf").unwrap();
        let error = check(&inventory, device, Path::new("/dev/shm"), 1 << 60).unwrap_err().to_string();
        assert!(
            error.contains("in RAM") && error.contains("1048576.0 TiB") && error.lines().count() == 1,
            "{error}"
        );
        assert_eq!(check(&inventory, device, Path::new("/dev/shm"), 4096).unwrap(), None);
        assert!(check(&inventory, device, Path::new("/no/such"), 1).is_err());
    }

    proptest! {
        #[test]
        fn any_table_is_read(table in prop::collection::vec(prop_oneof![any::<u8>(), Just(b' '), Just(b'\\'), Just(b'-')], 0..300)) {
            let _ = parse(&table);
        }
    }
}
