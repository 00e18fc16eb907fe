//! A host key on a disk, where `lifeboat.hostkey=` names one: read, and nothing else.

use std::path::Path;

use anyhow::{Context, Result};
use init::cmdline::CommandLine;
use init::disk_file::DiskFile;
use init::host_key::PARAMETER;
use russh::keys::PrivateKey;

use super::host_key::load;
use crate::mount::disk_file::{patiently, with_file_system};
use crate::mount::private::Access;

/// What the kernel's command line asks for. None: nothing; what is wrong there, PID 1 has said.
pub fn configured(command_line: &Path) -> Option<DiskFile> {
    let text = std::fs::read_to_string(command_line).ok()?;
    DiskFile::parse(CommandLine::parse(&text).last(PARAMETER)?).ok()
}

/// The key in `file`. SSH waits as long as it takes.
pub fn read(file: &DiskFile) -> Result<PrivateKey> {
    let look = || with_file_system(file, Access::Look, |folder| load(&folder.join(&file.path))).flatten();
    patiently(look).with_context(|| format!("taking the host key from {file}"))
}
