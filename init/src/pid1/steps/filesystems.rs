//! Step `filesystems`: mounts the kernel's file systems and makes `/run/lifeboat`.

use std::path::Path;

use anyhow::{Context, Result};

use crate::pid1::boot::Boot;
use crate::pid1::{cgroups, file, machine, mounts};
use crate::status::{MACHINE_PATH, RUN_DIR, SESSIONS_DIR};

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    mounts::mount_early()?;
    // The device tree is in /sys.
    boot.machine = machine::read(Path::new("/"), &boot.config);
    if let Err(error) = cgroups::prepare(boot.machine.memory) {
        tracing::warn!("sessions are not held to limits: {error:#}");
    }
    std::fs::create_dir_all(SESSIONS_DIR).with_context(|| format!("making {RUN_DIR}"))?;
    file::replace_json(MACHINE_PATH.as_ref(), &boot.machine)
}
