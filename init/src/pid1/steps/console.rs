//! Step `console`: says who we are, and sets a clock that is never before the image's own time (a Pi 4 has none).

use anyhow::Result;

use crate::pid1::boot::Boot;
use crate::pid1::clock;

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let kernel = rustix::system::uname();
    let release = kernel.release();
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!("Pi Lifeboat {version}, image {}, kernel {}", boot.config.name, release.to_string_lossy());
    clock::begin(boot.config.built)
}
