//! How a file is written: beside its place, synced, then renamed, so that nobody ever sees half of it.

use anyhow::{Context, Result, bail};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::NamedTempFile;

/// Who may read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner alone (mode 0600): private keys.
    Owner,
    /// Everybody (mode 0644): what a server hands out anyway.
    Everybody,
}

/// What happens to a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and writing fails.
    Keep,
    /// It is replaced at once.
    Replace,
}

/// An empty file in the folder of `path`, that [`place`] moves there. Gone with the value if that does not happen.
///
/// # Errors
/// If the folder is missing or cannot be written to.
pub fn beside(path: &Path) -> Result<NamedTempFile> {
    let Some(name) = path.file_name() else { bail!("{} does not name a file", path.display()) };
    let prefix = format!(".{}.", name.to_string_lossy());
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempfile_in(folder(path))
        .with_context(|| format!("making a file in {}", folder(path).display()))
}

/// Syncs `file` and gives it its name.
///
/// # Errors
/// If there is a file already that has to stay, or the system refuses.
pub fn place(file: NamedTempFile, path: &Path, access: Access, existing: Existing) -> Result<()> {
    let mode = if access == Access::Owner { 0o600 } else { 0o644 };
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.as_file().sync_all())
        .with_context(|| format!("writing {}", path.display()))?;
    match existing {
        Existing::Replace => file.persist(path).map_err(|error| error.error),
        Existing::Keep => file.persist_noclobber(path).map_err(|error| error.error),
    }
    .with_context(|| format!("writing {}", path.display()))?;
    // The name itself has to reach the disk too.
    let folder = folder(path);
    File::open(folder).and_then(|it| it.sync_all()).with_context(|| format!("syncing {}", folder.display()))
}

/// Writes `bytes` to `path`, whole or not at all.
///
/// # Errors
/// As [`place`].
pub fn write(path: &Path, bytes: &[u8], access: Access, existing: Existing) -> Result<()> {
    let mut file = beside(path)?;
    file.write_all(bytes).with_context(|| format!("writing {}", path.display()))?;
    place(file, path, access, existing)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_to_stay_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, b"one", Access::Owner, Existing::Keep).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&path, b"two", Access::Owner, Existing::Keep).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, b"two", Access::Everybody, Existing::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "no temporary file stays behind");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = write(Path::new("/nonexistent/x"), b"", Access::Owner, Existing::Keep).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent"), "{error:#}");
    }
}
