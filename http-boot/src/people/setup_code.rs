//! The code by which the first person is added on the page. It stands in the server's log alone, where only who runs the
//! server reads it; it counts for as long as there is nobody, and each start makes another.

use anyhow::{Result, anyhow};

use super::secret;

/// Letters and digits that are not taken for each other.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// A code like `K7PX-2MFA-…`: 100 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct SetupCode(String);

impl std::fmt::Debug for SetupCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SetupCode")
    }
}

impl SetupCode {
    /// A new one.
    ///
    /// # Errors
    /// When the kernel gives no randomness.
    pub fn new() -> Result<Self> {
        let mut bytes = [0; 20];
        getrandom::fill(&mut bytes).map_err(|error| anyhow!("asking the kernel for randomness: {error}"))?;
        let letter =
            |byte: &u8| ALPHABET.get(usize::from(*byte) % ALPHABET.len()).map_or('A', |b| char::from(*b));
        Ok(Self(bytes.iter().map(letter).collect()))
    }

    /// As it is printed: in groups of four.
    pub fn to_print(&self) -> String {
        let letters: Vec<char> = self.0.chars().collect();
        letters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-")
    }

    /// Whether this is what somebody typed, in whatever case, with or without the strokes.
    pub fn is(&self, typed: &str) -> bool {
        let typed: String = typed
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '-')
            .map(|c| c.to_ascii_uppercase())
            .take(64)
            .collect();
        secret::are_equal(&self.0, &typed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_as_people_type() {
        let code = SetupCode::new().unwrap();
        let print = code.to_print();
        assert_eq!((print.len(), print.matches('-').count()), (24, 4));
        assert!(code.is(&print) && code.is(&format!(" {} ", print.to_lowercase().replace('-', ""))));
        assert!(!code.is("") && !code.is(&print[1..]) && !code.is(&SetupCode::new().unwrap().to_print()));
    }
}
