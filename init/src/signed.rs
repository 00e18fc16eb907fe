//! minisign signatures (`NAME.minisig` beside NAME), checked with the public keys in the image. Trust does not depend on the
//! clock: a Pi 4 has none.

use minisign_verify::{PublicKey, Signature};

/// A minisign signature file has four short lines.
pub const SIGNATURE_LIMIT: usize = 8 << 10;

/// Why a signature is refused.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// The signature file is not one.
    #[error("its signature file cannot be read: {0}")]
    SignatureFile(String),
    /// No key in the image made the signature.
    #[error("none of the {0} public keys in this image made its signature")]
    UnknownKey(usize),
    /// The image has no key to check with.
    #[error("this image holds no public key to check it with")]
    NoKeys,
    /// The signature is by a known key, but over other bytes.
    #[error("its signature does not match: the file or the signature was changed")]
    BadSignature,
}

/// Checks a signature over `bytes` against the keys.
///
/// # Errors
/// Any [`SignedError`].
pub fn verify(bytes: &[u8], signature: &str, keys: &[PublicKey]) -> Result<(), SignedError> {
    if keys.is_empty() {
        return Err(SignedError::NoKeys);
    }
    let signature =
        Signature::decode(signature).map_err(|error| SignedError::SignatureFile(error.to_string()))?;
    let mut known = false;
    for key in keys {
        match key.verify(bytes, &signature, true) {
            Ok(()) => return Ok(()),
            Err(minisign_verify::Error::UnexpectedKeyId) => {}
            Err(_) => known = true,
        }
    }
    Err(if known { SignedError::BadSignature } else { SignedError::UnknownKey(keys.len()) })
}
