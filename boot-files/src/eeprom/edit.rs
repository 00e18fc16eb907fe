//! `boot-files eeprom edit`: what `rpi-eeprom-config` does to an image, with its options and to the same bytes.

use super::image::{self, Image, Soc};
use super::{certificate, config, public_key, read, read_image};
use crate::keys::boot_sig::{self, BootSig};
use crate::keys::output::{self, Access, Existing};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// Put settings, keys and signatures into an EEPROM image.
///
/// All other bytes of the image stay as they are. The output is the same, byte for byte, as that of rpi-eeprom-config.
/// What cannot work is refused: an image that is damaged, settings that are not plain ASCII or too long, a key that is not
/// RSA-2048, a certificate that is not DER, a signature that is not over these settings.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  boot-files eeprom edit -c boot.conf -p boot.pub.pem -o lifeboat.bin pieeprom.bin

`boot-files eeprom check lifeboat.bin` tells what is wrong with the settings, or dangerous.")]
pub struct Args {
    /// The image to start from. It stays as it is.
    image: PathBuf,
    /// The settings: a bootconf.txt.
    #[arg(short, long, value_name = "CONF")]
    config: Option<PathBuf>,
    /// The public key by which the bootloader checks what it loads over HTTP: a PEM.
    #[arg(short, long, value_name = "PUBKEY.pem")]
    pubkey: Option<PathBuf>,
    /// The certificate authority for HTTPS, in DER. HTTP_CACERT_HASH has to be its SHA-256.
    #[arg(long, value_name = "CA.der")]
    cacertder: Option<PathBuf>,
    /// The signature over the settings, for a bootloader with secure boot: a bootconf.sig.
    #[arg(short, long, value_name = "SIG")]
    digest: Option<PathBuf>,
    /// The time of the change, in seconds since 1970. A self-update compares it.
    #[arg(short, long, value_name = "TIMESTAMP")]
    timestamp: Option<u32>,
    /// Where to write the image.
    #[arg(short, long, value_name = "OUT")]
    out: PathBuf,
}

/// What to put into an image.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The content of `bootconf.txt`.
    pub config: Option<Vec<u8>>,
    /// The content of `pubkey.bin`.
    pub pubkey: Option<Vec<u8>>,
    /// The content of `cacert.der`.
    pub certificate: Option<Vec<u8>>,
    /// The content of `bootconf.sig`.
    pub signature: Option<Vec<u8>>,
    /// Seconds since 1970.
    pub timestamp: Option<u32>,
}

impl Changes {
    /// Makes them.
    ///
    /// # Errors
    /// If the image lacks a file, or room for it.
    pub fn apply(&self, image: &mut Image) -> Result<()> {
        let files = [
            (image::BOOTCONF, &self.config),
            (image::BOOTCONF_SIG, &self.signature),
            (image::PUBKEY, &self.pubkey),
            (image::CACERT, &self.certificate),
        ];
        for (name, content) in files {
            if let Some(content) = content {
                image.replace(name, content).with_context(|| format!("putting {name} into the image"))?;
            }
        }
        if let Some(seconds) = self.timestamp {
            image.set_update_timestamp(seconds).context("putting the time of the change into the image")?;
        }
        Ok(())
    }
}

/// Writes the changed image.
///
/// # Errors
/// If a file cannot be read or written, or is not what it should be.
pub fn run(args: Args) -> Result<()> {
    let mut image = read_image(&args.image)?;
    let changes = changes(&args)?;
    let made = changes.apply(&mut image);
    made.with_context(|| format!("changing {}", args.image.display()))?;
    if let Some(signature) = &args.digest {
        check_signature(&image, signature)?;
    }
    output::write(&args.out, image.bytes(), Access::Everybody, Existing::Replace)?;
    println!("{}: an image for {}", args.out.display(), image.soc());
    if image.soc() == Soc::Bcm2712 {
        eprintln!(
            "boot-files: changing an image for BCM2712 has not been tried on a real one: have rpiboot at hand"
        );
    }
    Ok(())
}

fn changes(args: &Args) -> Result<Changes> {
    let content =
        |path: &Option<PathBuf>| path.as_deref().map(|path| read(path, image::CONTENT_LIMIT)).transpose();
    let changes = Changes {
        config: args.config.as_deref().map(read_config).transpose()?,
        pubkey: args
            .pubkey
            .as_deref()
            .map(|path| public_key::encode(&public_key::read(path)?))
            .transpose()?,
        certificate: args.cacertder.as_deref().map(read_certificate).transpose()?,
        signature: content(&args.digest)?,
        timestamp: args.timestamp,
    };
    let nothing = changes.config.is_none()
        && changes.pubkey.is_none()
        && changes.certificate.is_none()
        && changes.signature.is_none()
        && changes.timestamp.is_none();
    ensure!(!nothing, "there is nothing to change: give -c, -p, --cacertder, -d or -t");
    Ok(changes)
}

/// The settings in a file, if a bootloader can read all of them.
///
/// # Errors
/// If the file cannot be read, is too long, or is not plain ASCII.
pub fn read_config(path: &Path) -> Result<Vec<u8>> {
    let bytes = read(path, image::CONTENT_LIMIT).context("reading the settings")?;
    config::check(&bytes).with_context(|| format!("reading the settings {}", path.display()))?;
    Ok(bytes)
}

/// The certificate in a file.
///
/// # Errors
/// If it cannot be read or is no certificate in DER.
pub fn read_certificate(path: &Path) -> Result<Vec<u8>> {
    let bytes = read(path, image::CONTENT_LIMIT).context("reading the certificate")?;
    certificate::read(&bytes).with_context(|| format!("reading the certificate {}", path.display()))?;
    Ok(bytes)
}

/// A Pi with secure boot does not start with a signature that is not over its settings.
fn check_signature(image: &Image, path: &Path) -> Result<()> {
    let checking = || format!("checking the signature {}", path.display());
    let signature =
        BootSig::parse(image.file(image::BOOTCONF_SIG).unwrap_or_default()).with_context(checking)?;
    let config = image.file(image::BOOTCONF).unwrap_or_default();
    let Some(rsa2048) = &signature.rsa2048 else {
        bail!(
            "{} holds no signature, only a hash: make it with boot-files eeprom digest -k KEY",
            path.display()
        )
    };
    let sha256 = boot_sig::digest(config)?;
    ensure!(sha256 == signature.sha256, "{} is not over the settings in this image", path.display());
    if let Some(key) = image.file(image::PUBKEY) {
        boot_sig::check(&public_key::decode(key)?, &sha256, rsa2048).with_context(checking)?;
    }
    Ok(())
}
