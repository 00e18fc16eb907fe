//! Which device has the root.

use std::path::Path;

use anyhow::Result;

use crate::disk::filesystem::FileSystem;
use crate::disk::inventory::{Device, Inventory};
use crate::disk::system::{self, System};
use crate::refusal::refused;
use crate::tool::Tool;
use crate::unlock::inside::NO_UDEV;

/// A root: the device, and what is on it.
#[derive(Clone, Debug)]
pub struct Root {
    /// The device.
    pub device: Device,
    /// Its file system.
    pub file_system: FileSystem,
    /// The Linux on it, as far as it could be seen before mounting.
    pub system: Option<System>,
}

/// The root that `word` names (`root=`'s forms), or the only Linux that there is.
///
/// # Errors
/// When there is none, or several, or it cannot be a root.
pub fn find(inventory: &Inventory, word: Option<&str>) -> Result<Root> {
    match word {
        Some(word) => named(inventory, word),
        None => only(inventory),
    }
}

/// Brings up the logical volume or the RAID that `word` names, which nothing does unasked. Where it names neither, or the
/// volume is up, nothing is done.
pub fn bring_up(word: &str) {
    let Some(path) = word.strip_prefix("/dev/").filter(|_| !Path::new(word).exists()) else { return };
    let volume = match path.strip_prefix("mapper/") {
        // In a name a dash of its own stands twice (lvm(8)).
        Some(mapped) => mapped.replace("--", "\0").replacen('-', "/", 1).replace('\0', "-"),
        None => path.to_owned(),
    };
    let is_array = path.starts_with("md/") || path.strip_prefix("md").is_some_and(is_number);
    if is_array {
        // By what the members say of themselves, that one alone.
        let known = Tool::new("mdadm").ok().and_then(|tool| tool.args(["--examine", "--scan"]).stdout().ok());
        let known = String::from_utf8_lossy(&known.unwrap_or_default()).into_owned();
        let uuid = known
            .lines()
            .find(|line| line.split_whitespace().nth(1).is_some_and(|name| same_array(name, word)));
        let uuid = uuid.and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("UUID=")));
        if let Some(uuid) = uuid {
            let uuid = format!("--uuid={uuid}");
            let _ = Tool::new("mdadm").map(|tool| tool.args(["--assemble", word, &uuid]).output());
        }
    } else if volume.split('/').count() == 2 {
        let lvm = Tool::new("lvm")
            .map(|tool| tool.args(["lvchange", "--config", NO_UDEV, "--activate", "y", &volume]));
        let _ = lvm.map(|tool| tool.output());
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `/dev/md/0` and `/dev/md0` are one.
fn same_array(one: &str, other: &str) -> bool {
    let plain = |name: &str| name.replacen("/dev/md/", "", 1).replacen("/dev/md", "", 1);
    plain(one) == plain(other)
}

fn named(inventory: &Inventory, word: &str) -> Result<Root> {
    let device = inventory.named(word)?;
    let path = device.path.display();
    let Some(file_system) = device.content_kind().and_then(FileSystem::from_name) else {
        return Err(refused(match device.content_kind() {
            Some("crypto_LUKS") => format!("{path} is encrypted: `rescue unlock {path}` first"),
            Some(other) => format!("{path} holds {other}, which is no root (`rescue disks` shows what is)"),
            None => {
                format!("{path} has no file system that is recognised (`rescue disks`, `rescue fsck {path}`)")
            }
        }));
    };
    Ok(Root { device: device.clone(), file_system, system: system::find(device) })
}

fn only(inventory: &Inventory) -> Result<Root> {
    let roots: Vec<Root> = inventory
        .all()
        .into_iter()
        // What an earlier try left where it is mounted for PID 1 is in nobody's way.
        .filter(|device| device.mounts.iter().all(|at| at.starts_with(super::prepare::ROOT)))
        .filter_map(|device| {
            let file_system = FileSystem::from_name(device.content_kind()?)?;
            Some(Root { device: device.clone(), file_system, system: Some(system::find(device)?) })
        })
        .collect();
    match <[Root; 1]>::try_from(roots) {
        Ok([root]) => Ok(root),
        Err(several) if !several.is_empty() => {
            let list: Vec<String> = several
                .iter()
                .map(|root| {
                    let name = root.system.as_ref().map_or("", |system| &system.name);
                    format!("{} ({name})", root.device.path.display())
                })
                .collect();
            Err(refused(format!("there are several: {}; which one?", list.join(", "))))
        }
        Err(_) => {
            let closed = |device: &&Device| {
                device.content_kind() == Some("crypto_LUKS") && device.holders().next().is_none()
            };
            Err(refused(match inventory.all().into_iter().find(closed) {
                Some(device) => format!(
                    "there is no Linux on a disk here, but {} is encrypted: `rescue unlock` first",
                    device.path.display()
                ),
                None => "there is no Linux on a disk here (`rescue disks` shows what there is)".into(),
            }))
        }
    }
}
