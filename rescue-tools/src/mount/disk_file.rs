//! A file on a disk that the kernel's command line names (`DEVICE:/PATH`): its file system is mounted for one moment, out
//! of everybody's sight.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use init::disk_file::DiskFile;

use super::private::{Access, with_mounted};
use crate::disk::filesystem::FileSystem;
use crate::disk::inventory::Inventory;

/// Disks come some time after the kernel: for so long one is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks: a look is as cheap as it gets, and there is no event that says "no more disks will come".
const PAUSE: Duration = Duration::from_millis(500);

/// Mounts the file system that `file` is on and calls `work` with where.
pub fn with_file_system<T: Send>(
    file: &DiskFile,
    access: Access,
    work: impl FnOnce(&Path) -> T + Send,
) -> Result<T> {
    let inventory = Inventory::read()?;
    let device = inventory.named(&file.device)?;
    let system = device.content_kind().and_then(FileSystem::from_name);
    let system = system.with_context(|| format!("{} has no file system", device.path.display()))?;
    with_mounted(&device.path, system, access, work)
}

/// Tries again until it works, or disks would have come; then the last error counts.
pub fn patiently<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        match attempt() {
            Err(_) if began.elapsed() < PATIENCE => sleep(PAUSE),
            done => return done,
        }
    }
}
