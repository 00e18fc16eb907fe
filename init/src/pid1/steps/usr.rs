//! Step `usr`: mounts the squashfs with tools and drivers; then the other children may start.

use anyhow::Result;

use crate::pid1::boot::Boot;
use crate::pid1::control::{self, Message};
use crate::pid1::usr;

pub(crate) fn run(_: &mut Boot) -> Result<()> {
    usr::mount()?;
    // PID 1 starts the others by itself after a while, should this not be reached: a kernel with built-in drivers still
    // gets SSH.
    if let Err(error) = control::send(&Message::FilesystemsReady) {
        tracing::warn!("{error:#}");
    }
    Ok(())
}
