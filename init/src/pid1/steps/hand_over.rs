//! Step `hand-over`: asks PID 1 to leave for the OS. When that works, this process is ended by it.

use std::time::Duration;

use anyhow::{Result, bail};

use super::mount::ROOT;
use crate::pid1::boot::Boot;
use crate::pid1::control::{self, Destination, Message};
use crate::pid1::handover::FAILED_PATH;
use crate::status::SESSIONS_DIR;

/// PID 1 ends this process first of all; when it has not after so long, it never will.
const LIMIT: Duration = Duration::from_secs(30);

/// Stays here after a hand-over that failed: another try would end every SSH session, and what is mounted is what a human
/// wants to look at. The reboot timer runs.
pub(crate) fn stay_if_failed(boot: &mut Boot, total: usize) {
    let Ok(error) = std::fs::read_to_string(FAILED_PATH) else { return };
    boot.announcer.started("hand-over", total, total);
    let next = format!("it is not tried again: log in and look at {ROOT}, or reboot");
    boot.announcer.failed(&anyhow::anyhow!(error), None, &next);
    super::rescue::park();
}

/// Nobody's work is cut off: a hand-over ends every session.
fn wait_for_humans(boot: &mut Boot) {
    let logged_in = || std::fs::read_dir(SESSIONS_DIR).is_ok_and(|mut sessions| sessions.next().is_some());
    while logged_in() {
        boot.announcer.waiting("somebody is logged in: the OS is ready, and goes on when they log out");
        std::thread::sleep(Duration::from_millis(500));
    }
}

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let ram_boot = boot.ram_boot()?;
    if ram_boot.hold {
        boot.announcer.waiting("held before the hand-over by rd.break: look at /sysroot by SSH, then reboot");
        super::rescue::park();
    }
    wait_for_humans(boot);
    control::send(&Message::HandOver(Destination {
        root: ROOT.into(),
        init: ram_boot.init,
        arguments: ram_boot.init_arguments,
    }))?;
    std::thread::sleep(LIMIT);
    bail!("PID 1 did not hand over within {} s", LIMIT.as_secs())
}
