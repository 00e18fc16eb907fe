//! Step `usr`: mounts the squashfs with tools and drivers; then the other children may start.

use anyhow::Result;

use crate::pid1::boot::Boot;
use crate::pid1::control::{self, Message};
use crate::pid1::usr;

pub(crate) fn run(_: &mut Boot) -> Result<()> {
    let mounted = usr::mount();
    // The others start all the same: a kernel with built-in drivers still gets SSH. PID 1 starts them by itself after a
    // while, should this not reach it.
    if let Err(error) = control::send(&Message::FilesystemsReady) {
        tracing::warn!("{error:#}");
    }
    mounted
}
