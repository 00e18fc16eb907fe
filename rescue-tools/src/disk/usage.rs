//! What a device is in use by, and how to end that.

use std::fmt;
use std::path::{Path, PathBuf};

use super::inventory::{Device, Inventory, Kind};

/// One thing that uses a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A file system on it is mounted.
    Mounted {
        /// The device that is mounted.
        device: PathBuf,
        /// Where.
        at: PathBuf,
    },
    /// It is swap.
    Swap {
        /// The device.
        device: PathBuf,
    },
    /// Another device stands on it.
    Holder {
        /// The device below.
        device: PathBuf,
        /// The device above.
        holder: PathBuf,
        /// What that is.
        kind: Kind,
    },
    /// The kernel says that somebody has it for himself, and nothing above shows who.
    Claimed {
        /// The device.
        device: PathBuf,
    },
}

impl fmt::Display for Use {
    /// What it is, and in brackets the command that ends it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Mounted { device, at } => {
                let (device, at) = (device.display(), at.display());
                write!(f, "{device} is mounted on {at} (rescue umount {device})")
            }
            Use::Swap { device } => {
                let device = device.display();
                write!(f, "{device} is in use as swap (swapoff {device})")
            }
            Use::Holder { device, holder, kind } => {
                write!(f, "{} stands on {} ({})", holder.display(), device.display(), end(holder, kind))
            }
            Use::Claimed { device } => write!(
                f,
                "{} is held by something that does not show: a mount in another namespace, or a running program",
                device.display()
            ),
        }
    }
}

/// The command that takes `holder` away.
fn end(holder: &Path, kind: &Kind) -> String {
    let path = holder.display();
    let name = holder.file_name().unwrap_or_default().display();
    match kind {
        Kind::Crypt => format!("cryptsetup close {name}"),
        Kind::Lvm => format!("lvm lvchange --activate n {path}"),
        Kind::Raid(_) => format!("mdadm --stop {path}"),
        Kind::Loop => format!("losetup --detach {path}"),
        _ if holder.starts_with("/dev/mapper") => format!("dmsetup remove {name}"),
        _ => format!("take {path} away first"),
    }
}

/// All that uses `device`, or a partition of it, or what stands on it; or the whole disk that it is a partition of. In
/// the order in which it can be ended: mounts before what they are on.
pub fn uses(inventory: &Inventory, device: &Device) -> Vec<Use> {
    let mut found = Vec::new();
    for one in device.subtree().into_iter().rev() {
        collect(inventory, one, &mut found);
    }
    // A disk that is used as a whole has its partitions in use too.
    let disk =
        inventory.all().into_iter().find(|disk| disk.partitions().any(|part| part.number == device.number));
    if let Some(disk) = disk {
        collect(inventory, disk, &mut found);
    }
    let mut once: Vec<Use> = Vec::new();
    for one in found {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

fn collect(inventory: &Inventory, device: &Device, found: &mut Vec<Use>) {
    let path = || device.path.clone();
    found.extend(device.mounts.iter().rev().map(|at| Use::Mounted { device: path(), at: at.clone() }));
    if device.swap {
        found.push(Use::Swap { device: path() });
    }
    let holder = |holder: &Device| Use::Holder {
        device: path(),
        holder: holder.path.clone(),
        kind: holder.kind.clone(),
    };
    found.extend(device.holders().map(holder));
    // lsblk shows a loop device beside the one that it shows the bytes of.
    let loops = inventory.devices.iter().filter(|other| other.backing.as_deref() == Some(&*device.path));
    for other in loops {
        for above in other.subtree().into_iter().rev().filter(|above| above.number != device.number) {
            collect_above(above, found);
        }
        found.push(holder(other));
    }
}

/// What is in use of a loop device; loops on loops are found by their own claim.
fn collect_above(device: &Device, found: &mut Vec<Use>) {
    let path = || device.path.clone();
    found.extend(device.mounts.iter().rev().map(|at| Use::Mounted { device: path(), at: at.clone() }));
    if device.swap {
        found.push(Use::Swap { device: path() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::lsblk;

    /// The devices of the fixture, with what `/sys` says of the loop device.
    fn inventory() -> Inventory {
        let mut devices = lsblk::parse(include_bytes!("fixtures/lsblk-stacked.json")).unwrap();
        for device in devices.iter_mut().filter(|device| device.name == "loop0") {
            device.backing = Some("/dev/vdi1".into());
        }
        Inventory { devices }
    }

    fn said(name: &str) -> Vec<String> {
        let inventory = inventory();
        let device = inventory.all().into_iter().find(|device| device.name == name).unwrap();
        uses(&inventory, device).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_use_is_named_with_what_ends_it() {
        let mounted = ["/dev/vdg is mounted on /mnt/r (rescue umount /dev/vdg)".to_string()];
        assert_eq!(said("vdg")[..1], mounted);
        assert_eq!(said("vdg").len(), 2);
        assert_eq!(said("vda3"), ["/dev/vda3 is in use as swap (swapoff /dev/vda3)"]);
        assert_eq!(said("vdb"), ["/dev/mapper/home stands on /dev/vdb (cryptsetup close home)"]);
        assert_eq!(
            said("vdc"),
            ["/dev/mapper/vg0-data stands on /dev/vdc (lvm lvchange --activate n /dev/mapper/vg0-data)"]
        );
        for member in ["vdd", "vde"] {
            assert_eq!(said(member), [format!("/dev/md0 stands on /dev/{member} (mdadm --stop /dev/md0)")]);
        }
        let by_loop = ["/dev/loop0 stands on /dev/vdi1 (losetup --detach /dev/loop0)".to_string()];
        assert_eq!(said("vdi1"), by_loop);
        assert_eq!(said("vdi"), by_loop);
    }

    #[test]
    fn a_disk_is_used_by_its_partitions_and_they_not_by_each_other() {
        assert_eq!(said("vda").len(), 2, "{:?}", said("vda"));
        for free in ["vda1", "vdf", "vdh", "vdi3", "md0", "dm-0", "dm-1"] {
            assert_eq!(said(free), [""; 0], "{free}");
        }
    }

    #[test]
    fn a_partition_of_a_disk_that_is_used_as_a_whole_is_in_use() {
        let mut inventory = inventory();
        for disk in inventory.devices.iter_mut().filter(|device| device.name == "vdi") {
            disk.mounts.push("/mnt/whole".into());
        }
        let device = inventory.named("vdi3").unwrap();
        let found = uses(&inventory, device);
        assert_eq!(found, [Use::Mounted { device: "/dev/vdi".into(), at: "/mnt/whole".into() }]);
    }
}
