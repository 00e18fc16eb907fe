//! Which public keys are good enough, whoever's they are.

use russh::keys::ssh_key::Algorithm;
use russh::keys::ssh_key::public::KeyData;

/// Bits of the shortest RSA key.
const RSA_LEAST: u32 = 2048;

/// Whether `key` may log in, or sign certificates.
///
/// # Errors
/// Why not, for a human.
pub fn check(key: &KeyData) -> Result<(), String> {
    match key.algorithm() {
        Algorithm::Ed25519
        | Algorithm::Ecdsa { .. }
        | Algorithm::SkEd25519
        | Algorithm::SkEcdsaSha2NistP256 => Ok(()),
        Algorithm::Rsa { .. } => match key.rsa().map_or(0, |key| key.key_size()) {
            RSA_LEAST.. => Ok(()),
            bits => Err(format!("an RSA key of {bits} bits is too short: {RSA_LEAST} are the least")),
        },
        kind => Err(format!("keys of the type {kind} are not supported")),
    }
}
