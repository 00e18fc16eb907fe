//! People: who may see the page, and who may give orders.
//!
//! Passwords are kept as argon2id hashes, cookies and tokens as hashes too: who reads the database cannot log in by what
//! is in it.

pub mod command;
pub mod login_limit;
pub mod password;
pub mod secret;
pub mod setup_code;

use std::fmt;
use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use serde::Serialize;

/// What somebody may do. Who may `operate` may `view` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See everything.
    View,
    /// Give orders to devices as well.
    Operate,
}

impl Role {
    /// The role's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
        }
    }
}

impl FromSql for Role {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "view" => Ok(Self::View),
            "operate" => Ok(Self::Operate),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// The name of a person or token: 1 to 32 of `0-9A-Za-z._-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// A name that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 32 characters of 0-9, A-Z, a-z, '.', '_' and '-'")]
pub struct BadName;

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if (1..=32).contains(&text.len()) && text.bytes().all(known) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName)
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["anna", "a", "ci.job_2-x", &"x".repeat(32)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "<b>", "a/b", &"x".repeat(33)] {
            assert_eq!(bad.parse::<Name>(), Err(BadName), "{bad}");
        }
        assert!(Role::Operate > Role::View);
    }
}
