//! What stands on a device that was opened: LVM, RAID and btrfs come up, as somebody asked for it by opening it.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::open::{Opened, is_luks};
use crate::disk::inventory::{Device, Inventory, Kind};
use crate::disk::volumes::{self, VolumeGroup};
use crate::tool::Tool;

/// There is no udevd here that would make the nodes (lvm.conf(5)).
pub const NO_UDEV: &str =
    "activation { udev_sync=0 udev_rules=0 } devices { obtain_device_list_from_udev=0 }";
/// What stands on what came up may have to come up as well; deeper than this nobody stacks.
const DEPTH: usize = 4;

/// What came up, and what did not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inside {
    /// New devices that hold something to mount.
    pub devices: Vec<PathBuf>,
    /// One line each on what did not come up, and why.
    pub problems: Vec<String>,
}

/// Brings up what stands on these devices.
///
/// # Errors
/// When the devices cannot be listed.
pub fn bring_up(opened: &[Opened]) -> Result<Inside> {
    let mut inside = Inside::default();
    let mut tried: Vec<PathBuf> = Vec::new();
    for _ in 0..DEPTH {
        let inventory = Inventory::read()?;
        let fresh: Vec<&Device> = standing_on(&inventory, opened)
            .into_iter()
            .filter(|device| !tried.contains(&device.path) && device.holders().next().is_none())
            .collect();
        if fresh.is_empty() {
            break;
        }
        for device in fresh {
            tried.push(device.path.clone());
            if let Err(error) = one(&inventory, device, &mut inside) {
                inside.problems.push(format!("{}: {error:#}", device.path.display()));
            }
        }
    }
    inside.devices.sort();
    inside.devices.dedup();
    Ok(inside)
}

/// The opened devices, and all on them.
fn standing_on<'a>(inventory: &'a Inventory, opened: &[Opened]) -> Vec<&'a Device> {
    let mut found: Vec<&Device> = Vec::new();
    for root in inventory.all().into_iter().filter(|device| opened.iter().any(|one| one.path == device.path))
    {
        for device in root.subtree() {
            if !found.iter().any(|known| known.number == device.number) {
                found.push(device);
            }
        }
    }
    found
}

fn one(inventory: &Inventory, device: &Device, inside: &mut Inside) -> Result<()> {
    let path = device.path.display();
    match device.content_kind() {
        Some("LVM2_member") => {
            for group in
                volumes::groups(inventory)?.iter().filter(|group| group.members.contains(&device.path))
            {
                activate(group, inside)?;
            }
        }
        Some("linux_raid_member") => {
            // It starts when its last member comes.
            let output = Tool::new("mdadm")?.args(["--incremental", "--quiet"]).arg(&device.path).output()?;
            if !output.status.success() {
                inside.problems.push(format!("{path}: mdadm: {}", output.last_line()));
            }
        }
        Some("btrfs") => {
            // One on several devices is mounted by any of them once the kernel knows all.
            Tool::new("btrfs")?.args(["device", "scan"]).arg(&device.path).stdout()?;
            inside.devices.push(device.path.clone());
        }
        Some(_) if is_luks(device) => {
            inside.problems.push(format!("{path} is encrypted once more: rescue unlock {path}"))
        }
        // A logical volume was named by its group.
        Some(_) if device.kind != Kind::Lvm => inside.devices.push(device.path.clone()),
        _ => {}
    }
    Ok(())
}

fn activate(group: &VolumeGroup, inside: &mut Inside) -> Result<()> {
    if group.missing > 0 {
        let (name, missing) = (&group.name, group.missing);
        inside.problems.push(format!(
            "LVM group {name} is not complete: {missing} of its devices are not here or locked"
        ));
        return Ok(());
    }
    let tool = Tool::new("lvm")?.args(["vgchange", "--activate", "y", "--config", NO_UDEV]).arg(&group.name);
    let output = tool.output()?;
    if output.status.success() {
        inside.devices.extend(group.volumes.iter().map(|volume| volume.path.clone()));
    } else {
        inside.problems.push(format!("LVM group {}: {}", group.name, output.last_line()));
    }
    Ok(())
}
