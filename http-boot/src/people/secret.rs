//! Random secrets that stand for a person: cookies, tokens, what forms bring along.

use std::fmt::Write;

use anyhow::{Result, anyhow};
use subtle::ConstantTimeEq;

/// What a token starts with, so that one that leaked is told from other text.
const TOKEN: &str = "httpboot_";

/// A secret of 256 random bits, as 64 hexadecimal digits.
///
/// # Errors
/// When the kernel gives no randomness.
pub fn new() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("asking the kernel for randomness: {error}"))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _never_fails = write!(text, "{byte:02x}");
        text
    }))
}

/// A new API token.
///
/// # Errors
/// When the kernel gives no randomness.
pub fn new_token() -> Result<String> {
    Ok(format!("{TOKEN}{}", new()?))
}

/// What is kept of a secret. It has 256 bits of randomness, so that a fast hash is enough; looking it up by its hash
/// tells nothing by the time that it takes.
pub fn hash(secret: &str) -> [u8; 32] {
    blake3::hash(secret.as_bytes()).into()
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub fn are_equal(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let (a, b) = (new().unwrap(), new().unwrap());
        assert_eq!(a.len(), 64);
        assert!(a != b && are_equal(&a, &a) && !are_equal(&a, &b) && !are_equal(&a, ""));
        assert!(hash(&a) != hash(&b) && hash(&a) == hash(&a));
        assert!(new_token().unwrap().starts_with(TOKEN));
    }
}
