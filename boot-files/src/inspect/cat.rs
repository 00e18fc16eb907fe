//! `boot-files cat`.

use anyhow::{Context, Result};
use std::io::{self, Write};
use std::path::PathBuf;

/// Print one file of boot.img, an initramfs or a squashfs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boot-files cat out/boot.img config.txt
  boot-files cat out/tftp/initramfs8 etc/lifeboat.toml")]
pub struct Args {
    /// The image; - is standard input.
    image: PathBuf,
    /// The file in it.
    path: String,
}

/// Runs it.
///
/// # Errors
/// If the image cannot be read, or has no such file.
pub fn run(args: Args) -> Result<()> {
    let mut archive = super::open(&args.image)?;
    let (index, _) = super::find(&*archive, &args.path).with_context(|| args.image.display().to_string())?;
    let mut out = io::stdout().lock();
    let copied = archive.copy(index, &mut out).and_then(|()| Ok(out.flush()?));
    match copied {
        Err(error) if closed(&error) => Ok(()),
        other => other.with_context(|| format!("printing {}", args.path)),
    }
}

/// A reader that has seen enough (`| head`) is no error.
fn closed(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
