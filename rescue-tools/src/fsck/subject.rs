//! What on a device there is to check, and what to do instead where there is nothing.

use crate::disk::filesystem::FileSystem;
use crate::disk::inventory::{Device, Inventory};
use crate::disk::traces;

/// What a device is to a checker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A file system that can be checked.
    FileSystem(FileSystem),
    /// A file system whose beginning is lost: a copy of its superblock is all that tells. It may be an old one, of what
    /// was there before something that nothing recognises.
    Lost(FileSystem),
    /// Something else; what to do.
    Other(String),
}

/// Tells what is on `device`, by `kind` if a person said it, and by what is left where its beginning is lost.
pub fn subject(device: &Device, kind: Option<FileSystem>) -> Subject {
    if let Some(kind) = kind {
        return Subject::FileSystem(kind);
    }
    let path = device.path.display();
    let Some(content) = device.content_kind() else {
        if device.table.is_some() {
            return Subject::Other(format!("{path} has a partition table, and no partition"));
        }
        let trace = traces::find(&device.path, device.size);
        return match trace.and_then(|trace| FileSystem::from_name(trace.kind)) {
            Some(system) => Subject::Lost(system),
            None => Subject::Other(format!(
                "no file system was recognised on {path}; if you know what was there: rescue fsck --type KIND {path}"
            )),
        };
    };
    if let Some(system) = FileSystem::from_name(content) {
        return Subject::FileSystem(system);
    }
    Subject::Other(match content {
        "crypto_LUKS" => format!("it is encrypted: `rescue unlock {path}`, then check what is inside"),
        "LVM2_member" => {
            "it is a part of LVM: `lvm vgchange --activate y`, then check its logical volumes".into()
        }
        "linux_raid_member" => {
            "it is a part of a RAID: `mdadm --assemble --scan`, then check the array".into()
        }
        "swap" => "it is swap: there is nothing to check (`mkswap` makes it anew)".into(),
        other => format!("it holds {other}, which is not checked here"),
    })
}

/// The devices to check for one that was named: a disk stands for its partitions.
pub fn expand(device: &Device) -> Vec<&Device> {
    let partitions: Vec<&Device> = device.partitions().collect();
    match (device.content_kind(), partitions.is_empty()) {
        (None, false) => partitions,
        _ => vec![device],
    }
}

/// All devices with a file system, or with what is left of one.
pub fn all(inventory: &Inventory) -> Vec<&Device> {
    let devices = inventory.all().into_iter();
    let stands_for_itself = |device: &&Device| device.content.is_some() || device.children.is_empty();
    devices
        .filter(stands_for_itself)
        .filter(|device| !matches!(subject(device, None), Subject::Other(_)))
        .collect()
}
