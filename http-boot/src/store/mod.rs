//! What was seen and what people decided, in SQLite below `--state DIR`.
//!
//! Two kinds of writes: what people do is on the disk before it is acknowledged ([`Store::change`], `synchronous=FULL`);
//! what devices report goes through a bounded queue and is never waited for ([`recorder`]). Both survive kill -9 at any
//! time (`a_kill_loses_no_acknowledged_change` in `tests/web`).

pub mod audit;
pub mod findings;
pub mod orders;
pub mod people;
pub mod prune;
pub mod recorder;
mod schema;
pub mod seen;
pub mod sessions;
pub mod tokens;

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// The database's name in the folder of `--state`.
const FILE: &str = "http-boot.sqlite";
/// The file that a running server holds locked.
const LOCK: &str = "lock";
/// How long a write waits for another one, of this process or of `http-boot user`.
const BUSY: Duration = Duration::from_secs(10);

/// A moment as the database keeps it: milliseconds since 1970, UTC.
pub type Millis = i64;

/// The server's clock.
pub fn now() -> Millis {
    to_millis(SystemTime::now())
}

/// A moment for the database.
pub fn to_millis(moment: SystemTime) -> Millis {
    moment.duration_since(UNIX_EPOCH).map_or(0, |d| Millis::try_from(d.as_millis()).unwrap_or(Millis::MAX))
}

/// A moment from the database.
pub fn from_millis(millis: Millis) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// The database. Its calls block: call them off the async threads.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    changes: Mutex<Connection>,
    reads: Mutex<Connection>,
}

impl Store {
    /// Opens the database in `folder`, makes both where they are missing (readable by their owner alone), and brings an
    /// older one up to date.
    ///
    /// # Errors
    /// When it cannot be read or written, is no database, or a newer http-boot made it.
    pub fn open(folder: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("making the state folder {}", folder.display()))?;
        let file = folder.join(FILE);
        // Before SQLite makes it: -wal and -shm get the database's own mode.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&file)
            .with_context(|| format!("opening the database {}", file.display()))?;
        let mut changes = connect(&file, "FULL")?;
        schema::migrate(&mut changes)
            .with_context(|| format!("preparing the database {}", file.display()))?;
        let reads = connect(&file, "FULL")?;
        Ok(Self { folder: folder.to_owned(), changes: Mutex::new(changes), reads: Mutex::new(reads) })
    }

    /// Makes sure that there is one server for this folder: each keeps a copy of the orders in memory. The kernel takes the
    /// lock off when the file is closed, also by kill -9.
    ///
    /// # Errors
    /// When another server has it.
    pub fn lock(&self) -> Result<File> {
        let path = self.folder.join(LOCK);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(Errno::AGAIN) => bail!(
                "another http-boot serves with the state folder {}: stop that one, or name another with --state",
                self.folder.display()
            ),
            Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// A further connection, for the recorder: what it writes is lost in a power cut of the last moment, never torn.
    fn for_recorder(&self) -> Result<Connection> {
        connect(&self.folder.join(FILE), "NORMAL")
    }

    /// Changes something. When this returns, the change is on the disk.
    ///
    /// # Errors
    /// `change`'s, in which case nothing was changed; or the disk's.
    pub fn change<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .context("beginning a change of the database")?;
        let result = change(&transaction)?;
        transaction.commit().context("writing the database")?;
        Ok(result)
    }

    /// Reads something, all of it from one moment.
    ///
    /// # Errors
    /// `read`'s, or the database's.
    pub fn read<T>(&self, read: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction().context("beginning to read the database")?;
        read(&transaction)
    }
}

/// Opens the database in `folder` to look at it, beside a server that may be running. Nothing is made or changed.
///
/// # Errors
/// Where there is none, it cannot be read, or another version of http-boot made it.
pub fn look(folder: &Path) -> Result<Connection> {
    let file = folder.join(FILE);
    let doing = || format!("opening the database {}", file.display());
    let connection =
        Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).with_context(doing)?;
    connection.busy_timeout(BUSY).with_context(doing)?;
    let version: usize =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).with_context(doing)?;
    if version != schema::VERSION {
        bail!(
            "{} has version {version}, and this http-boot reads {}: use the one that serves with it",
            file.display(),
            schema::VERSION
        );
    }
    Ok(connection)
}

fn connect(file: &Path, synchronous: &str) -> Result<Connection> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // What a flood of events made of the log is given back.
        connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
        // Content comes from outside: SQL in the file's own schema shall not call functions.
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(connection)
    };
    open().with_context(|| format!("opening the database {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/state");
        let store = Store::open(&state).unwrap();
        store.change(|t| audit::add(t, &audit::Entry::example())).unwrap();
        for file in std::fs::read_dir(&state).unwrap() {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
        }
        assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o077, 0);
    }

    #[test]
    fn a_change_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let failed: Result<()> = store.change(|t| {
            audit::add(t, &audit::Entry::example())?;
            anyhow::bail!("no")
        });
        assert!(failed.is_err());
        assert!(store.read(|t| audit::newest(t, None, 9)).unwrap().is_empty());
    }

    #[test]
    fn moments_survive() {
        let then = now();
        assert_eq!(to_millis(from_millis(then)), then);
        assert_eq!(to_millis(from_millis(-5)), 0);
    }
}
