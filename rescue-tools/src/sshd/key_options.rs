//! The options before a key in `authorized_keys`, with sshd(8)'s names and meaning. One that is not enforced here is an
//! error: a key that was meant to be limited must not log in without its limits.

use super::address_list::AddressList;
use super::permissions::{Destination, Permissions};

/// The options of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyOptions {
    /// The key signs certificates, and does not log in itself.
    pub cert_authority: bool,
    /// The names of which a certificate must have one; none: it must have the user's.
    pub principals: Option<Vec<String>>,
    /// Where a client must come from.
    pub from: Option<AddressList>,
    /// What it may do.
    pub permissions: Permissions,
}

/// Options that allow or forbid what this server never does, or loosen what it does not ask for.
const HELD_ANYWAY: [&str; 8] = [
    "agent-forwarding",
    "no-agent-forwarding",
    "no-touch-required",
    "no-user-rc",
    "no-x11-forwarding",
    "permitlisten",
    "user-rc",
    "x11-forwarding",
];

impl KeyOptions {
    /// Reads the first word of a line: `NAME[="VALUE"],…`. Case matters in values only.
    ///
    /// # Errors
    /// Which option is wrong, for a human.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = KeyOptions::default();
        let mut rest = text;
        loop {
            let (name, value, after) = split_option(rest)?;
            options.set(&name.to_ascii_lowercase(), value)?;
            match after {
                Some(after) => rest = after,
                None => break,
            }
        }
        if options.principals.is_some() && !options.cert_authority {
            return Err("the option \"principals\" goes with \"cert-authority\" only".into());
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        let permissions = &mut self.permissions;
        match (name, value) {
            ("restrict", None) => {
                permissions.pty = false;
                permissions.forwarding.allowed = false;
            }
            ("pty", None) => permissions.pty = true,
            ("no-pty", None) => permissions.pty = false,
            ("port-forwarding", None) => permissions.forwarding.allowed = true,
            ("no-port-forwarding", None) => permissions.forwarding.allowed = false,
            ("permitopen", Some(value)) => permissions.forwarding.to.push(Destination::parse(&value)?),
            ("command", Some(value)) => set_once(&mut permissions.command, name, value)?,
            ("from", Some(value)) => {
                let list = AddressList::from_patterns(&value).map_err(|error| format!("from=: {error}"))?;
                set_once(&mut self.from, name, list)?;
            }
            ("cert-authority", None) => self.cert_authority = true,
            ("principals", Some(value)) => {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                set_once(&mut self.principals, name, names.map(String::from).collect())?;
            }
            ("expiry-time", _) => {
                return Err(
                    "the option \"expiry-time\" needs a clock, which this machine does not have".into()
                );
            }
            (name, _) if HELD_ANYWAY.contains(&name) => {}
            ("command" | "from" | "principals" | "permitopen", None) => {
                return Err(format!("the option {name:?} has no value: {name}=\"…\" is expected"));
            }
            (name, _) => {
                return Err(format!(
                    "the option {name:?} is not supported, and a key is not let in without its options"
                ));
            }
        }
        Ok(())
    }
}

fn set_once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("the option {name:?} is there twice")),
    }
}

/// A line's first option: name, value, and what follows its comma.
type Split<'a> = (&'a str, Option<String>, Option<&'a str>);

fn split_option(text: &str) -> Result<Split<'_>, String> {
    let end = text.find(['=', ',']).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let (value, rest) = match rest.strip_prefix('=') {
        None => (None, rest),
        Some(rest) => {
            let (value, rest) =
                unquote(rest).ok_or_else(|| format!("the option {name:?} has no value in double quotes"))?;
            (Some(value), rest)
        }
    };
    match (rest, rest.strip_prefix(',')) {
        ("", _) => Ok((name, value, None)),
        (_, Some(after)) => Ok((name, value, Some(after))),
        _ => Err(format!("behind the option {name:?} a comma is expected")),
    }
}

/// The text between double quotes, in which `\"` is a quote, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.strip_prefix('"')?.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some((_, '"'))) => {
                value.push('"');
                characters.next();
            }
            // Behind the opening quote, which is one byte, and this one.
            ('"', _) => return text.get(at + 2..).map(|rest| (value, rest)),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permissions(text: &str) -> Permissions {
        KeyOptions::parse(text).unwrap().permissions
    }

    #[test]
    fn restrict_takes_all_and_names_give_back() {
        assert!(!permissions("restrict").pty);
        assert!(permissions("restrict,pty").pty && !permissions("pty,restrict").pty);
        assert!(permissions("no-user-rc").pty && !permissions("NO-PTY").pty);
        assert!(permissions("restrict,port-forwarding").forwarding.allowed);
        assert!(!permissions("port-forwarding,restrict").forwarding.allowed);
        assert!(!permissions("permitopen=\"localhost:80\"").forwarding.allowed);
        assert!(permissions("port-forwarding,permitopen=\"h:80\"").forwarding.permits("h", 80));
    }

    #[test]
    fn values_have_quotes_commas_and_blanks() {
        let options =
            KeyOptions::parse(r#"command="echo \"a, b\" 'c\d'",from="10.0.0.0/8,!10.0.0.1",no-pty"#).unwrap();
        assert_eq!(options.permissions.command.as_deref(), Some(r#"echo "a, b" 'c\d'"#));
        assert!(!options.permissions.pty && !options.from.unwrap().contains([10, 0, 0, 1].into()));
        let options = KeyOptions::parse("cert-authority,principals=\"root, ops\"").unwrap();
        assert_eq!(options.principals.unwrap(), ["root", "ops"]);
    }

    #[test]
    fn what_is_not_held_is_named() {
        for (bad, named) in [
            ("environment=\"A=b\"", "environment"),
            ("tunnel=\"1\"", "tunnel"),
            ("verify-required", "verify-required"),
            ("expiry-time=\"20300101\"", "expiry-time"),
            ("restrict,Hello", "hello"),
            ("", "\"\""),
            ("no-pty,", "\"\""),
            ("no-pty=\"x\"", "no-pty"),
            ("command", "command"),
            ("command=echo", "command"),
            ("command=\"echo", "command"),
            ("command=\"a\"no-pty", "command"),
            ("command=\"a\",command=\"b\"", "command"),
            ("from=\"host.example\"", "host.example"),
            ("from=\"10.0.0.0/8\",from=\"::1\"", "from"),
            ("permitopen=\"x\"", "permitopen"),
            ("principals=\"root\"", "principals"),
        ] {
            let error = KeyOptions::parse(bad).unwrap_err();
            assert!(error.contains(named), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s).{0,200}") {
            let _ = KeyOptions::parse(&text);
        }

        #[test]
        fn a_command_is_as_it_was_written(command in "[ -~]{0,60}") {
            // sshd(8) has no way to write a backslash before the closing quote, or one before a quote.
            prop_assume!(!command.ends_with('\\') && !command.contains("\\\""));
            let text = format!("command=\"{}\",no-pty", command.replace('"', "\\\""));
            let options = KeyOptions::parse(&text).unwrap();
            prop_assert_eq!(options.permissions.command, Some(command));
            prop_assert!(!options.permissions.pty);
        }
    }
}
