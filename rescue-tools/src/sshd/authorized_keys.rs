//! `authorized_keys`: who may log in, and what they may do. The format is that of sshd(8); a line that has something
//! wrong is refused as a whole.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use russh::keys::Certificate;
use russh::keys::ssh_key::PublicKey;
use russh::keys::ssh_key::public::KeyData;

use super::certificate;
use super::key_options::KeyOptions;
use super::key_strength;
use super::permissions::Permissions;

/// No longer file is read.
const LIMIT: u64 = 1 << 20;

/// The keys of a file.
#[derive(Debug, Default)]
pub struct AuthorizedKeys {
    /// Those that may log in, and those that sign certificates.
    pub keys: Vec<AuthorizedKey>,
    /// The lines that were refused.
    pub refused: Vec<Refused>,
}

/// A line with a key.
#[derive(Debug)]
pub struct AuthorizedKey {
    /// The key.
    pub key: PublicKey,
    /// What stands before it.
    pub options: KeyOptions,
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

    /// What a login with `key` from `from` may do. As in sshd, the first line with the key that lets them in counts.
    ///
    /// # Errors
    /// Why none does, for a human.
    pub fn permissions(&self, key: &PublicKey, from: IpAddr) -> Result<Permissions, String> {
        self.first(key.key_data(), false, from, "it", |options| Ok(options.permissions.clone()))
    }

    /// The same for a certificate: of the lines with `cert-authority`.
    ///
    /// # Errors
    /// Why none lets them in, for a human.
    pub fn certificate_permissions(
        &self,
        certificate: &Certificate,
        user: &str,
        from: IpAddr,
    ) -> Result<Permissions, String> {
        self.first(certificate.signature_key(), true, from, "its authority", |options| {
            certificate::permissions(certificate, options, user, from)
        })
    }

    /// Whether certificates may log in at all.
    pub fn has_authorities(&self) -> bool {
        self.keys.iter().any(|known| known.options.cert_authority)
    }

    fn first(
        &self,
        key: &KeyData,
        authority: bool,
        from: IpAddr,
        subject: &str,
        judge: impl Fn(&KeyOptions) -> Result<Permissions, String>,
    ) -> Result<Permissions, String> {
        let mut reason = format!("{subject} is not in the file");
        let of_key =
            |known: &&AuthorizedKey| known.key.key_data() == key && known.options.cert_authority == authority;
        for known in self.keys.iter().filter(of_key) {
            if known.options.from.as_ref().is_some_and(|list| !list.contains(from)) {
                reason = format!("{subject} is in the file with a from= that does not have {from}");
                continue;
            }
            match judge(&known.options) {
                Ok(permissions) => return Ok(permissions),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }
}

fn parse_line(line: &str) -> Result<Option<AuthorizedKey>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (first, rest) = split_word(line);
    let (options, key) =
        if is_key_type(first) { (KeyOptions::default(), line) } else { (KeyOptions::parse(first)?, rest) };
    let mut words = key.split_ascii_whitespace();
    let (Some(kind), Some(data)) = (words.next(), words.next()) else {
        return Err("this is no key: TYPE and BASE64 are expected, as in a .pub file".into());
    };
    let key = PublicKey::from_openssh(&format!("{kind} {data}"))
        .map_err(|error| format!("this is no {kind} key: {error}"))?;
    key_strength::check(key.key_data())?;
    Ok(Some(AuthorizedKey { key, options }))
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start))
}

/// Splits `line` at the first blank outside of double quotes; `\"` is no quote, inside of quotes and outside.
fn split_word(line: &str) -> (&str, &str) {
    let mut quoted = false;
    let mut before = ' ';
    for (at, character) in line.char_indices() {
        match character {
            ' ' | '\t' if !quoted => return (line.get(..at).unwrap_or(line), line.get(at..).unwrap_or("")),
            '"' if before != '\\' => quoted = !quoted,
            _ => {}
        }
        before = character;
    }
    (line, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use russh::keys::ssh_key::Algorithm;
    use russh::keys::{PrivateKey, key::safe_rng};

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0n0WfVEFLFDUZfmJLt1zYqtxkKLgsbtw2gnQcTyJkE";
    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn reasons(text: &str) -> Vec<String> {
        let keys = AuthorizedKeys::parse(text);
        assert!(keys.keys.is_empty(), "{text:?}");
        keys.refused.into_iter().map(|refused| format!("{}: {}", refused.line, refused.reason)).collect()
    }

    #[test]
    fn comments_blank_lines_and_options() {
        let text = format!(
            "# all\n\n  \t\n{KEY}\n{KEY} me @ home # 1\r\ncommand=\"echo a b\",no-X11-forwarding {KEY} x\n"
        );
        let keys = AuthorizedKeys::parse(&text);
        assert_eq!((keys.keys.len(), keys.refused.len()), (3, 0), "{:?}", keys.refused);
        assert_eq!(keys.permissions(&keys.keys[0].key, HOME).unwrap(), Permissions::default());
        assert_eq!(keys.keys[2].options.permissions.command.as_deref(), Some("echo a b"));
    }

    #[test]
    fn an_unknown_option_refuses_the_key_by_name() {
        for option in ["environment=\"A=b c\"", "tunnel=\"1\"", "expiry-time=\"20300101\"", "command", "own"]
        {
            let name = option.split('=').next().unwrap();
            let reasons = reasons(&format!("\n{option} {KEY}"));
            assert!(reasons[0].starts_with("2: ") && reasons[0].contains(name), "{reasons:?}");
        }
        assert_eq!(reasons(&format!("no-user-rc,own {KEY}")).len(), 1);
    }

    #[test]
    fn the_first_line_that_lets_in_counts() {
        let keys = AuthorizedKeys::parse(&format!(
            "from=\"10.0.0.0/8\",command=\"a\" {KEY}\nno-pty {KEY}\ncommand=\"c\" {KEY}\n"
        ));
        let key = &keys.keys[0].key;
        let inside = keys.permissions(key, [10, 1, 1, 1].into()).unwrap();
        assert_eq!((inside.command.as_deref(), inside.pty), (Some("a"), true));
        let outside = keys.permissions(key, HOME).unwrap();
        assert_eq!((outside.command, outside.pty), (None, false));
        let keys = AuthorizedKeys::parse(&format!("from=\"10.0.0.0/8\" {KEY}"));
        let error = keys.permissions(&keys.keys[0].key, HOME).unwrap_err();
        assert!(error.contains("from=") && error.contains("127.0.0.1"), "{error}");
    }

    #[test]
    fn an_authority_does_not_log_in_itself() {
        let keys = AuthorizedKeys::parse(&format!("cert-authority {KEY}"));
        assert!(keys.has_authorities());
        let error = keys.permissions(&keys.keys[0].key, HOME).unwrap_err();
        assert!(error.contains("not in the file"), "{error}");
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
            prop_assert!(keys.permissions(key.public_key(), HOME).is_ok());
        }

        #[test]
        fn no_option_is_lost(option in "[a-z][a-z-]{0,20}(=\"[ -!#-\\[\\]-~]{0,20}\")?") {
            prop_assume!(!is_key_type(&option));
            let parsed = KeyOptions::parse(&option);
            let keys = AuthorizedKeys::parse(&format!("{option} {KEY}"));
            prop_assert_eq!(keys.keys.first().map(|key| key.options.clone()), parsed.ok());
        }
    }
}
