//! `boot-files eeprom`: reads, changes and checks the images of a Pi's bootloader EEPROM, and prepares putting one on a Pi.
//!
//! [`image`] knows the image, [`config`] the settings in it; the commands are built on them.

pub mod board;
pub mod boot_order;
pub mod certificate;
pub mod check;
pub mod config;
pub mod config_check;
pub mod digest;
pub mod edit;
pub mod finding;
pub mod image;
pub mod image_check;
pub mod key_table;
pub mod plan;
pub mod public_key;
pub mod release;
pub mod section;
pub mod show;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use image::Image;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Read, change and check bootloader EEPROM images (pieeprom.bin), and plan how to flash one.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Tell what is in an image.
    Show(show::Args),
    /// Look for what is wrong with an image or with settings, or dangerous.
    Check(check::Args),
    /// Change an image.
    Edit(edit::Args),
    /// Write what puts HTTP boot into a Pi's EEPROM, for each way in.
    Plan(plan::Args),
    /// Write or check a signature file.
    Digest(digest::Args),
}

/// Does what was asked for.
///
/// # Errors
/// Those of the command.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Show(args) => show::run(args),
        Command::Check(args) => check::run(args),
        Command::Edit(args) => edit::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Digest(args) => digest::run(args),
    }
}

/// The image in a file.
///
/// # Errors
/// If it cannot be read or is no EEPROM image.
pub fn read_image(path: &Path) -> Result<Image> {
    let bytes = read(path, image::LARGEST)?;
    Image::parse(bytes).with_context(|| format!("reading the EEPROM image {}", path.display()))
}

/// A file that has at most `limit` bytes.
///
/// # Errors
/// If it cannot be read or is longer.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let reading = || format!("reading {}", path.display());
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).with_context(reading)?;
    ensure!(
        bytes.len() <= limit,
        "{} has more than {limit} bytes: it is not what is wanted here",
        path.display()
    );
    Ok(bytes)
}
