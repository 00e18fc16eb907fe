//! Step `console`: says who we are, and sets a clock that is never before the image's own time (a Pi 4 has none, and TLS
//! needs one).

use anyhow::{Context, Result};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::pid1::boot::Boot;

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let kernel = rustix::system::uname();
    let release = kernel.release();
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!("Pi Lifeboat {version}, image {}, kernel {}", boot.config.name, release.to_string_lossy());
    let built = i64::try_from(boot.config.built).context("reading the image's build time")?;
    if clock_gettime(ClockId::Realtime).tv_sec < built {
        clock_settime(ClockId::Realtime, Timespec { tv_sec: built, tv_nsec: 0 })
            .context("setting the clock to the image's build time")?;
    }
    Ok(())
}
