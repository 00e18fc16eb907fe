//! `boot.sig`: the hash and signature of `boot.img`, and the public key that they are checked with.

use boot_files::eeprom::public_key;
use rsa::RsaPublicKey;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::pkcs8::DecodePublicKey;
use rsa::signature::hazmat::PrehashVerifier;
use rsa::traits::PublicKeyParts;
use sha2::{Digest, Sha256};

use super::log::Log;
use super::refusal::{Kind, Refusal};

/// The EEPROM's `pubkey.bin`.
#[derive(Clone, Debug)]
pub struct PublicKey(RsaPublicKey);

impl PublicKey {
    /// Reads a PEM file: SubjectPublicKeyInfo (`BEGIN PUBLIC KEY`) or PKCS#1 (`BEGIN RSA PUBLIC KEY`).
    ///
    /// # Errors
    /// When it is none, or not RSA with 2048 bits, which is all that the bootloader takes.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        if pem.contains("PRIVATE KEY") {
            return Err("this is a private key; `openssl rsa -in KEY -pubout` gives its public key".into());
        }
        let key = if pem.contains("BEGIN RSA PUBLIC KEY") {
            RsaPublicKey::from_pkcs1_pem(pem).map_err(|e| e.to_string())
        } else {
            RsaPublicKey::from_public_key_pem(pem).map_err(|e| e.to_string())
        };
        let key = key.map_err(|error| format!("not an RSA public key in PEM format: {error}"))?;
        match key.n().bits() {
            2048 => Ok(Self(key)),
            bits => Err(format!("an RSA key of {bits} bits; the bootloader takes 2048 only")),
        }
    }

    /// Reads an EEPROM's `pubkey.bin`: the modulus in 256 bytes and the exponent in 8, the lowest byte first.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_pubkey_bin(bytes: &[u8]) -> Result<Self, String> {
        let key = public_key::decode(bytes).map_err(|error| format!("pubkey.bin: {error:#}"))?;
        Ok(Self(key))
    }
}

/// A parsed `boot.sig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootSig {
    /// SHA-256 of `boot.img`.
    pub hash: [u8; 32],
    /// When it was signed, in seconds since 1970.
    pub timestamp: u64,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    pub signature: Vec<u8>,
}

impl BootSig {
    /// Parses the text: a line with the hash, then `ts:`, perhaps `target-soc:`, and `rsa2048:`.
    ///
    /// # Errors
    /// One line that names what is missing or wrong.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not text")?;
        let mut lines = text.lines();
        let hash = lines.next().and_then(|line| hex(line.trim_end())).and_then(|bytes| bytes.try_into().ok());
        let hash = hash.ok_or("its first line is not a SHA-256 in 64 hexadecimal digits")?;
        let (mut timestamp, mut signature) = (None, None);
        for line in lines {
            let Some((key, value)) = line.split_once(':') else { continue };
            match key {
                "ts" => {
                    timestamp = Some(
                        value
                            .trim()
                            .parse()
                            .map_err(|_| format!("its ts: {:?} is not a number", value.trim()))?,
                    )
                }
                "rsa2048" => {
                    signature = Some(
                        hex(value.trim())
                            .filter(|s| s.len() == 256)
                            .ok_or("its rsa2048: is not 512 hexadecimal digits")?,
                    )
                }
                "target-soc" if value.trim() != "2711" => {
                    return Err(format!("it is for another chip (target-soc: {})", value.trim()));
                }
                _ => {}
            }
        }
        let timestamp = timestamp.ok_or("it has no ts: line")?;
        let signature =
            signature.ok_or("it has no rsa2048: line; what is loaded over HTTP must always be signed")?;
        Ok(Self { hash, timestamp, signature })
    }
}

/// Reads hexadecimal digits, two for a byte.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

/// Bytes as lower-case hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Checks `image` against `sig` and the key, with the bootloader's words.
///
/// # Errors
/// [`Kind::Signature`] when any of it is wrong.
pub fn verify(image: &[u8], sig: &[u8], key: &PublicKey, log: &mut Log) -> Result<BootSig, Refusal> {
    let result = check(image, sig, key, log);
    result.map_err(|why| {
        log.line("Failed to validate boot.img");
        Refusal::new(Kind::Signature, why)
    })
}

fn check(image: &[u8], sig: &[u8], key: &PublicKey, log: &mut Log) -> Result<BootSig, String> {
    let sig = BootSig::parse(sig).map_err(|why| format!("boot.sig: {why}"))?;
    log.line(format_args!("hash: {}", to_hex(&sig.hash)));
    log.line(format_args!("ts: {}", sig.timestamp));
    log.line(format_args!("rsa2048: {}", to_hex(&sig.signature)));
    let hash: [u8; 32] = Sha256::digest(image).into();
    if hash != sig.hash {
        return Err(format!(
            "boot.img is not the file that boot.sig was made for: its SHA-256 is {}",
            to_hex(&hash)
        ));
    }
    let signature = Signature::try_from(sig.signature.as_slice()).map_err(|e| format!("boot.sig: {e}"))?;
    let verified = VerifyingKey::<Sha256>::new(key.0.clone()).verify_prehash(&hash, &signature);
    match verified {
        Ok(()) => {
            log.line("rsa-verify pass (0x0)");
            Ok(sig)
        }
        Err(_) => {
            log.line("rsa-verify fail");
            Err("boot.sig's signature was not made by the private key that belongs to the EEPROM's public key".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> String {
        format!("{}\nts: 1700000000\nrsa2048: {}\n", "ab".repeat(32), "0f".repeat(256))
    }

    #[test]
    fn a_boot_sig() {
        let sig = BootSig::parse(text().as_bytes()).unwrap();
        assert_eq!((sig.hash, sig.timestamp, sig.signature), ([0xab; 32], 1_700_000_000, vec![0x0f; 256]));
        BootSig::parse(text().replace('\n', "\r\n").as_bytes()).unwrap();
        BootSig::parse(text().replace("rsa", "target-soc: 2711\nrsa").as_bytes()).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: String| BootSig::parse(text.as_bytes()).unwrap_err();
        assert!(error(String::new()).contains("SHA-256"));
        assert!(error(text().replacen("ab", "xy", 1)).contains("SHA-256"));
        assert!(error(text().replace("ts:", "tz:")).contains("no ts:"));
        assert!(error(text().replace("1700000000", "now")).contains("not a number"));
        assert!(error(text().replace("rsa2048", "rsa4096")).contains("must always be signed"));
        assert!(error(text().replacen("0f", "", 1)).contains("512"));
        assert!(error(text().replace("rsa", "target-soc: 2712\nrsa")).contains("another chip"));
        assert!(BootSig::parse(b"\xff").unwrap_err().contains("not text"));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_not(bytes in prop::collection::vec(any::<u8>(), 0..99), at in 0usize..800) {
            let mut sig = text().into_bytes();
            sig.truncate(at);
            sig.extend_from_slice(&bytes);
            let _either = BootSig::parse(&sig);
        }

        #[test]
        fn hexadecimal_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            prop_assert_eq!(hex(&to_hex(&bytes)), Some(bytes));
        }
    }
}
