//! What a Pi's bootloader says of itself over HTTP: a User-Agent like
//! `rpiboot/1.0 (c03112; version:8ba17717 timestamp:1673616036)` (facts, section 4).

use crate::pi::Revision;

/// How it begins.
pub const PREFIX: &str = "rpiboot/";

/// What it says; each part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent<'a> {
    /// The board's revision code. (That this number is one is our reading: it is written nowhere.)
    pub revision: Option<Revision>,
    /// The beginning of the commit that it was built from.
    pub version: Option<&'a str>,
    /// When it was built, in seconds since 1970.
    pub built: Option<u64>,
}

impl<'a> Agent<'a> {
    /// Reads one.
    pub fn parse(text: &'a str) -> Self {
        let inside = text.split_once('(').map_or("", |(_, rest)| rest.split(')').next().unwrap_or_default());
        let words = || inside.split([';', ' ']).filter(|word| !word.is_empty());
        let named = |name: &str| words().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
        let hex = |word: &str| u32::from_str_radix(word, 16).ok().filter(|_| !word.starts_with('+'));
        Self {
            revision: words().next().and_then(hex).map(Revision),
            version: named("version"),
            built: named("timestamp").and_then(|seconds| seconds.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_what_is_none() {
        let agent = Agent::parse("rpiboot/1.0 (c03112; version:8ba17717 timestamp:1673616036)");
        let wanted = Agent {
            revision: Some(Revision(0xc0_3112)),
            version: Some("8ba17717"),
            built: Some(1_673_616_036),
        };
        assert_eq!(agent, wanted);
        for none in ["", "rpiboot/1.0", "rpiboot/1.0 (", "rpiboot/1.0 ()", "rpiboot/1.0 (; +1 timestamp:)"] {
            assert_eq!(Agent::parse(none), Agent::default(), "{none}");
        }
    }
}
