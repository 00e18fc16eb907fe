//! What was found to be wrong at the site ([`crate::dhcp::findings`]), so that the doctor sees it after the server has ended,
//! and beside one that runs.

use anyhow::Result;
use rusqlite::{Connection, Transaction, params};

use super::Millis;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is, as JSON: no two findings have the same.
    pub cause: String,
    /// What it says, with what to do.
    pub text: String,
    /// When it was found first, by the server that runs.
    pub first: Millis,
    /// And last.
    pub last: Millis,
    /// How often that server found it.
    pub count: u64,
}

/// Records a finding, or what is new of it.
///
/// # Errors
/// The database's.
pub fn record(transaction: &Transaction<'_>, found: &Found) -> Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO findings (cause, text, first_seen, last_seen, count) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET text = ?2, first_seen = min(first_seen, ?3), last_seen = ?4,
               count = max(count, ?5)",
        )?
        .execute(params![found.cause, found.text, found.first, found.last, found.count])?;
    Ok(())
}

/// Findings, the last found first.
///
/// # Errors
/// The database's.
pub fn newest(connection: &Connection, count: u32) -> Result<Vec<Found>> {
    let mut statement = connection.prepare_cached(
        "SELECT cause, text, first_seen, last_seen, count FROM findings ORDER BY last_seen DESC, cause LIMIT ?1",
    )?;
    let rows = statement.query_map([count], |row| {
        Ok(Found {
            cause: row.get(0)?,
            text: row.get(1)?,
            first: row.get(2)?,
            last: row.get(3)?,
            count: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
