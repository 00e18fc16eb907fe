//! `authorized_keys`: who may log in. The format is that of sshd(8). A line with an option that we do not enforce is
//! refused as a whole: a key that was meant to be limited must not log in without its limits.

use std::path::Path;

use anyhow::{Context, Result};
use russh::keys::ssh_key::{Algorithm, PublicKey};

/// No longer file is read.
const LIMIT: u64 = 1 << 20;

/// Bits of the shortest RSA key.
const RSA_LEAST: u32 = 2048;

/// Options that forbid what this server never does, so that they hold by themselves.
const HELD_ANYWAY: [&str; 4] =
    ["no-agent-forwarding", "no-port-forwarding", "no-user-rc", "no-x11-forwarding"];

/// The keys of a file.
#[derive(Debug, Default)]
pub struct AuthorizedKeys {
    /// Those that may log in.
    pub keys: Vec<PublicKey>,
    /// The lines that were refused.
    pub refused: Vec<Refused>,
}

/// A line that lets nobody in.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its number in the file, from 1.
    pub line: usize,
    /// Why, for a human.
    pub reason: String,
}

impl AuthorizedKeys {
    /// Reads the file at `path`. It is read anew for each login, so that a change of it needs no restart.
    pub fn read(path: &Path) -> Result<Self> {
        let read = || {
            use std::io::Read;
            let mut text = String::new();
            std::fs::File::open(path)?.take(LIMIT).read_to_string(&mut text)?;
            Ok::<String, std::io::Error>(text)
        };
        Ok(Self::parse(&read().with_context(|| format!("reading {}", path.display()))?))
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Self {
        let mut keys = AuthorizedKeys::default();
        for (index, line) in text.lines().enumerate() {
            match parse_line(line) {
                Ok(None) => {}
                Ok(Some(key)) => keys.keys.push(key),
                Err(reason) => keys.refused.push(Refused { line: index + 1, reason }),
            }
        }
        keys
    }

    /// Whether `key` may log in.
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.keys.iter().any(|known| known.key_data() == key.key_data())
    }
}

fn parse_line(line: &str) -> Result<Option<PublicKey>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (first, rest) = split_word(line);
    let key = if is_key_type(first) {
        line
    } else {
        check_options(first)?;
        rest
    };
    let mut words = key.split_ascii_whitespace();
    let (Some(kind), Some(data)) = (words.next(), words.next()) else {
        return Err("this is no key: TYPE and BASE64 are expected, as in a .pub file".into());
    };
    let key = PublicKey::from_openssh(&format!("{kind} {data}"))
        .map_err(|error| format!("this is no {kind} key: {error}"))?;
    match key.algorithm() {
        Algorithm::Ed25519
        | Algorithm::Ecdsa { .. }
        | Algorithm::SkEd25519
        | Algorithm::SkEcdsaSha2NistP256 => Ok(Some(key)),
        Algorithm::Rsa { .. } => match key.key_data().rsa().map_or(0, |key| key.key_size()) {
            RSA_LEAST.. => Ok(Some(key)),
            bits => Err(format!("an RSA key of {bits} bits is too short: {RSA_LEAST} are the least")),
        },
        _ => Err(format!("keys of the type {kind} are not supported")),
    }
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start))
}

/// Splits `line` at the first blank outside of double quotes; `\"` is a quote inside of quotes.
fn split_word(line: &str) -> (&str, &str) {
    let mut quoted = false;
    let mut escaped = false;
    for (at, character) in line.char_indices() {
        match character {
            ' ' | '\t' if !quoted => return (line.get(..at).unwrap_or(line), line.get(at..).unwrap_or("")),
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = character == '\\' && !escaped;
    }
    (line, "")
}

/// Every option must be one that holds anyway.
fn check_options(options: &str) -> Result<(), String> {
    for option in options.split(',') {
        let name = option.split('=').next().unwrap_or(option);
        if !HELD_ANYWAY.iter().any(|held| held.eq_ignore_ascii_case(name)) {
            return Err(format!(
                "the option {name:?} is not supported, and a key is not let in without its options"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use russh::keys::{PrivateKey, key::safe_rng};

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0n0WfVEFLFDUZfmJLt1zYqtxkKLgsbtw2gnQcTyJkE";

    fn reasons(text: &str) -> Vec<String> {
        let keys = AuthorizedKeys::parse(text);
        assert!(keys.keys.is_empty(), "{text:?}");
        keys.refused.into_iter().map(|refused| format!("{}: {}", refused.line, refused.reason)).collect()
    }

    #[test]
    fn comments_blank_lines_and_held_options() {
        let text = format!(
            "# all\n\n  \t\n{KEY}\n{KEY} me @ home # 1\r\nno-port-forwarding,no-X11-forwarding {KEY} x\n"
        );
        let keys = AuthorizedKeys::parse(&text);
        assert_eq!((keys.keys.len(), keys.refused.len()), (3, 0), "{:?}", keys.refused);
        assert!(keys.contains(&keys.keys[0]));
    }

    #[test]
    fn an_unknown_option_refuses_the_key_by_name() {
        for option in [
            "restrict",
            "no-pty",
            "command=\"echo \\\"a b\\\"\"",
            "from=\"10.0.0.0/8,::1\"",
            "cert-authority",
        ] {
            let name = option.split('=').next().unwrap();
            let reasons = reasons(&format!("\n{option} {KEY}"));
            assert!(reasons[0].starts_with("2: ") && reasons[0].contains(name), "{reasons:?}");
        }
        assert_eq!(reasons(&format!("no-user-rc,restrict {KEY}")).len(), 1);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in
            ["ssh-ed25519", "ssh-ed25519 AAAA", "ssh-dss AAAAB3NzaC1kc3MAAAAA", "hello", "\"", "ssh-rsa QUFB"]
        {
            assert_eq!(reasons(bad).len(), 1, "{bad}");
        }
        // The type that is written and the type inside must agree.
        assert_eq!(reasons(&KEY.replacen("ssh-ed25519", "ecdsa-sha2-nistp256", 1)).len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_survived_and_lets_nobody_in(text in "(?s).{0,300}") {
            let keys = AuthorizedKeys::parse(&text);
            prop_assert!(keys.keys.is_empty());
            prop_assert!(keys.refused.len() <= text.lines().count());
        }

        #[test]
        fn a_key_is_found_among_noise(before in "[ -~]{0,80}", comment in "[ -~]{0,40}", blanks in "[ \t]{1,3}") {
            let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
            let public = key.public_key().to_openssh().unwrap();
            let (kind, data) = public.split_once(' ').unwrap();
            let keys = AuthorizedKeys::parse(&format!("{before}\n{blanks}{kind}{blanks}{data}{blanks}{comment}\n"));
            prop_assert!(keys.contains(key.public_key()));
        }

        #[test]
        fn no_option_is_lost(option in "[a-z][a-z-]{0,20}(=\"[ -!#-~]{0,20}\")?") {
            prop_assume!(!HELD_ANYWAY.contains(&option.as_str()));
            prop_assume!(!is_key_type(&option) && !option.ends_with("\\\""));
            let keys = AuthorizedKeys::parse(&format!("{option} {KEY}"));
            prop_assert!(keys.keys.is_empty(), "{:?}", keys);
        }
    }
}
