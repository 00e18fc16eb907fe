//! The sweeper: empties the initramfs after a hand-over, so that its RAM is free for the OS.
//!
//! It is started by PID 1 just before the hand-over, keeps the initramfs as its root, and waits for its standard input to
//! close: the exec of the OS's init does that. Should the exec fail, PID 1 kills it and nothing is deleted.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};

use super::usr;

/// `include/uapi/linux/magic.h`.
const RAMFS_MAGIC: i64 = 0x8584_58f6;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Waits for the exec, then deletes.
///
/// # Errors
/// When what is to be deleted is not proved to be an initramfs: then nothing is.
pub fn run() -> Result<()> {
    let mut nothing = [0; 1];
    let count = std::io::stdin().read(&mut nothing).context("waiting for the hand-over")?;
    ensure!(count == 0, "told not to sweep");
    prove_initramfs()?;
    let root = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context("opening the initramfs")?;
    let device = rustix::fs::fstat(&root).context("looking at the initramfs")?.st_dev;
    // The OS may use our modules, bind mounted: those in the squashfs stay as long as it does, but where everything was
    // unpacked they lie here.
    let kept = (!Path::new(crate::config::USR_PATH).exists()).then_some("modules");
    usr::detach()?;
    empty(&root, device, kept).context("emptying the initramfs")?;
    tracing::info!("the initramfs is emptied");
    Ok(())
}

/// Four facts, each of which alone would stop a mistake.
fn prove_initramfs() -> Result<()> {
    let kind = rustix::fs::statfs("/").context("looking at /")?.f_type;
    ensure!(kind == RAMFS_MAGIC || kind == TMPFS_MAGIC, "/ is not in RAM (file system type {kind:#x})");
    ensure!(Path::new("/init").is_file(), "/init is missing");
    ensure!(Path::new(crate::config::CONFIG_PATH).is_file(), "{} is missing", crate::config::CONFIG_PATH);
    ensure!(std::os::unix::process::parent_id() == 1, "PID 1 is not my parent");
    Ok(())
}

/// Deletes what is in `folder` and on `device`, except folders called `kept`.
fn empty(folder: &rustix::fd::OwnedFd, device: u64, kept: Option<&str>) -> Result<()> {
    let entries = Dir::read_from(folder).context("listing a folder")?;
    for entry in entries {
        let entry = entry.context("listing a folder")?;
        let name = entry.file_name();
        if name == c"." || name == c".." || kept.is_some_and(|kept| name.to_bytes() == kept.as_bytes()) {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            let _ = unlinkat(folder, name, AtFlags::empty());
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(inner) = openat(folder, name, flags, Mode::empty()) else { continue };
        // Another device is a mount that somebody still uses.
        if rustix::fs::fstat(&inner).is_ok_and(|stat| stat.st_dev == device) {
            empty(&inner, device, kept)?;
            let _ = unlinkat(folder, name, AtFlags::REMOVEDIR);
        }
    }
    Ok(())
}
