//! `/usr`: a squashfs in the initramfs, with every tool and driver. It stays compressed in RAM, and the kernel has less to
//! unpack before PID 1 can begin.

use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use sys_mount::MountFlags;

use super::modprobe::Modules;
use super::{loopdev, mounts};
use crate::config::{USR_MODULES, USR_PATH};

/// Where it is mounted.
pub const USR: &str = "/usr";

/// Whether it is mounted, or the image has none: its `/usr` was unpacked then.
pub fn is_there() -> bool {
    mounts::is_mounted(USR) || !Path::new(USR_PATH).exists()
}

/// Mounts it, unless [`is_there`].
///
/// # Errors
/// When the kernel refuses it.
pub fn mount() -> Result<()> {
    if is_there() {
        return Ok(());
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut modules = Modules::read(&Path::new("/lib/modules").join(release))?;
    for name in USR_MODULES {
        modules.load(name)?;
    }
    let (device, open) = loopdev::attach(Path::new(USR_PATH))?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV;
    mounts::mount(&device.to_string_lossy(), Path::new(USR), "squashfs", flags, "")?;
    drop(open);
    Ok(())
}

/// Takes it away from below programs that may still run from it: they keep what they use, and nobody else sees it.
///
/// # Errors
/// When the kernel refuses.
pub fn detach() -> Result<()> {
    if mounts::is_mounted(USR) {
        umount2(USR, MntFlags::MNT_DETACH).context("unmounting /usr")?;
    }
    Ok(())
}
