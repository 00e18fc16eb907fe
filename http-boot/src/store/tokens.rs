//! The table of API tokens: names, roles and hashes.

use anyhow::{Result, bail};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Millis, now};
use crate::people::{Name, Role};

/// A token, without what it consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is called.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// When it was made.
    pub created: Millis,
    /// When it was last used, to the minute.
    pub last_used: Option<Millis>,
}

/// Adds a token by its hash.
///
/// # Errors
/// When there is one of this name, or the database's.
pub fn add(connection: &Connection, name: &Name, role: Role, hash: &[u8]) -> Result<()> {
    let added = connection.execute(
        "INSERT INTO tokens (name, role, hash, created) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![name.as_str(), role.as_str(), hash, now()],
    )?;
    if added == 0 {
        bail!("there is a token named {name} already: `http-boot token remove {name}` makes room");
    }
    Ok(())
}

/// All tokens, by name.
///
/// # Errors
/// The database's.
pub fn list(connection: &Connection) -> Result<Vec<Token>> {
    let mut statement =
        connection.prepare("SELECT name, role, created, last_used FROM tokens ORDER BY name")?;
    Ok(statement.query_map([], read)?.collect::<rusqlite::Result<_>>()?)
}

/// The token with this hash.
///
/// # Errors
/// The database's.
pub fn find(connection: &Connection, hash: &[u8]) -> Result<Option<Token>> {
    let row = connection
        .prepare_cached("SELECT name, role, created, last_used FROM tokens WHERE hash = ?1")?
        .query_row(params![hash], read);
    Ok(row.optional()?)
}

/// Writes down that a token is in use.
///
/// # Errors
/// The database's.
pub fn touch(connection: &Connection, name: &str) -> Result<()> {
    connection.execute("UPDATE tokens SET last_used = ?2 WHERE name = ?1", params![name, now()])?;
    Ok(())
}

/// Removes a token.
///
/// # Errors
/// When there is none of this name, or the database's.
pub fn remove(connection: &Connection, name: &Name) -> Result<()> {
    match connection.execute("DELETE FROM tokens WHERE name = ?1", params![name.as_str()])? {
        0 => bail!("there is no token named {name}: `http-boot token list` shows which there are"),
        _ => Ok(()),
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token { name: row.get(0)?, role: row.get(1)?, created: row.get(2)?, last_used: row.get(3)? })
}
