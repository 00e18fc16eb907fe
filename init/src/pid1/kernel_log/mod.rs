//! The child `log`: sends the kernel's log away, where the command line says so. What PID 1 and its children say is part of
//! it. By syslog it is sent from here ([`syslog`]); by netconsole the kernel sends it by itself, once the module is loaded
//! ([`netconsole`]).
//!
//! Nothing waits for it: what the network does not take yet stays in the kernel's own buffer (`log_buf_len=`), whose oldest
//! records go first.

mod netconsole;
pub mod record;
mod syslog;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::file;
use crate::kernel_log::KernelLog;
use crate::status::{NETWORK_STATUS_PATH, NetworkStatus, RUN_DIR};

/// Whoever waits for the network looks again after so long, whatever is told.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Ends when there is nothing (more) to do, which is at once where nothing was asked for.
///
/// # Errors
/// When the kernel's log cannot be read.
pub fn run(log: KernelLog) -> Result<()> {
    let targets = log.netconsole;
    let netconsole = (!targets.is_empty()).then(|| {
        let thread = std::thread::Builder::new().name("netconsole".into());
        thread.spawn(move || netconsole::start(&targets)).context("starting a thread")
    });
    let netconsole = netconsole.transpose()?;
    if let Some(receiver) = &log.syslog {
        syslog::send_all(receiver)?;
    }
    if let Some(thread) = netconsole {
        let _ = thread.join();
    }
    Ok(())
}

/// Waits until the network is as wanted.
fn wait_for_network(wanted: impl Fn(&NetworkStatus) -> bool) -> NetworkStatus {
    let path = Path::new(NETWORK_STATUS_PATH);
    loop {
        let status = || file::read_json::<NetworkStatus>(path).filter(&wanted);
        match file::wait_for(Path::new(RUN_DIR), LOOK_AGAIN, status) {
            Ok(Some(status)) => return status,
            Ok(None) => {}
            // The folder may not be there yet.
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}
