//! The tables, and how an older database becomes a newer one.

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, TransactionBehavior};

/// The version that [`migrate`] brings a database to.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// What brings a database from version N to N + 1 stands at place N. What was released is never edited.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// Brings the database up to date.
///
/// # Errors
/// When a newer http-boot made it, or it cannot be written.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Some(missing) = MIGRATIONS.get(version..) else {
        bail!(
            "it has version {version}, and this http-boot knows {} at most: a newer http-boot made it; use that one, or another --state",
            MIGRATIONS.len()
        );
    };
    for (step, sql) in missing.iter().enumerate() {
        transaction
            .execute_batch(sql)
            .with_context(|| format!("bringing it to version {}", version + step + 1))?;
    }
    if !missing.is_empty() {
        transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_is_enough_and_newer_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut connection).unwrap_err().to_string();
        assert!(error.contains("version 99") && error.contains("newer http-boot"), "{error}");
    }

    #[test]
    fn what_an_older_one_kept_is_kept() {
        for version in 1..VERSION {
            let mut connection = Connection::open_in_memory().unwrap();
            for sql in &MIGRATIONS[..version] {
                connection.execute_batch(sql).unwrap();
            }
            connection.pragma_update(None, "user_version", version).unwrap();
            connection.execute("INSERT INTO people VALUES ('ada', 'operate', 'hash', 1)", []).unwrap();
            migrate(&mut connection).unwrap();
            let name: String = connection.query_row("SELECT name FROM people", [], |row| row.get(0)).unwrap();
            let now: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
            assert_eq!((name.as_str(), now), ("ada", VERSION), "from version {version}");
            connection.execute_batch("SELECT * FROM findings").unwrap();
        }
    }
}
