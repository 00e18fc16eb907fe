//! Making a root ready: check, mount, look whether an OS is in it. The order of all that.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use rustix::fs::OFlags;

use super::root::Root;
use super::{crypttab, modules};
use crate::disk::filesystem::FileSystem;
use crate::disk::inventory::Inventory;
use crate::disk::target::Target;
use crate::mount::inside::{Inside, by_number};
use crate::mount::{detach, fstab, table};
use crate::refusal::refused;
use crate::tool::Tool;

/// Where PID 1 takes the root from.
pub const ROOT: &str = "/sysroot";

/// What is wanted of the root.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The program that becomes PID 1, as an absolute path in the root.
    pub init: String,
    /// Options of the mount (`rootflags=`).
    pub flags: Option<String>,
    /// Whether it is checked before.
    pub check: bool,
}

/// systemd wants it to be there when it starts.
const USR: [&str; 1] = ["/usr"];
/// Where a kernel and what goes with it may lie.
const OF_KERNELS: [&str; 3] = ["/usr", "/boot", "/boot/firmware"];

/// Makes it ready for the running kernel to go on with. Gives lines on what was done. Where it fails, nothing stays
/// mounted.
///
/// # Errors
/// With the first thing that is in the way.
pub fn prepare(inventory: &Inventory, root: &Root, wish: &Wish) -> Result<Vec<String>> {
    let mut said = mounted(inventory, root, wish, &USR, true)?;
    let offered = check_init(Path::new(ROOT), &wish.init).and_then(|()| modules::offer(Path::new(ROOT)));
    if offered.inspect_err(|_| release()).map_err(failure)? {
        said.push("the OS has no modules for the running kernel: it gets those of this image".into());
    }
    Ok(said)
}

/// Makes it ready for its kernel to be looked for.
///
/// # Errors
/// As [`prepare`].
pub fn with_kernels(inventory: &Inventory, root: &Root, wish: &Wish) -> Result<Vec<String>> {
    mounted(inventory, root, wish, &OF_KERNELS, false)
}

/// The check may have changed the disk: what stops us from there on is a failure, and no refusal (exit code 3).
pub fn failure(error: anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// Nothing stays mounted, as far as the kernel lets go of it.
pub fn release() {
    if let Err(error) = detach::below(Path::new(ROOT)) {
        eprintln!("{error:#}");
    }
}

/// `rename`: open devices get the names of the OS' crypttab, as it will not make them anew.
fn mounted(
    inventory: &Inventory,
    root: &Root,
    wish: &Wish,
    more: &[&str],
    rename: bool,
) -> Result<Vec<String>> {
    let mut said = Vec::new();
    make_room()?;
    if wish.check {
        said.extend(check(inventory, root)?);
    }
    std::fs::create_dir_all(ROOT).with_context(|| format!("making {ROOT}"))?;
    mount_root(inventory, root, wish, rename, &mut said)
        .and_then(|()| mount_more(inventory, more, rename, &mut said))
        .inspect_err(|_| release())
        .map_err(failure)?;
    Ok(said)
}

/// What an earlier try left is in nobody's way; an OS in RAM that waits for its hand-over is.
fn make_room() -> Result<()> {
    let Some(there) = table::read()?.into_iter().rev().find(|mount| mount.at == Path::new(ROOT)) else {
        return Ok(());
    };
    if there.source.starts_with("/dev") {
        return detach::below(Path::new(ROOT)).map(drop);
    }
    Err(refused(format!(
        "{ROOT} has {} on it: another boot is on its way (rescue hold, rescue umount {ROOT})",
        there.source.display()
    )))
}

/// The check of every boot, which repairs what is safe to repair (e2fsck -p, fsck.fat -a, fsck.f2fs -a). xfs and btrfs check
/// themselves when they are mounted: their fsck programs do nothing at boot (fsck.xfs(8), fsck.btrfs(8)).
fn check(inventory: &Inventory, root: &Root) -> Result<Vec<String>> {
    let path = &root.device.path;
    let (program, option) = match root.file_system {
        FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => ("e2fsck", "-p"),
        FileSystem::F2fs => ("fsck.f2fs", "-a"),
        FileSystem::Vfat => ("fsck.vfat", "-a"),
        FileSystem::Btrfs | FileSystem::Xfs | FileSystem::Exfat => return Ok(Vec::new()),
    };
    drop(Target::claim_in(inventory, &path.to_string_lossy(), "check")?.release());
    let output = Tool::new(program)?.arg(option).arg(path).unbroken()?;
    match output.status.code() {
        Some(0) => Ok(vec![format!("{}: clean", path.display())]),
        // fsck(8): 1 is "errors corrected", 2 "reboot", which only a mounted root needs.
        Some(1..=3) => Ok(vec![format!("{}: {program} corrected errors", path.display())]),
        _ => bail!(
            "{program} leaves errors on {} to a person: `rescue fsck {}` ({})",
            path.display(),
            path.display(),
            output.last_line()
        ),
    }
}

fn mount_root(
    inventory: &Inventory,
    root: &Root,
    wish: &Wish,
    rename: bool,
    said: &mut Vec<String>,
) -> Result<()> {
    let subvolume = root.system.as_ref().and_then(|system| system.subvolume.as_ref());
    let flags = wish.flags.clone().or_else(|| subvolume.map(|subvolume| format!("subvol={subvolume}")));
    let mut root = root.clone();
    mount_one(&root, Path::new(ROOT), flags.as_deref())?;
    let renamed = if rename { crypttab::rename(inventory, Path::new(ROOT))? } else { Vec::new() };
    for renamed in renamed {
        said.push(format!(
            "{} is called {} now, as in the OS' crypttab",
            renamed.old.display(),
            renamed.new.display()
        ));
        if renamed.old == root.device.path {
            // The kernel shows a mount by the name that it was made with.
            detach::below(Path::new(ROOT))?;
            root.device.path = renamed.new;
            mount_one(&root, Path::new(ROOT), flags.as_deref())?;
        }
    }
    said.push(format!("{} is mounted on {ROOT} ({})", root.device.path.display(), root.file_system));
    Ok(())
}

fn mount_more(inventory: &Inventory, more: &[&str], renamed: bool, said: &mut Vec<String>) -> Result<()> {
    // Devices may have other names by now.
    let fresh = if renamed { Some(Inventory::read()?) } else { None };
    let inventory = fresh.as_ref().unwrap_or(inventory);
    for place in more {
        said.extend(mount_place(inventory, Path::new(place))?);
    }
    Ok(())
}

/// Read-only, as every initramfs does: the OS remounts it as its fstab says.
fn mount_one(root: &Root, at: &Path, flags: Option<&str>) -> Result<()> {
    let (source, kind) = (&root.device.path, root.file_system);
    if kind == FileSystem::Btrfs {
        // One on several devices is found by the kernel only when it knows of all of them.
        let _ = Tool::new("btrfs").map(|tool| tool.args(["device", "scan"]).output());
    }
    mount(Some(source), at, Some(kind.name()), MsFlags::MS_RDONLY, flags).with_context(|| {
        let source = source.display();
        format!(
            "mounting {source} on {} ({kind}, options {:?}); `rescue fsck {source}` may help",
            at.display(),
            flags.unwrap_or("")
        )
    })
}

/// What the OS' fstab mounts at `place`, if anything, checked before if it says so. A device that may be missing (`nofail`)
/// may be so here.
fn mount_place(inventory: &Inventory, place: &Path) -> Result<Option<String>> {
    let inside = Inside::new(Path::new(ROOT))?;
    let entries = fstab::parse(&inside.text("etc/fstab").unwrap_or_default());
    let Some(entry) = entries.iter().rfind(|entry| entry.is_device() && entry.at == place) else {
        return Ok(None);
    };
    let device = match inventory.named(&entry.source) {
        Err(_) if entry.options.iter().any(|option| option == "nofail") => return Ok(None),
        named => named.with_context(|| format!("looking for the {} of the OS' fstab", place.display()))?,
    };
    let file_system = device.content_kind().and_then(FileSystem::from_name);
    let file_system = file_system.with_context(|| format!("{} has no file system", device.path.display()))?;
    let one = Root { device: device.clone(), file_system, system: None };
    if entry.pass > 0 {
        check(inventory, &one)?;
    }
    // A link on the disk must not lead the mount to a place of ours.
    let folder = inside.folder(place)?;
    mount_one(&one, &by_number(&folder), entry.subvolume())?;
    Ok(Some(format!("{} is mounted on {ROOT}{}", device.path.display(), place.display())))
}

/// An exec of it should work. Links are followed as the OS will follow them.
fn check_init(root: &Path, init: &str) -> Result<()> {
    let file = Inside::new(root)?
        .find(Path::new(init), OFlags::empty())
        .with_context(|| format!("there is no {init} on the disk: is it the root of an OS?"))?;
    let data = File::from(file).metadata().with_context(|| format!("looking at {init}"))?;
    if !data.is_file() || data.mode() & 0o111 == 0 {
        bail!("{init} on the disk may not be executed (mode {:o})", data.mode() & 0o7777);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn an_init_is_looked_for_as_the_os_will() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib/systemd")).unwrap();
        std::fs::create_dir(root.path().join("sbin")).unwrap();
        symlink("/usr/lib/systemd/systemd", root.path().join("sbin/init")).unwrap();
        assert!(
            format!("{:#}", check_init(root.path(), "/sbin/init").unwrap_err()).contains("no /sbin/init")
        );
        let program = root.path().join("usr/lib/systemd/systemd");
        std::fs::write(&program, "#!").unwrap();
        assert!(
            check_init(root.path(), "/sbin/init").unwrap_err().to_string().contains("may not be executed")
        );
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        check_init(root.path(), "/sbin/init").unwrap();
        assert!(check_init(root.path(), "/usr").is_err());
    }
}
