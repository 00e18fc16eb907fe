//! `boot-files eeprom check`: looks at an image or at settings before they get onto a Pi.

use super::board::Board;
use super::config::Config;
use super::finding::{Finding, errors};
use super::image::{self, Image};
use super::image_check::{self, Expected};
use super::{config_check, public_key, read};
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use std::path::PathBuf;

/// Look for what is wrong with an EEPROM image or a bootconf.txt, or dangerous.
///
/// Which of both a file is, is told by its content. The exit code is not 0 if there is an error; warnings and notes do not
/// count. What a bootloader does that nobody documented stays unknown: try an image on a Pi within reach first.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  boot-files eeprom check lifeboat.bin --board cm4 --key boot.pub.pem
  boot-files eeprom check boot.conf")]
pub struct Args {
    /// The image (pieeprom.bin) or the settings (bootconf.txt, boot.conf).
    file: PathBuf,
    /// The board that it is for: with it, filters and the dangers of that board are heeded.
    #[arg(long, value_enum)]
    board: Option<Board>,
    /// The public key that has to be in the image: a PEM.
    #[arg(long, value_name = "PUBKEY.pem")]
    key: Option<PathBuf>,
    /// Say what was found as JSON on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    file: &'a PathBuf,
    errors: usize,
    findings: &'a [Finding],
}

/// Says what was found.
///
/// # Errors
/// If the file cannot be read or is neither, or something is wrong with it.
pub fn run(args: Args) -> Result<()> {
    let bytes = read(&args.file, image::LARGEST)?;
    let context = || format!("checking {}", args.file.display());
    let key = args.key.as_deref().map(public_key::read).transpose()?;
    let is_image = bytes.starts_with(&[0x55, 0xaa])
        || bytes.len() >= image::SMALLEST
        || bytes.starts_with(&[0xff, 0xff]);
    let findings = match is_image {
        true => {
            let image = Image::parse(bytes).with_context(context)?;
            image_check::check(
                &image,
                Expected { board: args.board, key: key.as_ref(), now: Some(Timestamp::now()) },
            )
        }
        false if key.is_some() => bail!("{} is no image: a --key is in images only", args.file.display()),
        false => match Config::parse(&bytes) {
            Ok(config) => config_check::check(&config, args.board),
            Err(error) => vec![Finding::error(None, error.to_string())],
        },
    };
    let errors = errors(&findings);
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&Report { file: &args.file, errors, findings: &findings })?
        );
    } else {
        findings.iter().for_each(|finding| println!("{finding}"));
    }
    match (errors, findings.len()) {
        (0, 0) if !args.json => println!("{}: nothing was found", args.file.display()),
        (0, _) => {}
        (1, _) => bail!("{}: 1 error: do not put it on a Pi", args.file.display()),
        (errors, _) => bail!("{}: {errors} errors: do not put it on a Pi", args.file.display()),
    }
    Ok(())
}
