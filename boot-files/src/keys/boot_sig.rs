//! `boot.sig`: what a Pi's bootloader fetches before `boot.img` and checks it by.
//!
//! The format is that of Raspberry Pi's `rpi-eeprom-digest`: lines of text, each ended by a line feed.
//!
//! ```text
//! <64 hexadecimal digits: the file's SHA-256>
//! ts: <seconds since 1970>
//! target-soc: <2711 or 2712>      only in firmware updates
//! rsa2048: <512 hexadecimal digits: RSASSA-PKCS1-v1_5 with SHA-256 over the file>
//! ```

use super::file::{self, PublicKey, SecretKey};
use anyhow::{Context, Result, bail};
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// No signature file is longer than this many bytes; a whole one has 619.
pub const LIMIT: usize = 4 << 10;

/// A signature file whose lines are what they should be. Whether it fits a file is [`BootSig::verify`]'s to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootSig {
    /// The SHA-256 of the signed file.
    pub sha256: [u8; 32],
    /// Seconds since 1970. The bootloader compares it for updates of itself.
    pub timestamp: u64,
    /// The only chip that may take the file, if it is for one.
    pub target_soc: Option<TargetSoc>,
    /// The signature, most significant byte first. Without one the file is a guard against corruption alone.
    pub rsa2048: Option<[u8; 256]>,
}

/// A chip, as `target-soc:` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSoc {
    /// Raspberry Pi 4, 400, CM4.
    Bcm2711,
    /// Raspberry Pi 5, 500, CM5.
    Bcm2712,
}

/// Why a signature file is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootSigError {
    /// It is too long to be one.
    #[error("it has {0} bytes, more than the limit of {LIMIT}")]
    TooLong(usize),
    /// The first line is not a hash.
    #[error("its first line is not 64 hexadecimal digits")]
    Hash,
    /// There is no time.
    #[error("it has no line \"ts: SECONDS\"")]
    Timestamp,
    /// A chip that is not known.
    #[error("its target-soc is neither 2711 nor 2712")]
    TargetSoc,
    /// The signature is not one.
    #[error("its rsa2048 is not 512 hexadecimal digits")]
    Signature,
    /// A line that has no meaning, or comes twice.
    #[error("its line {0} has no meaning")]
    Line(usize),
}

/// Why a file does not pass.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Its bytes are not those that were signed.
    #[error(
        "its SHA-256 is not the one in the signature file: one of them was changed, or they do not belong together"
    )]
    Hash,
    /// There is a hash and no signature.
    #[error("the signature file holds no rsa2048 line: it guards against corruption and proves nothing")]
    Unsigned,
    /// Another key made the signature, or it was changed.
    #[error("its signature was not made by this key, or was changed")]
    Signature,
}

impl BootSig {
    /// Reads a signature file's bytes.
    ///
    /// # Errors
    /// Any [`BootSigError`]. The order of the lines after the first is free; unknown lines are refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, BootSigError> {
        if bytes.len() > LIMIT {
            return Err(BootSigError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| BootSigError::Hash)?;
        let mut lines = text.lines();
        let sha256 = lines.next().and_then(|line| from_hex(line.trim_end())).ok_or(BootSigError::Hash)?;
        let (mut timestamp, mut target_soc, mut rsa2048) = (None, None, None);
        for (line, number) in lines.zip(2..) {
            let line = line.trim_end();
            match line.split_once(": ") {
                Some(("ts", value)) if timestamp.is_none() => timestamp = Some(decimal(value)?),
                Some(("target-soc", value)) if target_soc.is_none() => {
                    target_soc = Some(TargetSoc::parse(value)?)
                }
                Some(("rsa2048", value)) if rsa2048.is_none() => {
                    rsa2048 = Some(from_hex(value).ok_or(BootSigError::Signature)?);
                }
                None if line.is_empty() => {}
                _ => return Err(BootSigError::Line(number)),
            }
        }
        let timestamp = timestamp.ok_or(BootSigError::Timestamp)?;
        Ok(BootSig { sha256, timestamp, target_soc, rsa2048 })
    }

    /// Signs what `image` gives; without a key only hash and time are filled in.
    ///
    /// # Errors
    /// If reading or the arithmetic fails.
    pub fn sign(image: impl Read, key: Option<&RsaPrivateKey>, timestamp: u64) -> Result<Self> {
        let sha256 = digest(image)?;
        let rsa2048 = key.map(|key| signature(key, &sha256)).transpose()?;
        Ok(BootSig { sha256, timestamp, target_soc: None, rsa2048 })
    }

    /// Checks hash and signature of what `image` gives.
    ///
    /// # Errors
    /// A [`VerifyError`], or that of reading.
    pub fn verify(&self, image: impl Read, key: &RsaPublicKey) -> Result<()> {
        let sha256 = digest(image)?;
        if sha256 != self.sha256 {
            bail!(VerifyError::Hash);
        }
        let Some(rsa2048) = &self.rsa2048 else { bail!(VerifyError::Unsigned) };
        Ok(check(key, &sha256, rsa2048)?)
    }
}

impl TargetSoc {
    fn parse(text: &str) -> Result<Self, BootSigError> {
        match text {
            "2711" => Ok(TargetSoc::Bcm2711),
            "2712" => Ok(TargetSoc::Bcm2712),
            _ => Err(BootSigError::TargetSoc),
        }
    }
}

impl fmt::Display for TargetSoc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            TargetSoc::Bcm2711 => "2711",
            TargetSoc::Bcm2712 => "2712",
        })
    }
}

/// The file's text, byte for byte what `rpi-eeprom-digest` writes.
impl fmt::Display for BootSig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", to_hex(&self.sha256))?;
        writeln!(out, "ts: {}", self.timestamp)?;
        if let Some(soc) = self.target_soc {
            writeln!(out, "target-soc: {soc}")?;
        }
        if let Some(rsa2048) = &self.rsa2048 {
            writeln!(out, "rsa2048: {}", to_hex(rsa2048))?;
        }
        Ok(())
    }
}

/// The text of the signature file for the file at `image`, by the private key file `key` (a PEM) if there is one.
///
/// # Errors
/// If one of the files cannot be read, or the key is no RSA-2048 private key.
pub fn sign(image: &Path, key: Option<&Path>, timestamp: u64) -> Result<String> {
    let key = match key.map(|path| file::read_secret(path, None).map(|key| (path, key))).transpose()? {
        None => None,
        Some((_, SecretKey::Boot(key))) => Some(key),
        Some((path, SecretKey::Image(_))) => {
            bail!("{} is an image key; boot.sig needs a boot key", path.display())
        }
    };
    let source = File::open(image).with_context(|| format!("opening {}", image.display()))?;
    let signed = BootSig::sign(source, key.as_deref(), timestamp);
    Ok(signed.with_context(|| format!("signing {}", image.display()))?.to_string())
}

/// Checks the file at `image` by the signature file's bytes and the public key file `key`.
///
/// # Errors
/// If a file cannot be read or is not what it should be, or the check fails.
pub fn verify(image: &Path, signature: &[u8], key: &Path) -> Result<BootSig> {
    let PublicKey::Boot(key) = file::read_public(key)? else { bail!("{} is no boot key", key.display()) };
    let signature = BootSig::parse(signature).context("reading the signature file")?;
    let source = File::open(image).with_context(|| format!("opening {}", image.display()))?;
    signature.verify(source, &key)?;
    Ok(signature)
}

/// The SHA-256 of everything that `source` gives.
///
/// # Errors
/// If reading fails.
pub fn digest(mut source: impl Read) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = match source.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("reading what is to be hashed"),
        };
        hash.update(buffer.get(..length).unwrap_or_default());
    }
}

/// Whether `rsa2048` is `key`'s signature over a file with this SHA-256.
///
/// # Errors
/// [`VerifyError::Signature`] if it is not.
pub fn check(key: &RsaPublicKey, sha256: &[u8; 32], rsa2048: &[u8]) -> Result<(), VerifyError> {
    key.verify(Pkcs1v15Sign::new::<Sha256>(), sha256, rsa2048).map_err(|_| VerifyError::Signature)
}

fn signature(key: &RsaPrivateKey, sha256: &[u8; 32]) -> Result<[u8; 256]> {
    let signature = key.sign(Pkcs1v15Sign::new::<Sha256>(), sha256).context("signing with the RSA key")?;
    let length = signature.len();
    let Ok(signature) = signature.try_into() else {
        bail!("the key gives signatures of {length} bytes, not 256")
    };
    Ok(signature)
}

fn decimal(text: &str) -> Result<u64, BootSigError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(BootSigError::Timestamp)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_signature() -> impl Strategy<Value = BootSig> {
        let soc = prop_oneof![Just(None), Just(Some(TargetSoc::Bcm2711)), Just(Some(TargetSoc::Bcm2712))];
        let rsa = proptest::option::of(any::<[u8; 32]>().prop_map(|half| {
            let mut all = [0; 256];
            all[..32].copy_from_slice(&half);
            all
        }));
        (any::<[u8; 32]>(), any::<u64>(), soc, rsa).prop_map(|(sha256, timestamp, target_soc, rsa2048)| {
            BootSig { sha256, timestamp, target_soc, rsa2048 }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(signature in any_signature()) {
            let text = signature.to_string();
            prop_assert!(text.len() <= LIMIT);
            prop_assert_eq!(BootSig::parse(text.as_bytes()), Ok(signature));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = BootSig::parse(&bytes);
        }

        #[test]
        fn no_change_panics(signature in any_signature(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = signature.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = BootSig::parse(&bytes);
        }
    }

    #[test]
    fn bad_lines_are_named() {
        let hash = "00".repeat(32);
        let parse = |text: String| BootSig::parse(text.as_bytes());
        assert_eq!(parse(String::new()), Err(BootSigError::Hash));
        assert_eq!(parse(format!("{hash}\n")), Err(BootSigError::Timestamp));
        assert_eq!(parse(format!("{hash}\nts: -1\n")), Err(BootSigError::Timestamp));
        assert_eq!(parse(format!("{hash}\nts: +1\n")), Err(BootSigError::Timestamp));
        assert_eq!(parse(format!("{hash}\nts: 1\nts: 2\n")), Err(BootSigError::Line(3)));
        assert_eq!(parse(format!("{hash}\nts: 1\ntarget-soc: 2835\n")), Err(BootSigError::TargetSoc));
        assert_eq!(parse(format!("{hash}\nts: 1\nrsa2048: 00\n")), Err(BootSigError::Signature));
        assert_eq!(parse(format!("{hash}\nts: 1\nmd5: 00\n")), Err(BootSigError::Line(3)));
        assert_eq!(BootSig::parse(&vec![b'0'; LIMIT + 1]), Err(BootSigError::TooLong(LIMIT + 1)));
    }
}
