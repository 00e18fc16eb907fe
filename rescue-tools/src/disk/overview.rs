//! All that `rescue disks` knows, put together: the inventory with what stands in none of its columns.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use init::config::USR_PATH;
use init::status::RUN_DIR;
use serde::Serialize;

use super::health::{self, Health};
use super::inventory::{Device, Inventory, Kind};
use super::kernel_errors::{self, Errors};
use super::system::{self, System};
use super::traces;
use super::volumes::{self, Raid, VolumeGroup};

/// The format of `rescue disks --json`.
pub const FORMAT: u32 = 1;
/// Where the kernel tells of its devices.
const SYS: &str = "/sys";

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// [`FORMAT`].
    pub format: u32,
    /// The disks and what else stands on no other device.
    pub devices: Vec<Entry>,
    /// LVM's groups.
    pub volume_groups: Vec<VolumeGroup>,
}

/// A device with what is known of it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The device; its children are in [`Entry::children`].
    #[serde(flatten)]
    pub device: Device,
    /// The Linux on it.
    pub system: Option<System>,
    /// An encrypted device that is not open, or has such a one below it: what is inside is not known.
    pub locked: bool,
    /// What was there, where nothing is recognised any more: blkid's name.
    pub trace: Option<String>,
    /// The RAID that it is a member of.
    pub raid: Option<Raid>,
    /// What the kernel's log says of it.
    pub errors: Option<Errors>,
    /// What it says of its own health, where it was asked.
    pub health: Option<Health>,
    /// Why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_error: Option<String>,
    /// What stands on it.
    pub children: Vec<Entry>,
}

/// Gathers it, of `devices` of the inventory. Nothing is changed. `ask_health` asks disks for SMART.
pub fn gather(inventory: &Inventory, devices: &[&Device], ask_health: bool) -> Result<Overview> {
    let errors = kernel_errors::read();
    let devices = devices.iter().map(|device| entry(device, &errors, ask_health)).collect();
    Ok(Overview { format: FORMAT, devices, volume_groups: volumes::groups(inventory)? })
}

/// What people mean by disks: not compressed RAM, not the boot areas of an eMMC, not what this system itself runs from.
pub fn is_disk(device: &Device) -> bool {
    let name = device.name.as_str();
    // The image in RAM and our own /usr: files of the initramfs and of /run/lifeboat.
    let own = |file: &Path| file.starts_with(RUN_DIR) || file == Path::new(USR_PATH);
    if device.kind == Kind::Loop && device.backing.as_deref().is_some_and(own) {
        return false;
    }
    let boot_area = name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    !boot_area && !name.starts_with("zram")
}

fn entry(device: &Device, errors: &BTreeMap<String, Errors>, ask_health: bool) -> Entry {
    let kind = device.content_kind();
    let bare =
        kind.is_none() && device.table.is_none() && device.children.is_empty() && device.kind != Kind::Rom;
    let (health, health_error) = health_of(device, ask_health);
    let children = device.children.iter().map(|child| entry(child, errors, ask_health)).collect();
    Entry {
        system: system::find(device),
        locked: kind == Some("crypto_LUKS") && device.holders().next().is_none(),
        trace: bare
            .then(|| traces::find(&device.path, device.size))
            .flatten()
            .map(|trace| trace.kind.to_string()),
        raid: (kind == Some("linux_raid_member")).then(|| volumes::raid(&device.path).ok()).flatten(),
        errors: errors.get(&device.name).cloned(),
        health,
        health_error,
        children,
        device: Device { children: Vec::new(), ..device.clone() },
    }
}

fn health_of(device: &Device, ask: bool) -> (Option<Health>, Option<String>) {
    if device.kind != Kind::Disk {
        return (None, None);
    }
    let emmc = health::emmc(Path::new(SYS), &device.name);
    // An SD card and an eMMC have no SMART.
    if emmc.is_some() || !ask || device.name.starts_with("mmcblk") {
        return (emmc, None);
    }
    match health::ask(device) {
        Ok(health) => (Some(health), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    }
}
