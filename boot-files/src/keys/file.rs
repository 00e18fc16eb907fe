//! Key files: which kind one is, told by its content, and the keys in it.

use super::Kind;
use anyhow::{Context, Result, bail, ensure};
use ct_codecs::{Base64, Decoder};
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey};
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};
use rsa::traits::PublicKeyParts;
use rsa::{RsaPrivateKey, RsaPublicKey};
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

/// No key file is longer than this many bytes.
pub const LIMIT: u64 = 64 << 10;
/// The Base64 of a minisign public key: two bytes of algorithm, eight of number, 32 of key.
const IMAGE_PUBLIC_LENGTH: usize = 56;
/// The bytes of a minisign private key, and those at its end that are its checksum.
const IMAGE_SECRET_LENGTH: usize = 158;
const IMAGE_CHECKSUM_LENGTH: usize = 32;

/// A private key.
pub enum SecretKey {
    /// For boot.sig.
    Boot(Box<RsaPrivateKey>),
    /// For OS images.
    Image(Box<minisign::SecretKey>),
}

/// A public key.
pub enum PublicKey {
    /// For boot.sig.
    Boot(Box<RsaPublicKey>),
    /// For OS images.
    Image(minisign::PublicKey),
}

impl SecretKey {
    /// What the key is for.
    pub fn kind(&self) -> Kind {
        match self {
            SecretKey::Boot(_) => Kind::Boot,
            SecretKey::Image(_) => Kind::Image,
        }
    }
}

impl PublicKey {
    /// What the key is for.
    pub fn kind(&self) -> Kind {
        match self {
            PublicKey::Boot(_) => Kind::Boot,
            PublicKey::Image(_) => Kind::Image,
        }
    }
}

/// Reads a private key file of either kind. `password` is the file that holds the passphrase of a protected image
/// key; without it a terminal is asked.
///
/// # Errors
/// If the file cannot be read, is no private key, or is one that a Pi could not use.
pub fn read_secret(path: &Path, password: Option<&Path>) -> Result<SecretKey> {
    let text = read_text(path)?;
    secret(&text, password).with_context(|| format!("reading the private key {}", path.display()))
}

/// Reads a public key file of either kind; from a private key file its public half.
///
/// # Errors
/// If the file cannot be read, is no key, or is one that a Pi could not use.
pub fn read_public(path: &Path) -> Result<PublicKey> {
    let text = read_text(path)?;
    public(&text).with_context(|| format!("reading the public key {}", path.display()))
}

/// The passphrase in the first line of the file at `path`.
///
/// # Errors
/// If it cannot be read or is empty.
pub fn read_password(path: &Path) -> Result<String> {
    let text = read_text(path)?;
    let password = text.lines().next().unwrap_or_default();
    ensure!(
        !password.is_empty(),
        "the first line of {} is empty: it has to be the passphrase",
        path.display()
    );
    Ok(password.to_owned())
}

fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_string(&mut text))
        .with_context(|| format!("reading {}", path.display()))?;
    ensure!(text.len() as u64 <= LIMIT, "{} is larger than any key file ({LIMIT} bytes)", path.display());
    Ok(text)
}

fn secret(text: &str, password: Option<&Path>) -> Result<SecretKey> {
    match Form::of(text)? {
        Form::Pem(label) => Ok(SecretKey::Boot(Box::new(boot_secret(label, text)?))),
        Form::MinisignSecret => Ok(SecretKey::Image(Box::new(image_secret(text, password)?))),
        Form::MinisignPublic => bail!("it is a public key; signing needs the private one"),
    }
}

fn public(text: &str) -> Result<PublicKey> {
    let key = match Form::of(text)? {
        Form::Pem("PUBLIC KEY") => {
            RsaPublicKey::from_public_key_pem(text).context("decoding it as RSA (SPKI)")?
        }
        Form::Pem("RSA PUBLIC KEY") => {
            RsaPublicKey::from_pkcs1_pem(text).context("decoding it as RSA (PKCS#1)")?
        }
        Form::Pem(label) => boot_secret(label, text)?.to_public_key(),
        Form::MinisignPublic => {
            let key =
                minisign::PublicKeyBox::from_string(text).and_then(minisign::PublicKeyBox::into_public_key);
            return Ok(PublicKey::Image(key.context("decoding it as a minisign public key")?));
        }
        Form::MinisignSecret => bail!("it is an image key's private half; give the public one (NAME.pub)"),
    };
    check_size(&key)?;
    Ok(PublicKey::Boot(Box::new(key)))
}

fn boot_secret(label: &str, text: &str) -> Result<RsaPrivateKey> {
    let key = match label {
        "ENCRYPTED PRIVATE KEY" | "RSA PRIVATE KEY"
            if label.starts_with('E') || text.contains("ENCRYPTED") =>
        {
            bail!("it is protected by a passphrase; decrypt it first: openssl pkey -in KEY -out PLAIN.pem")
        }
        "RSA PRIVATE KEY" => RsaPrivateKey::from_pkcs1_pem(text).context("decoding it as RSA (PKCS#1)")?,
        "PRIVATE KEY" => RsaPrivateKey::from_pkcs8_pem(text).context("decoding it as RSA (PKCS#8)")?,
        "PUBLIC KEY" | "RSA PUBLIC KEY" => bail!("it is a public key; signing needs the private one"),
        other => bail!("it is a PEM of {other:?}; a boot key is an RSA-2048 PRIVATE KEY"),
    };
    check_size(&key.to_public_key())?;
    Ok(key)
}

/// The bootloader knows one size and nothing else.
fn check_size(key: &RsaPublicKey) -> Result<()> {
    let bits = key.n().bits_vartime();
    ensure!(bits == 2048, "it is an RSA key of {bits} bits; a Pi's bootloader takes 2048 and nothing else");
    Ok(())
}

fn image_secret(text: &str, password: Option<&Path>) -> Result<minisign::SecretKey> {
    let form = minisign::SecretKeyBox::from_string(text).context("decoding it as a minisign private key")?;
    let bytes = Base64::decode_to_vec(text.lines().nth(1).unwrap_or_default().trim(), None);
    let bytes = bytes.ok().filter(|bytes| bytes.len() == IMAGE_SECRET_LENGTH);
    let bytes = bytes.context("decoding it as a minisign private key: its second line is not one")?;
    match bytes.get(2..4) {
        Some(b"\0\0") if bytes.iter().rev().take(IMAGE_CHECKSUM_LENGTH).all(|byte| *byte == 0) => {
            let key =
                minisign::SecretKey::from_bytes(&bytes).context("decoding it as a minisign private key")?;
            check_halves(&key)?;
            Ok(key)
        }
        Some(b"\0\0") => form.into_unencrypted_secret_key().context("decoding it as a minisign private key"),
        _ => {
            let password = match password {
                Some(path) => Some(read_password(path)?),
                None if std::io::stdin().is_terminal() => None,
                None => bail!(
                    "it is protected by a passphrase, and there is no terminal to ask: give --password-file"
                ),
            };
            form.into_secret_key(password).context("decrypting it")
        }
    }
}

/// `minisign -G -W` leaves the checksum of the key empty: whether the key is whole shows when it signs.
fn check_halves(key: &minisign::SecretKey) -> Result<()> {
    let public = minisign::PublicKey::from_secret_key(key).context("taking its public half")?;
    minisign::sign(Some(&public), key, &b""[..], None, None).context("trying it")?;
    Ok(())
}

/// What a key file's text looks like.
enum Form<'a> {
    /// A PEM block with this label.
    Pem(&'a str),
    /// minisign's private key.
    MinisignSecret,
    /// minisign's public key.
    MinisignPublic,
}

impl<'a> Form<'a> {
    fn of(text: &'a str) -> Result<Self> {
        let label =
            text.lines().find_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
        if let Some(label) = label {
            return Ok(Form::Pem(label));
        }
        let mut lines = text.lines();
        if lines.next().is_some_and(|line| line.starts_with("untrusted comment:")) {
            let key = lines.next().unwrap_or_default().trim();
            return Ok(if key.len() == IMAGE_PUBLIC_LENGTH {
                Form::MinisignPublic
            } else {
                Form::MinisignSecret
            });
        }
        bail!("it is neither a PEM (boot key) nor a minisign key file (image key)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(text: &str) -> String {
        secret(text, None).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn other_keys_are_named() {
        assert!(refusal("hello").contains("neither a PEM"));
        let pem = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        assert!(refusal(&pem("EC PRIVATE KEY")).contains("EC PRIVATE KEY"));
        assert!(refusal(&pem("OPENSSH PRIVATE KEY")).contains("OPENSSH"));
        assert!(refusal(&pem("ENCRYPTED PRIVATE KEY")).contains("passphrase"));
        assert!(refusal(&pem("PUBLIC KEY")).contains("public key"));
        assert!(refusal(&pem("PRIVATE KEY")).contains("PKCS#8"));
    }

    #[test]
    fn halves_of_an_image_key_are_told_apart() {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let public_text = pair.pk.to_box().unwrap().to_string();
        let secret_text = pair.sk.to_box(None).unwrap().to_string();
        assert_eq!(secret(&secret_text, None).ok().unwrap().kind(), Kind::Image);
        assert_eq!(public(&public_text).ok().unwrap().kind(), Kind::Image);
        assert!(refusal(&public_text).contains("public key"));
        assert!(public(&secret_text).map(|_| ()).unwrap_err().to_string().contains("private half"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(untrusted comment: x\n|-----BEGIN PRIVATE KEY-----\n|)[ -~\n]{0,300}") {
            let _ = secret(&text, None);
            let _ = public(&text);
        }
    }
}
