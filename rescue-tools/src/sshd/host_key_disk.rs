//! A host key on a disk, where `lifeboat.hostkey=` names one: read, and nothing else.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use init::cmdline::CommandLine;
use init::host_key::HostKeyFile;
use russh::keys::PrivateKey;

use super::host_key::load;
use crate::disk::filesystem::FileSystem;
use crate::disk::inventory::Inventory;
use crate::mount::private::{Access, with_mounted};

/// Disks come some time after the kernel: for as long the key is waited for, and SSH with it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks: a look is as cheap as it gets, and there is no event that says "no more disks will come".
const PAUSE: Duration = Duration::from_millis(500);

/// What the kernel's command line asks for. None: nothing; what is wrong there, PID 1 has said.
pub fn configured(command_line: &Path) -> Option<HostKeyFile> {
    let text = std::fs::read_to_string(command_line).ok()?;
    HostKeyFile::parse(CommandLine::parse(&text).last(HostKeyFile::PARAMETER)?).ok()
}

/// The key in `file`.
pub fn read(file: &HostKeyFile) -> Result<PrivateKey> {
    let began = Instant::now();
    loop {
        match try_read(file) {
            Err(_) if began.elapsed() < PATIENCE => sleep(PAUSE),
            read => {
                return read
                    .with_context(|| format!("taking the host key from {}:/{}", file.device, file.path));
            }
        }
    }
}

fn try_read(file: &HostKeyFile) -> Result<PrivateKey> {
    let inventory = Inventory::read()?;
    let device = inventory.named(&file.device)?;
    let system = device.content_kind().and_then(FileSystem::from_name);
    let system = system.with_context(|| format!("{} has no file system", device.path.display()))?;
    with_mounted(&device.path, system, Access::Look, |folder| load(&folder.join(&file.path)))?
}
