//! The group that all sessions are below ([`crate::cgroups`]): made by the boot, taken away before a hand-over, since the OS
//! expects to find nothing there.

use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use sys_mount::MountFlags;

use super::mounts;
use crate::cgroups::{CONTROLLERS, PIDS, ROOT, SESSIONS, memory};

/// Mounts version 2 and makes the group, on a machine with so many bytes of RAM. What is there already stays.
///
/// # Errors
/// When the kernel has no control groups, or lacks one of the controllers: the others hold all the same.
pub fn prepare(total: u64) -> Result<()> {
    if !Path::new(ROOT).is_dir() {
        bail!("this kernel has no control groups");
    }
    if !mounts::is_mounted(ROOT) {
        let flags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);
        let mount = |options: &str| mounts::mount("cgroup2", Path::new(ROOT), "cgroup2", flags, options);
        // systemd's options (`src/shared/mount-setup.c`); an older kernel lacks the second.
        mount("nsdelegate,memory_recursiveprot").or_else(|_| mount(""))?;
    }
    std::fs::create_dir_all(SESSIONS).with_context(|| format!("making {SESSIONS}"))?;
    let mut missing = Vec::new();
    for controller in CONTROLLERS {
        let enable = |group: &str| write(group, "cgroup.subtree_control", &format!("+{controller}"));
        if enable(ROOT).and_then(|()| enable(SESSIONS)).is_err() {
            missing.push(controller);
        }
    }
    for (file, value) in [("memory.max", memory(total)), ("pids.max", PIDS.into())] {
        if !missing.iter().any(|controller| file.starts_with(controller)) {
            write(SESSIONS, file, &value.to_string())?;
        }
    }
    if !missing.is_empty() {
        bail!(
            "this kernel has no controller {} (is it disabled on its command line?)",
            missing.join(" and ")
        );
    }
    Ok(())
}

/// Removes all groups and unmounts. Nobody may be in a group any more. What cannot be removed stays for the OS.
pub fn remove() {
    if !mounts::is_mounted(ROOT) {
        return;
    }
    if let Err(error) = remove_below(Path::new(SESSIONS), 8) {
        tracing::warn!("removing the control groups of sessions: {error}");
    }
    for controller in CONTROLLERS {
        let _ = write(ROOT, "cgroup.subtree_control", &format!("-{controller}"));
    }
    if let Err(error) = umount2(ROOT, MntFlags::MNT_DETACH) {
        tracing::warn!("unmounting {ROOT}: {error}");
    }
}

/// A group is a folder that is removed without its files; people may have made more below theirs.
fn remove_below(group: &Path, depth: usize) -> std::io::Result<()> {
    for entry in std::fs::read_dir(group)?.flatten() {
        if depth > 0 && entry.file_type()?.is_dir() {
            remove_below(&entry.path(), depth - 1)?;
        }
    }
    std::fs::remove_dir(group)
}

fn write(group: &str, file: &str, text: &str) -> Result<()> {
    let path = Path::new(group).join(file);
    std::fs::write(&path, text).with_context(|| format!("writing {text} to {}", path.display()))
}
