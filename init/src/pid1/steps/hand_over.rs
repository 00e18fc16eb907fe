//! Step `hand-over`: asks PID 1 to leave for the OS. When that works, this process is ended by it.

use std::time::Duration;

use anyhow::{Result, bail};

use super::mount::ROOT;
use crate::pid1::boot::Boot;
use crate::pid1::control::{self, Destination, Message};
use crate::pid1::handover::FAILED_PATH;

/// PID 1 ends this process first of all; when it has not after so long, it never will.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let ram_boot = boot.ram_boot()?;
    if ram_boot.hold {
        boot.announcer.waiting("held before the hand-over by rd.break: look at /sysroot by SSH, then reboot");
        super::rescue::park();
    }
    if let Ok(error) = std::fs::read_to_string(FAILED_PATH) {
        bail!("{error}; it is not tried again: log in and look at {ROOT}, or reboot");
    }
    control::send(&Message::HandOver(Destination {
        root: ROOT.into(),
        init: ram_boot.init,
        arguments: ram_boot.init_arguments,
        keep_modules: boot.keep_modules,
    }))?;
    std::thread::sleep(LIMIT);
    bail!("PID 1 did not hand over within {} s", LIMIT.as_secs())
}
