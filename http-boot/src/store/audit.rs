//! The audit log: who did what, when, from where. Written in the same transaction as what it tells of.

use anyhow::Result;
use rusqlite::{Connection, params};
use serde::Serialize;

use super::{Millis, from_millis, now};
use crate::devices::Moment;

/// No text of an entry is longer: some are strangers' (the name in a login that failed).
const TEXT_LIMIT: usize = 256;

/// An entry to be written.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// A person's name, `token NAME`, or the command line's user.
    pub who: &'a str,
    /// The address that it came from; empty for the command line.
    pub address: &'a str,
    /// What was done, one word: `login`, `assign` …
    pub action: &'a str,
    /// To whom or what: a device's serial number, a person's name.
    pub subject: &'a str,
    /// What else there is to say.
    pub detail: &'a str,
}

#[cfg(test)]
impl Entry<'static> {
    pub(crate) const fn example() -> Self {
        Self { who: "anna", address: "192.0.2.1", action: "login", subject: "", detail: "" }
    }
}

/// An entry as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Grows with each entry.
    pub id: i64,
    /// When.
    pub at: Moment,
    /// See [`Entry::who`].
    pub who: String,
    /// See [`Entry::address`].
    pub address: String,
    /// See [`Entry::action`].
    pub action: String,
    /// See [`Entry::subject`].
    pub subject: String,
    /// See [`Entry::detail`].
    pub detail: String,
}

/// Adds an entry.
///
/// # Errors
/// The database's.
pub fn add(connection: &Connection, entry: &Entry<'_>) -> Result<()> {
    let cut = |text: &str| text.chars().take(TEXT_LIMIT).collect::<String>();
    connection
        .prepare_cached(
            "INSERT INTO audit (at, who, address, action, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            now(),
            cut(entry.who),
            cut(entry.address),
            entry.action,
            cut(entry.subject),
            cut(entry.detail)
        ])?;
    Ok(())
}

/// The newest entries, newest first; only those older than `before`, where that is given.
///
/// # Errors
/// The database's.
pub fn newest(connection: &Connection, before: Option<i64>, count: u32) -> Result<Vec<Written>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, at, who, address, action, subject, detail FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![before.unwrap_or(i64::MAX), count], |row| {
        Ok(Written {
            id: row.get(0)?,
            at: Moment(from_millis(row.get::<_, Millis>(1)?)),
            who: row.get(2)?,
            address: row.get(3)?,
            action: row.get(4)?,
            subject: row.get(5)?,
            detail: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
