//! The table of people.

use anyhow::{Result, bail};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Millis, now};
use crate::people::{Name, Role};

/// A person, without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The name, as it was first written.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// When they were added.
    pub created: Millis,
}

/// Adds a person with the hash of a password.
///
/// # Errors
/// When there is one of this name (in whatever case), or the database's.
pub fn add(connection: &Connection, name: &Name, role: Role, password: &str) -> Result<()> {
    let added = connection.execute(
        "INSERT INTO people (name, role, password, created) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![name.as_str(), role.as_str(), password, now()],
    )?;
    if added == 0 {
        bail!(
            "there is somebody named {name} already: `http-boot user password {name}` sets another password"
        );
    }
    Ok(())
}

/// All people, by name.
///
/// # Errors
/// The database's.
pub fn list(connection: &Connection) -> Result<Vec<Person>> {
    let mut statement = connection.prepare("SELECT name, role, created FROM people ORDER BY name")?;
    let rows = statement
        .query_map([], |row| Ok(Person { name: row.get(0)?, role: row.get(1)?, created: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Whether there is nobody yet.
///
/// # Errors
/// The database's.
pub fn is_empty(connection: &Connection) -> Result<bool> {
    Ok(connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM people)", [], |row| row.get(0))?)
}

/// A person and the hash of the password.
///
/// # Errors
/// The database's.
pub fn find(connection: &Connection, name: &Name) -> Result<Option<(Person, String)>> {
    let row = connection.query_row(
        "SELECT name, role, created, password FROM people WHERE name = ?1",
        params![name.as_str()],
        |row| Ok((Person { name: row.get(0)?, role: row.get(1)?, created: row.get(2)? }, row.get(3)?)),
    );
    Ok(row.optional()?)
}

/// Removes a person; their sessions end.
///
/// # Errors
/// When there is nobody of this name, or the database's.
pub fn remove(connection: &Connection, name: &Name) -> Result<()> {
    match connection.execute("DELETE FROM people WHERE name = ?1", params![name.as_str()])? {
        0 => bail!("there is nobody named {name}: `http-boot user list` shows who there is"),
        _ => Ok(()),
    }
}

/// Sets the hash of another password; the person's sessions end.
///
/// # Errors
/// When there is nobody of this name, or the database's.
pub fn set_password(connection: &Connection, name: &Name, password: &str) -> Result<()> {
    let set = connection
        .execute("UPDATE people SET password = ?2 WHERE name = ?1", params![name.as_str(), password])?;
    if set == 0 {
        bail!("there is nobody named {name}: `http-boot user list` shows who there is");
    }
    connection.execute(
        "DELETE FROM sessions WHERE person = (SELECT name FROM people WHERE name = ?1)",
        params![name.as_str()],
    )?;
    Ok(())
}
