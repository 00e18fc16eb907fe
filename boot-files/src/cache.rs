//! The cache folder: apt's lists and archives, unpacked kernels. One build at a time uses it.

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::{Path, PathBuf};

/// An open cache, locked against other builds until dropped.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    _lock: File,
}

impl Cache {
    /// Opens `folder`, and makes it if need be.
    ///
    /// # Errors
    /// If it cannot be made or locked, or its path has characters that apt's lists cannot hold.
    pub fn open(folder: &Path) -> Result<Cache> {
        let context = || format!("opening the cache {}", folder.display());
        std::fs::create_dir_all(folder).with_context(context)?;
        let folder = folder.canonicalize().with_context(context)?;
        let plain = folder.to_str().is_some_and(|path| path.bytes().all(plain));
        ensure!(
            plain,
            "the cache folder {} has blanks or other characters that apt cannot take: choose another with --cache",
            folder.display()
        );
        let lock = File::create(folder.join("lock")).with_context(context)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("waiting for another build that uses the cache {}", folder.display());
            flock(&lock, FlockOperation::LockExclusive).with_context(context)?;
        }
        Ok(Cache { folder, _lock: lock })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder `kind`/`key` in the cache; if it is not there, `fill` makes its content, all or nothing.
    ///
    /// # Errors
    /// If `fill` fails.
    pub fn folder_of(
        &self,
        kind: &str,
        key: &str,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let parent = self.folder.join(kind);
        let target = parent.join(key);
        if target.is_dir() {
            return Ok(target);
        }
        std::fs::create_dir_all(&parent).with_context(|| format!("making {}", parent.display()))?;
        let draft = tempfile::Builder::new().prefix(".draft-").tempdir_in(&parent)?;
        fill(draft.path())?;
        std::fs::rename(draft.path(), &target).with_context(|| format!("making {}", target.display()))?;
        let _gone = draft.keep();
        Ok(target)
    }
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+:@~".contains(&byte)
}

/// The default: `lifeboat` in `$XDG_CACHE_HOME` or `~/.cache`.
pub fn default_folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("lifeboat")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_filled_once_and_never_in_half() {
        let temporary = tempfile::tempdir().unwrap();
        let cache = Cache::open(temporary.path()).unwrap();
        assert!(cache.folder_of("k", "a", |_| anyhow::bail!("no")).is_err());
        let path = cache.folder_of("k", "a", |folder| Ok(std::fs::write(folder.join("x"), "1")?)).unwrap();
        let again = cache.folder_of("k", "a", |_| anyhow::bail!("filled twice")).unwrap();
        assert_eq!((path.join("x").exists(), &path), (true, &again));
        assert_eq!(std::fs::read_dir(temporary.path().join("k")).unwrap().count(), 1);
    }

    #[test]
    fn a_path_that_apt_cannot_take_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let error = Cache::open(&temporary.path().join("a b")).unwrap_err().to_string();
        assert!(error.contains("--cache"), "{error}");
    }
}
