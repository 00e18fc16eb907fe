//! `boot-files verify`: checks a file's signature as a Pi would.

use super::boot_sig::{self, BootSig};
use super::file::{self, PublicKey};
use anyhow::{Context, Result, bail, ensure};
use rsa::RsaPublicKey;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The longest signature file that is read; those of both kinds are far shorter.
const LIMIT: u64 = 8 << 10;

/// Check a file's signature.
///
/// The kind is recognised from the key. With a boot key, boot.sig is checked as the Pi's bootloader does; a bare
/// signature as `openssl dgst -sha256 -sign` writes it (256 bytes) is taken too. With an image key the signature is
/// a minisign file. The exit code is 0 only if the signature is good.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  boot-files verify boot.img --key boot.pub.pem
  boot-files verify debian.json --key image.pub")]
pub struct Args {
    /// The file that was signed.
    file: PathBuf,
    /// The public key: a PEM (SPKI or PKCS#1), or a minisign public key. A boot key's private PEM does as well.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The signature. Otherwise the file beside it: NAME.sig, or NAME.EXT.minisig.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

/// Checks and says what was found.
///
/// # Errors
/// If a file cannot be read or the signature is not good.
pub fn run(args: Args) -> Result<()> {
    let (signature, said) = match file::read_public(&args.key)? {
        PublicKey::Boot(key) => {
            let signature = args.signature.unwrap_or_else(|| args.file.with_extension("sig"));
            let said = boot(&args.file, &signature, &key)?;
            (signature, said)
        }
        PublicKey::Image(key) => {
            let mut beside = args.file.clone().into_os_string();
            beside.push(".minisig");
            let signature = args.signature.unwrap_or_else(|| beside.into());
            let said = image(&args.file, &signature, &key)?;
            (signature, said)
        }
    };
    println!("{}: good signature {} ({said})", args.file.display(), signature.display());
    Ok(())
}

fn boot(path: &Path, signature: &Path, key: &RsaPublicKey) -> Result<String> {
    let bytes = read(signature)?;
    let source = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let checking = || format!("checking {} with {}", path.display(), signature.display());
    // A bare signature has 256 bytes; a boot.sig that has them by chance would have to lack its rsa2048 line.
    if bytes.len() == 256 {
        let sha256 = boot_sig::digest(source).with_context(checking)?;
        boot_sig::check(key, &sha256, &bytes).with_context(checking)?;
        return Ok("RSA-2048, bare".to_owned());
    }
    let parsed =
        BootSig::parse(&bytes).with_context(|| format!("reading the signature {}", signature.display()))?;
    parsed.verify(source, key).with_context(checking)?;
    Ok(format!("RSA-2048, ts {}", parsed.timestamp))
}

fn image(path: &Path, signature: &Path, key: &minisign::PublicKey) -> Result<String> {
    let bytes = read(signature)?;
    let reading = || format!("reading the signature {}", signature.display());
    let text = String::from_utf8(bytes).with_context(reading)?;
    let parsed = minisign::SignatureBox::from_string(&text).with_context(reading)?;
    ensure!(parsed.keynum() == key.keynum(), "another key made the signature {}", signature.display());
    let source = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    if let Err(error) = minisign::verify(key, &parsed, source, true, false, true) {
        bail!("checking {} with {}: {error}: one of them was changed", path.display(), signature.display());
    }
    Ok(format!("minisign, {}", parsed.trusted_comment().unwrap_or_default()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
        .with_context(|| format!("reading the signature {}", path.display()))?;
    ensure!(bytes.len() as u64 <= LIMIT, "{} is too long to be a signature", path.display());
    Ok(bytes)
}
