//! `boot-files build`: its arguments, and what it says at the end.

use crate::apt::Refresh;
use crate::assemble::{Order, Outcome, assemble};
use crate::progress::Progress;
use crate::{cache, device};
use anyhow::Result;
use std::path::PathBuf;

/// Build boot.img, boot.sig, a TFTP tree and a manifest from image.toml.
///
/// Packages are downloaded by the host's apt into a cache of their own, and checked against the repositories' signatures.
/// The same inputs make the same bytes. Timestamps are SOURCE_DATE_EPOCH or else the newest repository's date.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to build (see docs/image-toml.md).
    #[arg(value_name = "IMAGE.TOML")]
    config: PathBuf,
    /// The folder to write boot.img, boot.sig, manifest.json and tftp/ to.
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    output: PathBuf,
    /// Where downloads are kept [default: lifeboat in $XDG_CACHE_HOME or ~/.cache].
    #[arg(long, value_name = "DIR", env = "LIFEBOAT_CACHE")]
    cache: Option<PathBuf>,
    /// The folder of the static arm64 programs init and rescue.
    #[arg(long, value_name = "DIR", default_value = device::DEFAULT_FOLDER)]
    device_binaries: PathBuf,
    /// Fetch the package lists now, even if they are younger than a day.
    #[arg(long, conflicts_with = "offline")]
    refresh: bool,
    /// Use the package lists of the last time, however old.
    #[arg(long)]
    offline: bool,
    /// Say nothing but warnings and errors.
    #[arg(short, long)]
    quiet: bool,
}

/// Runs it.
///
/// # Errors
/// If the image cannot be built; the output folder is then as it was.
pub fn run(args: Args) -> Result<()> {
    let progress = Progress::new(args.quiet);
    let order = Order {
        config: args.config,
        output: args.output,
        cache: args.cache.unwrap_or_else(cache::default_folder),
        device_binaries: args.device_binaries,
        refresh: match (args.refresh, args.offline) {
            (true, _) => Refresh::Now,
            (_, true) => Refresh::Never,
            _ => Refresh::WhenOld,
        },
    };
    let output = order.output.display();
    match assemble(&order, &progress)? {
        Outcome::Unchanged => progress.step(&format!("unchanged: {output} is what these inputs make")),
        Outcome::Built { size, signed } => progress.step(&format!(
            "built {output}/boot.img, {:.1} MiB, {}",
            size as f64 / f64::from(1 << 20),
            if signed { "signed" } else { "not signed (hash and timestamp only)" }
        )),
    }
    Ok(())
}
