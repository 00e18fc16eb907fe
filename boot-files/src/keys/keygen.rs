//! `boot-files keygen`: makes a key pair.

use super::output::{self, Access, Existing};
use super::{Kind, file};
use anyhow::{Context, Result, bail};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::{RsaPrivateKey, rand_core::UnwrapErr};
use std::path::{Path, PathBuf};

/// Make a key pair.
///
/// A boot key (RSA-2048) goes into the Pi's EEPROM and signs boot.img. An image key (minisign's Ed25519) goes into
/// boot.img and signs OS images and install plans. Keep private halves off the boot server: it needs none of them.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  boot-files keygen --kind boot boot       makes boot.pem (private, mode 0600) and boot.pub.pem
  boot-files keygen --kind image image     makes image.key (private, mode 0600) and image.pub")]
pub struct Args {
    /// What the key is for.
    #[arg(long, value_enum)]
    kind: Kind,
    /// The files' name without its ending: NAME.pem and NAME.pub.pem, or NAME.key and NAME.pub.
    name: PathBuf,
    /// Protect the image key with the passphrase in the first line of this file. Without it the key is not protected.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Replace files that are there. The old key is lost, and Pis that know only it refuse what the new one signs.
    #[arg(long)]
    force: bool,
}

/// Makes the key pair and says where it is.
///
/// # Errors
/// If a file is there already and --force is not given, or one cannot be written.
pub fn run(args: Args) -> Result<()> {
    let ends = if args.kind == Kind::Boot { ["pem", "pub.pem"] } else { ["key", "pub"] };
    let [private, public] = ends.map(|end| with_ending(&args.name, end));
    if let Some(there) =
        [&private, &public].into_iter().find(|path| !args.force && path.symlink_metadata().is_ok())
    {
        bail!("{} is there already; --force replaces it, and the key in it is lost", there.display());
    }
    let (private_text, public_text) = match args.kind {
        Kind::Boot if args.password_file.is_some() => {
            bail!("--password-file is for image keys; protect a boot key with: openssl pkey -aes256 -in KEY")
        }
        Kind::Boot => boot_pair()?,
        Kind::Image => image_pair(args.password_file.as_deref())?,
    };
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    output::write(&private, private_text.as_bytes(), Access::Owner, existing)?;
    output::write(&public, public_text.as_bytes(), Access::Everybody, existing)?;
    println!("{}: private {}; keep it secret and keep a copy", private.display(), args.kind);
    println!("{}: its public half", public.display());
    Ok(())
}

fn boot_pair() -> Result<(String, String)> {
    let key = RsaPrivateKey::new(&mut UnwrapErr(getrandom::SysRng), 2048).context("making an RSA key")?;
    let private = key.to_pkcs8_pem(LineEnding::LF).context("encoding the private key")?;
    let public = key.to_public_key().to_public_key_pem(LineEnding::LF).context("encoding the public key")?;
    Ok((private.to_string(), public))
}

fn image_pair(password: Option<&Path>) -> Result<(String, String)> {
    let pair = match password {
        None => minisign::KeyPair::generate_unencrypted_keypair(),
        Some(path) => minisign::KeyPair::generate_encrypted_keypair(Some(file::read_password(path)?)),
    }
    .context("making an Ed25519 key")?;
    let private = pair.sk.to_box(None).context("encoding the private key")?;
    let public = pair.pk.to_box().context("encoding the public key")?;
    Ok((private.into_string(), public.into_string()))
}

/// `name` with `.ending` behind it; a name such as `site-1.2` keeps its dots.
fn with_ending(name: &Path, ending: &str) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}
