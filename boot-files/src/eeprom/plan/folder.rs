//! The folder of a plan: made beside its place, and renamed when all of it is there.

use crate::keys::output::{self, Access, Existing};
use anyhow::{Context, Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder that is not in place yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    draft: TempDir,
}

impl Folder {
    /// Begins one.
    ///
    /// # Errors
    /// If something is there already, or it cannot be made.
    pub fn new(path: &Path) -> Result<Self> {
        let context = || format!("making the folder {}", path.display());
        let is_free = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(error).with_context(context),
        };
        ensure!(is_free, "{} is there already: a plan is made anew, into a new folder", path.display());
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let draft = tempfile::Builder::new().prefix(".plan-").tempdir_in(parent).with_context(context)?;
        Ok(Folder { path: path.to_owned(), draft })
    }

    /// Writes a file, and its folder if need be.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.draft.path().join(name);
        let parent = path.parent().unwrap_or(self.draft.path());
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        output::write(&path, bytes, Access::Everybody, Existing::Keep)
    }

    /// Lets a file be run.
    ///
    /// # Errors
    /// If it is not there.
    pub fn make_executable(&self, name: &str) -> Result<()> {
        let path = self.draft.path().join(name);
        fs::set_permissions(&path, Permissions::from_mode(0o755))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Moves everything into place. An empty folder that is there is replaced.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn place(self) -> Result<()> {
        let context = || format!("making the folder {}", self.path.display());
        fs::set_permissions(self.draft.path(), Permissions::from_mode(0o755)).with_context(context)?;
        fs::rename(self.draft.path(), &self.path).with_context(context)?;
        // It is no longer where it would be removed.
        let _ = self.draft.keep();
        Ok(())
    }
}
