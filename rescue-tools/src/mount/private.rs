//! A mount that nobody else sees and that is gone with its thread, whatever happens: in a mount namespace of its own.

use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::disk::filesystem::FileSystem;

/// An empty folder to mount on; in each namespace it is another.
const FOLDER: &str = "/run/lifeboat/private-mount";

/// What a private mount is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Looking: read-only, and the journal is not played back. Nothing is written to the device.
    Look,
    /// What mounting itself repairs: the journal is played back.
    Replay,
}

/// Mounts `device`, calls `work` with where, and takes it away again.
pub fn with_mounted<T: Send>(
    device: &Path,
    system: FileSystem,
    access: Access,
    work: impl FnOnce(&Path) -> T + Send,
) -> Result<T> {
    let context = || format!("mounting {} ({system}) privately", device.display());
    std::fs::create_dir_all(FOLDER).with_context(|| format!("making the folder {FOLDER}"))?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| mounted(device, system, access, work));
        thread.join().map_err(|_| anyhow!("it panicked")).flatten().with_context(context)
    })
}

/// Unsharing the mount namespace is for this thread alone.
fn mounted<T>(device: &Path, system: FileSystem, access: Access, work: impl FnOnce(&Path) -> T) -> Result<T> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace (needs root)")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("keeping mounts private")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let (flags, options) = match access {
        Access::Look => (flags | MsFlags::MS_RDONLY, Some(system.options_without_replay())),
        Access::Replay => (flags, None),
    };
    mount(Some(device), FOLDER, Some(system.name()), flags, options)?;
    let result = work(Path::new(FOLDER));
    // Without this it would be gone as well, but some time after the thread.
    umount2(FOLDER, MntFlags::empty()).context("unmounting it")?;
    Ok(result)
}
