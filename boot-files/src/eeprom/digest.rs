//! `boot-files eeprom digest`: what `rpi-eeprom-digest` does, with its options. The signature files of an EEPROM
//! (`pieeprom.sig`, `bootconf.sig`) have the format of `boot.sig`.

use crate::keys::boot_sig;
use crate::keys::output::{self, Access, Existing};
use crate::keys::timestamp;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Write or check a signature file, as rpi-eeprom-digest does.
///
/// Without -k the file holds hash and time: a guard against corruption, for pieeprom.sig. With -k it also holds a
/// signature, for boot.sig and bootconf.sig. The time is that of SOURCE_DATE_EPOCH, otherwise now. The bytes are those of
/// rpi-eeprom-digest.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  boot-files eeprom digest -i pieeprom.bin -o pieeprom.sig
  boot-files eeprom digest -k private.pem -i bootconf.txt -o bootconf.sig
  boot-files eeprom digest -k public.pem -i boot.img -v boot.sig")]
pub struct Args {
    /// The file to sign or check.
    #[arg(short, value_name = "IMAGE")]
    image: PathBuf,
    /// The signature file to write.
    #[arg(short, value_name = "OUTPUT", required_unless_present = "verify")]
    output: Option<PathBuf>,
    /// The RSA-2048 key, a PEM: the private one to sign, the public one to check.
    #[arg(short, value_name = "RSA_KEY")]
    key: Option<PathBuf>,
    /// Check IMAGE by this signature file instead.
    #[arg(short, value_name = "SIG", requires = "key", conflicts_with = "output")]
    verify: Option<PathBuf>,
}

/// Writes or checks it.
///
/// # Errors
/// If a file cannot be read or written, a key is of the wrong kind, or the check fails.
pub fn run(args: Args) -> Result<()> {
    if let Some((signature, key)) = args.verify.as_deref().zip(args.key.as_deref()) {
        return verify(&args.image, signature, key);
    }
    let output = args.output.context("there is no -o OUTPUT")?;
    let text = boot_sig::sign(&args.image, args.key.as_deref(), timestamp::choose(None)?)?;
    output::write(&output, text.as_bytes(), Access::Everybody, Existing::Replace)
}

fn verify(image: &Path, signature: &Path, key: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(boot_sig::LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    File::open(signature)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .with_context(|| format!("reading {}", signature.display()))?;
    let checking = || format!("checking {} with {}", image.display(), signature.display());
    boot_sig::verify(image, &bytes, key).with_context(checking)?;
    println!("{}: good signature {}", image.display(), signature.display());
    Ok(())
}
