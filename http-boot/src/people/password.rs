//! Passwords: argon2id (RFC 9106) with 19 MiB and two passes, each with a salt of its own.

use std::sync::LazyLock;

use anyhow::{Result, anyhow, bail};
use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

/// The shortest password that is taken, in characters.
pub const SHORTEST: usize = 10;
/// The longest password that is taken, in bytes: hashing more would be a stranger's way to keep the server busy.
pub const LONGEST: usize = 1024;

/// The hash of a new password, as a PHC string.
///
/// # Errors
/// When it is too short or too long, or there is no randomness.
pub fn hash(password: &str) -> Result<String> {
    if password.chars().count() < SHORTEST {
        bail!("a password has at least {SHORTEST} characters");
    }
    if password.len() > LONGEST {
        bail!("a password has at most {LONGEST} bytes");
    }
    let hash = Argon2::default().hash_password(password.as_bytes());
    Ok(hash.map_err(|error| anyhow!("hashing the password: {error}"))?.to_string())
}

/// Whether this is the password with that hash. Without a hash (there is nobody of that name) it takes as long, and says no.
pub fn is_right(password: &str, hash: Option<&str>) -> bool {
    static NOBODYS: LazyLock<Option<String>> = LazyLock::new(|| self::hash("nobody has this one").ok());
    if password.len() > LONGEST {
        return false;
    }
    let Some(checked) = hash.or(NOBODYS.as_deref()) else { return false };
    let is_right = Argon2::default().verify_password(password.as_bytes(), checked).is_ok();
    is_right && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_one_and_no_other() {
        let anna = hash("correct horse").unwrap();
        assert!(anna.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{anna}");
        assert_ne!(anna, hash("correct horse").unwrap(), "each has a salt of its own");
        assert!(is_right("correct horse", Some(&anna)));
        assert!(!is_right("correct hors", Some(&anna)));
        assert!(!is_right("", Some(&anna)));
        assert!(!is_right("correct horse", Some("no hash")));
        assert!(!is_right("nobody has this one", None));
    }

    #[test]
    fn length_counts() {
        assert!(hash("123456789").is_err());
        assert!(hash("äöüäöüäöüä").is_ok());
        assert!(hash(&"x".repeat(LONGEST + 1)).is_err());
    }
}
