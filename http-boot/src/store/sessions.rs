//! The table of sessions: who is logged in by which cookie.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Millis, now};
use crate::people::Role;

/// A session that is not used for so long ends: twelve hours.
const IDLE: Millis = 12 * 3600 * 1000;
/// No session lasts longer: thirty days.
const LONGEST: Millis = 30 * 24 * 3600 * 1000;
/// How often the use of a session is written down.
const TOUCH: Millis = 60 * 1000;
/// The most sessions of one person; the one that was unused for longest goes first.
const MOST: u32 = 32;

/// Somebody who is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Their name.
    pub person: String,
    /// What they may do.
    pub role: Role,
    /// What each of their forms has to bring along.
    pub csrf: String,
    last_used: Millis,
}

impl Session {
    /// Whether it is time to write down that it is in use.
    pub fn is_stale(&self) -> bool {
        now() - self.last_used > TOUCH
    }
}

/// Begins a session, and ends those that are over. `hash` is that of the cookie.
///
/// # Errors
/// The database's.
pub fn begin(connection: &Connection, hash: &[u8], person: &str, csrf: &str) -> Result<()> {
    let now = now();
    connection.execute(
        "DELETE FROM sessions WHERE last_used < ?1 OR created < ?2",
        params![now - IDLE, now - LONGEST],
    )?;
    connection.execute(
        "DELETE FROM sessions WHERE person = ?1 AND hash NOT IN
           (SELECT hash FROM sessions WHERE person = ?1 ORDER BY last_used DESC LIMIT ?2)",
        params![person, MOST - 1],
    )?;
    connection.execute(
        "INSERT INTO sessions (hash, person, csrf, created, last_used) VALUES (?1, ?2, ?3, ?4, ?4)",
        params![hash, person, csrf, now],
    )?;
    Ok(())
}

/// The session with this hash of a cookie, unless it is over.
///
/// # Errors
/// The database's.
pub fn find(connection: &Connection, hash: &[u8]) -> Result<Option<Session>> {
    let now = now();
    let row = connection
        .prepare_cached(
            "SELECT people.name, role, csrf, last_used FROM sessions JOIN people ON person = people.name
             WHERE hash = ?1 AND last_used >= ?2 AND sessions.created >= ?3",
        )?
        .query_row(params![hash, now - IDLE, now - LONGEST], |row| {
            Ok(Session { person: row.get(0)?, role: row.get(1)?, csrf: row.get(2)?, last_used: row.get(3)? })
        });
    Ok(row.optional()?)
}

/// Writes down that a session is in use.
///
/// # Errors
/// The database's.
pub fn touch(connection: &Connection, hash: &[u8]) -> Result<()> {
    connection.execute("UPDATE sessions SET last_used = ?2 WHERE hash = ?1", params![hash, now()])?;
    Ok(())
}

/// Ends a session.
///
/// # Errors
/// The database's.
pub fn end(connection: &Connection, hash: &[u8]) -> Result<()> {
    connection.execute("DELETE FROM sessions WHERE hash = ?1", params![hash])?;
    Ok(())
}

/// How many sessions there are.
///
/// # Errors
/// The database's.
pub fn count(connection: &Connection) -> Result<u64> {
    let now = now();
    Ok(connection.query_row(
        "SELECT count(*) FROM sessions WHERE last_used >= ?1 AND created >= ?2",
        params![now - IDLE, now - LONGEST],
        |row| row.get(0),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, people};

    #[test]
    fn a_session_ends_by_time_by_password_and_by_number() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let anna = "anna".parse().unwrap();
        store
            .change(|t| {
                people::add(t, &anna, Role::View, "hash")?;
                begin(t, b"1", "anna", "csrf")
            })
            .unwrap();
        let found = |hash: &[u8]| store.read(|t| find(t, hash)).unwrap();
        assert_eq!(found(b"1").unwrap().role, Role::View);
        assert!(found(b"2").is_none());
        store.change(|t| Ok(t.execute("UPDATE sessions SET last_used = ?1", [now() - IDLE - 1])?)).unwrap();
        assert!(found(b"1").is_none());
        for i in 0..MOST + 5 {
            store.change(|t| begin(t, &i.to_le_bytes(), "anna", "csrf")).unwrap();
        }
        assert_eq!(store.read(|t| count(t)).unwrap(), u64::from(MOST));
        assert!(found(&(MOST + 4).to_le_bytes()).is_some());
        store.change(|t| people::set_password(t, &anna, "other")).unwrap();
        assert_eq!(store.read(|t| count(t)).unwrap(), 0);
    }
}
