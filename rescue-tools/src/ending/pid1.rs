//! The word to PID 1 that ends the machine: the signals that busybox' and our init take (`init/src/pid1/supervisor.rs`).

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Start anew.
    Reboot,
    /// Switch off.
    PowerOff,
}

/// Tells PID 1, which stops every process, writes out and unmounts every disk, and ends the machine.
///
/// # Errors
/// When PID 1 is another's: a signal could do anything there.
pub fn end(how: End) -> Result<()> {
    let program = std::fs::read_link("/proc/1/exe").context("looking who PID 1 is")?;
    ensure!(
        program.as_os_str() == "/init",
        "PID 1 here is {}, not this rescue's /init: it is not told anything",
        program.display()
    );
    let signal = match how {
        End::Reboot => Signal::TERM,
        End::PowerOff => Signal::USR2,
    };
    kill_process(Pid::INIT, signal).context("telling PID 1")
}
