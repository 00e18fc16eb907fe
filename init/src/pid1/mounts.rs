//! The kernel's file systems, as a table whose lines are also the error texts.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use sys_mount::{Mount, MountFlags};

use crate::status::RUN_DIR;

/// One mount.
pub struct Entry {
    source: &'static str,
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: &'static str,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} ({})", self.source, self.target, self.kind)
    }
}

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);

/// What every program expects. The options are systemd's (`src/shared/mount-setup.c` lists the same), so that the OS
/// finds them as if it had mounted them itself.
const EARLY: [Entry; 7] = [
    Entry { source: "proc", target: "/proc", kind: "proc", flags: SAFE, data: "" },
    Entry { source: "sysfs", target: "/sys", kind: "sysfs", flags: SAFE, data: "" },
    Entry {
        source: "devtmpfs",
        target: "/dev",
        kind: "devtmpfs",
        flags: MountFlags::NOSUID,
        data: "mode=0755",
    },
    Entry {
        source: "devpts",
        target: "/dev/pts",
        kind: "devpts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        data: "mode=0620,gid=5,ptmxmode=0666",
    },
    Entry {
        source: "tmpfs",
        target: "/dev/shm",
        kind: "tmpfs",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        data: "mode=1777",
    },
    Entry {
        source: "tmpfs",
        target: "/run",
        kind: "tmpfs",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        data: "mode=0755,size=20%",
    },
    // Apart from /run, so that who fills that does not silence the boot.
    Entry { source: "tmpfs", target: RUN_DIR, kind: "tmpfs", flags: SAFE, data: "mode=0755,size=16M" },
];

/// Mounts what of [`EARLY`] is not mounted yet.
///
/// # Errors
/// The first mount that fails, by name.
pub fn mount_early() -> Result<()> {
    for entry in &EARLY {
        std::fs::create_dir_all(entry.target).with_context(|| format!("making {}", entry.target))?;
        if is_mounted(entry.target) {
            continue;
        }
        mount(entry.source, Path::new(entry.target), entry.kind, entry.flags, entry.data)?;
    }
    Ok(())
}

/// Mounts `/proc` alone, for who needs it before all else.
///
/// # Errors
/// When it cannot be mounted.
pub fn mount_proc() -> Result<()> {
    std::fs::create_dir_all("/proc").context("making /proc")?;
    if is_mounted("/proc") { Ok(()) } else { mount("proc", Path::new("/proc"), "proc", SAFE, "") }
}

/// Whether something is mounted at `path`: it is on another device than its parent.
pub fn is_mounted(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev);
    match (device(path), device(&path.join(".."))) {
        (Ok(own), Ok(parent)) => own != parent,
        _ => false,
    }
}

/// Mounts and leaves mounted.
///
/// # Errors
/// With all arguments in the text.
pub fn mount(source: &str, target: &Path, kind: &str, flags: MountFlags, data: &str) -> Result<()> {
    let made = Mount::builder().fstype(kind).flags(flags).data(data).mount(source, target);
    made.map(drop)
        .with_context(|| format!("mounting {source} on {} ({kind}, options {data:?})", target.display()))
}

/// Takes every file system that is on a disk out of use, the innermost first, but those below `kept`.
pub fn unmount_disks(kept: &[String]) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let targets = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let source = fields.next()?;
        // proc_pid_mounts(5): a blank in a name is written as \040.
        source.starts_with("/dev/").then_some(fields.next()?.replace("\\040", " "))
    });
    for target in targets.collect::<Vec<_>>().into_iter().rev() {
        if kept.iter().any(|kept| target.starts_with(kept)) {
            continue;
        }
        if let Err(error) = umount2(target.as_str(), MntFlags::MNT_DETACH) {
            tracing::warn!("unmounting {target}: {error}");
        }
    }
}
