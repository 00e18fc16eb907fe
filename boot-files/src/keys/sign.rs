//! `boot-files sign`: signs a file with a key of either kind.

use super::boot_sig::BootSig;
use super::file::{self, SecretKey};
use super::output::{self, Access, Existing};
use super::{Kind, timestamp};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Sign a file.
///
/// With a boot key (RSA-2048) this writes boot.sig for boot.img, with an image key (minisign) NAME.json.minisig for
/// NAME.json. The kind is recognised from the key file. Without a key it writes a boot.sig that holds hash and time
/// alone: a guard against corruption for a bootloader that checks no signatures.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  boot-files sign boot.img --key boot.pem               writes boot.sig
  boot-files sign debian.json --key image.key           writes debian.json.minisig
  boot-files sign pieeprom.bin -o pieeprom.sig          hash and time alone")]
pub struct Args {
    /// The file to sign.
    file: PathBuf,
    /// The private key: a PEM (PKCS#1 or PKCS#8) for boot.sig, a minisign key for images.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Insist that the key is of this kind.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// The file that holds the passphrase of a protected image key in its first line.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The time to write, in seconds since 1970. Otherwise that of SOURCE_DATE_EPOCH, otherwise now.
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<u64>,
    /// Where to write the signature. Otherwise beside the file: NAME.sig, or NAME.EXT.minisig.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Signs and says what was written.
///
/// # Errors
/// If the file or the key cannot be read, the key is of the wrong kind, or the signature cannot be written.
pub fn run(args: Args) -> Result<()> {
    let key =
        args.key.as_deref().map(|path| file::read_secret(path, args.password_file.as_deref())).transpose()?;
    let kind = key.as_ref().map_or(Kind::Boot, SecretKey::kind);
    if let Some(wanted) = args.kind.filter(|wanted| *wanted != kind) {
        match &args.key {
            Some(path) => bail!("{} is a {kind}, not a {wanted}", path.display()),
            None => bail!("signing with a {wanted} needs --key"),
        }
    }
    let timestamp = timestamp::choose(args.timestamp)?;
    let source = || File::open(&args.file).with_context(|| format!("opening {}", args.file.display()));
    let (text, output) = match &key {
        Some(SecretKey::Image(key)) => {
            let mut name = args.file.clone().into_os_string();
            name.push(".minisig");
            (image_signature(key, source()?, &args.file, timestamp)?, name.into())
        }
        Some(SecretKey::Boot(key)) => {
            (BootSig::sign(source()?, Some(key), timestamp)?.to_string(), args.file.with_extension("sig"))
        }
        None => (BootSig::sign(source()?, None, timestamp)?.to_string(), args.file.with_extension("sig")),
    };
    let output = args.output.unwrap_or(output);
    if same_file(&output, &args.file) {
        bail!("the signature would replace {} itself; give -o", args.file.display());
    }
    output::write(&output, text.as_bytes(), Access::Everybody, Existing::Replace)?;
    match key {
        Some(_) => println!("{}: signed with a {kind}", output.display()),
        None => println!(
            "{}: hash and time alone, no signature. A Pi takes it only where its bootloader checks none; give --key",
            output.display()
        ),
    }
    Ok(())
}

/// The text of a minisign signature over what `source` gives. `name` goes into the trusted comment.
///
/// # Errors
/// If reading or the system's random numbers fail.
pub fn image_signature(
    key: &minisign::SecretKey,
    source: impl std::io::Read,
    name: &Path,
    timestamp: u64,
) -> Result<String> {
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    // A line feed in the name would end the comment and make a file that nothing can read.
    let name: String = name.chars().filter(|letter| !letter.is_control()).collect();
    let comment = format!("timestamp:{timestamp}\tfile:{name}\thashed");
    let signature = minisign::sign(None, key, source, Some(&comment), None);
    Ok(signature.with_context(|| format!("signing {name}"))?.into_string())
}

fn same_file(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
