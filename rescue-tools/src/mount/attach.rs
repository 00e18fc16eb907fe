//! Mounting a disk's file system for a person: read-only and without playing a journal back unless told otherwise.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use serde::Serialize;

use super::{fstab, table};
use crate::disk::filesystem::FileSystem;
use crate::disk::inventory::{Device, Inventory};
use crate::disk::system;
use crate::refusal::refused;
use crate::tool::Tool;

/// Where things are mounted when nobody says where.
pub const FOLDER: &str = "/mnt";
/// What a system in a chroot needs of the running one.
const FOR_CHROOT: [&str; 3] = ["/dev", "/proc", "/sys"];
const NONE: Option<&str> = None;

/// What is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// To write; journals are played back then.
    pub writable: bool,
    /// The whole tree of a Linux root, ready for chroot.
    pub root: bool,
}

/// One thing that was mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// What.
    pub source: PathBuf,
    /// Where.
    pub at: PathBuf,
    /// The kind of file system; `bind` for a part of the running system.
    pub kind: String,
    /// Whether it can be written to.
    pub writable: bool,
}

/// What was mounted, and what was not and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tree {
    /// In the order of the mounts.
    pub mounted: Vec<Attached>,
    /// One line each.
    pub skipped: Vec<String>,
}

/// What [`attach`] would mount, but for what belongs to a root.
pub fn plan(device: &Device, folder: Option<&Path>, wish: Wish) -> Result<Attached> {
    let system = mountable(device)?;
    let at = folder.map_or_else(|| Path::new(FOLDER).join(&device.name), Path::to_path_buf);
    free_to_mount(&at.canonicalize().unwrap_or_else(|_| at.clone()), device, wish)?;
    Ok(Attached { source: device.path.clone(), at, kind: system.name().into(), writable: wish.writable })
}

/// Mounts `device` at `folder`, or below [`FOLDER`].
pub fn attach(inventory: &Inventory, device: &Device, folder: Option<&Path>, wish: Wish) -> Result<Tree> {
    let system = mountable(device)?;
    let at = plan(device, folder, wish)?.at;
    std::fs::create_dir_all(&at).with_context(|| format!("making the folder {}", at.display()))?;
    let at = at.canonicalize().with_context(|| format!("looking at {}", at.display()))?;
    let mut tree = Tree::default();
    tree.mounted.push(one(device, system, &at, wish.writable, None)?);
    if wish.root
        && let Err(error) = whole_root(&mut tree, inventory, device, system, &at, wish)
    {
        // What is half there is in nobody's way.
        let _ = super::detach::below(&at);
        return Err(error);
    }
    Ok(tree)
}

/// The file system on `device`, or what to do instead.
fn mountable(device: &Device) -> Result<FileSystem> {
    let path = device.path.display();
    let Some(content) = device.content_kind() else {
        let partitions: Vec<String> = device.partitions().map(|one| one.path.display().to_string()).collect();
        return Err(refused(match partitions.as_slice() {
            [] => format!(
                "{path}: no file system is recognised on it (`rescue disks {path}`, `rescue fsck {path}`)"
            ),
            several => format!("{path} is a disk with partitions; which one? {}", several.join(" ")),
        }));
    };
    if let Some(system) = FileSystem::from_name(content) {
        return Ok(system);
    }
    let inside: Vec<String> = device.holders().map(|one| one.path.display().to_string()).collect();
    Err(refused(match (content, inside.as_slice()) {
        (_, [_, ..]) => format!("{path} holds {}; mount that", inside.join(" ")),
        ("crypto_LUKS", _) => format!("{path} is encrypted: `rescue unlock {path}` first"),
        ("LVM2_member", _) => {
            format!("{path} is a part of LVM: `lvm vgchange --activate y`, then mount a logical volume")
        }
        ("linux_raid_member", _) => format!("{path} is a part of a RAID: `mdadm --assemble --scan` first"),
        (other, _) => format!("{path} holds {other}, which is not mounted here; mount(8) may know how"),
    }))
}

fn free_to_mount(at: &Path, device: &Device, wish: Wish) -> Result<()> {
    if let Some(there) = table::read()?.iter().rev().find(|mount| mount.at == at) {
        let (at, source) = (at.display(), there.source.display());
        return Err(refused(format!("{at} has {source} on it already (rescue umount {at})")));
    }
    if wish.writable && device.read_only {
        return Err(refused(format!("{} is read-only", device.path.display())));
    }
    // The kernel has one answer for a device; a second mount would be as the first is.
    if let Some(first) = device.mounts.first() {
        let (path, first) = (device.path.display(), first.display());
        return Err(refused(format!("{path} is mounted on {first} already (rescue umount {path})")));
    }
    Ok(())
}

fn one(
    device: &Device,
    system: FileSystem,
    at: &Path,
    writable: bool,
    subvolume: Option<&str>,
) -> Result<Attached> {
    if system == FileSystem::Btrfs {
        // One on several disks is found by the kernel only when it knows of all of them. That it does changes nothing.
        let _ = Tool::new("btrfs").map(|tool| tool.args(["device", "scan"]).output());
    }
    let mut flags = MsFlags::MS_NODEV;
    let mut options: Vec<&str> = subvolume.into_iter().collect();
    if !writable {
        flags |= MsFlags::MS_RDONLY;
        options.extend(Some(system.options_without_replay()).filter(|options| !options.is_empty()));
    }
    let source = device.path.clone();
    mount(Some(&source), at, Some(system.name()), flags, Some(options.join(",").as_str())).with_context(|| {
        let (source, at) = (source.display(), at.display());
        format!("mounting {source} on {at} ({system}); `rescue fsck {source}` may help, and `rescue log` says more")
    })?;
    Ok(Attached { source, at: at.into(), kind: system.name().into(), writable })
}

/// The rest of a Linux root: the right subvolume, what its fstab mounts, and the kernel's file systems.
fn whole_root(
    tree: &mut Tree,
    inventory: &Inventory,
    device: &Device,
    system: FileSystem,
    at: &Path,
    wish: Wish,
) -> Result<()> {
    let Some(linux) = system::in_folder(at) else {
        bail!(
            "{} has no os-release: it is no Linux root (`rescue disks` shows which is)",
            device.path.display()
        );
    };
    if let Some(subvolume) = linux.subvolume {
        super::detach::below(at)?;
        tree.mounted.clear();
        let option = format!("subvol={subvolume}");
        tree.mounted.push(one(device, system, at, wish.writable, Some(&option))?);
    }
    let text = std::fs::read_to_string(at.join("etc/fstab")).unwrap_or_default();
    let mut entries = fstab::parse(&text);
    entries.sort_by_key(|entry| entry.at.components().count());
    for entry in entries.iter().filter(|entry| entry.is_device() && entry.at != Path::new("/")) {
        match of_fstab(inventory, entry, at, wish) {
            Ok(attached) => tree.mounted.push(attached),
            Err(error) => tree.skipped.push(format!("{} ({}): {error:#}", entry.at.display(), entry.source)),
        }
    }
    for path in FOR_CHROOT {
        match bind(Path::new(path), at) {
            Ok(attached) => tree.mounted.push(attached),
            Err(error) => tree.skipped.push(format!("{path}: {error:#}")),
        }
    }
    Ok(())
}

fn of_fstab(inventory: &Inventory, entry: &fstab::Entry, root: &Path, wish: Wish) -> Result<Attached> {
    let device = inventory.named(&entry.source)?;
    let system = mountable(device)?;
    one(device, system, &inside(root, &entry.at)?, wish.writable, entry.subvolume())
}

fn bind(source: &Path, root: &Path) -> Result<Attached> {
    let at = inside(root, source)?;
    mount(Some(source), &at, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .with_context(|| format!("binding {} to {}", source.display(), at.display()))?;
    // What is unmounted there must stay mounted here.
    mount(NONE, &at, NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .with_context(|| format!("making {} private", at.display()))?;
    Ok(Attached { source: source.into(), at, kind: "bind".into(), writable: true })
}

/// A folder of the mounted system. Its links may lead out of it: then it is none.
fn inside(root: &Path, path: &Path) -> Result<PathBuf> {
    let wanted = root.join(path.strip_prefix("/").unwrap_or(path));
    let real = wanted.canonicalize().with_context(|| format!("looking at {}", wanted.display()))?;
    if !real.starts_with(root) {
        bail!("{} leads out of {}", wanted.display(), root.display());
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::inventory::Content;
    use crate::disk::lsblk;

    fn device(name: &str, content: Option<&str>) -> Device {
        let devices = lsblk::parse(include_bytes!("../disk/fixtures/lsblk-stacked.json")).unwrap();
        let mut device =
            devices.iter().flat_map(Device::subtree).find(|one| one.name == name).unwrap().clone();
        let content =
            content.map(|kind| Content { kind: kind.into(), version: None, label: None, uuid: None });
        device.content = content;
        device
    }

    fn said(name: &str, content: Option<&str>) -> String {
        mountable(&device(name, content)).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_mounted_says_what_to_do() {
        assert_eq!(mountable(&device("vda2", Some("ext4"))).unwrap(), FileSystem::Ext4);
        assert!(said("vda", None).ends_with("/dev/vda1 /dev/vda2 /dev/vda3"), "{}", said("vda", None));
        assert!(said("vda1", None).contains("rescue fsck /dev/vda1"));
        assert!(said("vdb", Some("crypto_LUKS")).contains("/dev/mapper/home; mount that"));
        assert!(said("vdf", Some("crypto_LUKS")).contains("rescue unlock /dev/vdf"));
        assert!(said("vdc", Some("ntfs")).contains("/dev/mapper/vg0-data"));
        assert!(said("vdf", Some("ntfs")).contains("ntfs"));
    }

    #[test]
    fn a_mounted_device_and_a_used_folder_are_refused() {
        let mounted = device("vda2", Some("ext4"));
        let error = free_to_mount(Path::new("/mnt/nowhere"), &mounted, Wish::default()).unwrap_err();
        assert!(error.to_string().contains("rescue umount /dev/vda2"), "{error}");
        let free = device("vdf", Some("ext4"));
        assert!(free_to_mount(Path::new("/proc"), &free, Wish::default()).is_err());
        free_to_mount(Path::new("/mnt/nowhere"), &free, Wish::default()).unwrap();
    }

    #[test]
    fn links_do_not_lead_out_of_the_system() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("boot")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        assert_eq!(inside(&root, Path::new("/boot")).unwrap(), root.join("boot"));
        for path in ["/out", "/nothing", "/../.."] {
            assert!(inside(&root, Path::new(path)).is_err(), "{path}");
        }
    }
}
