//! Work that goes on when the line drops.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};

/// From here on this process goes on when its session ends (SIGHUP); what it says then goes nowhere, and its last words
/// belong into the kernel's log. Programs that it starts are told as usual.
pub fn ignore() -> Result<()> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, flag).context("going on without a terminal")?;
    Ok(())
}
