//! `pubkey.bin`: an RSA-2048 public key as the bootloader reads it, modulus (256 bytes) and exponent (8 bytes), both with
//! the least significant byte first.

use crate::digest;
use crate::keys::file::{self, PublicKey};
use anyhow::{Context, Result, bail, ensure};
use rsa::pkcs8::EncodePublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, RsaPublicKey};
use std::path::Path;

/// The bytes of the modulus, and those of the exponent.
const MODULUS: usize = 256;
const EXPONENT: usize = 8;

/// The key in a PEM file; of a private one its public half.
///
/// # Errors
/// If it cannot be read or is no RSA-2048 key.
pub fn read(path: &Path) -> Result<RsaPublicKey> {
    match file::read_public(path)? {
        PublicKey::Boot(key) => Ok(*key),
        PublicKey::Image(_) => {
            bail!("{} is an image key (minisign); the bootloader needs a boot key (RSA-2048)", path.display())
        }
    }
}

/// The key as `pubkey.bin` has it.
///
/// # Errors
/// If it is larger than that: only keys that [`read`] did not give.
pub fn encode(key: &RsaPublicKey) -> Result<Vec<u8>> {
    let mut bytes = padded(&key.n().to_le_bytes(), MODULUS).context("writing the key's modulus")?;
    bytes.extend(padded(&key.e().to_le_bytes(), EXPONENT).context("writing the key's exponent")?);
    Ok(bytes)
}

/// The key in the bytes of a `pubkey.bin`.
///
/// # Errors
/// If they are no RSA key.
pub fn decode(bytes: &[u8]) -> Result<RsaPublicKey> {
    ensure!(bytes.len() == MODULUS + EXPONENT, "it has {} bytes, not 264", bytes.len());
    let (modulus, exponent) = bytes.split_at(MODULUS);
    let number = BoxedUint::from_le_slice_vartime;
    RsaPublicKey::new(number(modulus), number(exponent)).context("reading it as an RSA key")
}

/// The SHA-256 of the key in DER, as `openssl pkey -pubin -in PEM -outform DER | sha256sum` gives it.
///
/// # Errors
/// If the key cannot be written in DER.
pub fn fingerprint(key: &RsaPublicKey) -> Result<String> {
    Ok(digest::hex(key.to_public_key_der().context("writing the key in DER")?.as_bytes()))
}

/// A number's bytes, least significant first, in a field.
fn padded(number: &[u8], length: usize) -> Result<Vec<u8>> {
    let mut bytes = number.to_vec();
    while bytes.len() > length && bytes.last() == Some(&0) {
        bytes.pop();
    }
    ensure!(bytes.len() <= length, "it is too large for {length} bytes");
    bytes.resize(length, 0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/eeprom/public.pem");
        let key = read(&path).unwrap();
        let bytes = encode(&key).unwrap();
        assert_eq!((bytes.len(), &bytes[MODULUS..]), (264, &[1, 0, 1, 0, 0, 0, 0, 0][..]));
        assert_eq!(decode(&bytes).unwrap(), key);
        // From openssl.
        let sum = "ed213a793b3e9339340f13a81c3d099181c04a9b35eefc789c3358305748bb94";
        assert_eq!(fingerprint(&key).unwrap(), sum);
        assert!(decode(&bytes[1..]).is_err());
        assert!(decode(&[0; 264]).is_err());
        assert!(decode(&[0xff; 264]).is_err());
    }
}
