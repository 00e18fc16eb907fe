//! Files of a mounted system, found as that system would find them: its links are followed inside it, whatever they say, and
//! what is no plain file is never opened. A disk is not to be trusted with our own paths.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::refusal::refused;

/// No configuration file has more bytes.
const TEXT_LIMIT: u64 = 1 << 20;

/// A root that is mounted somewhere.
#[derive(Debug)]
pub struct Inside(OwnedFd);

impl Inside {
    /// The system at `root`.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn new(root: &Path) -> Result<Self> {
        let file = File::open(root).with_context(|| format!("opening {}", root.display()))?;
        Ok(Inside(file.into()))
    }

    /// A handle to whatever is at `path`, which opens nothing of it.
    ///
    /// # Errors
    /// When there is nothing.
    pub fn find(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        openat2(self.0.as_fd(), relative, flags, Mode::empty(), ResolveFlags::IN_ROOT)
            .with_context(|| format!("looking for {} of the disk", Path::new("/").join(path).display()))
    }

    /// A plain file, to read.
    ///
    /// # Errors
    /// When there is none, or it is something else, such as a device.
    pub fn open(&self, path: &Path) -> Result<File> {
        let found = File::from(self.find(path, OFlags::empty())?);
        let shown = Path::new("/").join(path);
        let data = found.metadata().with_context(|| format!("looking at {} of the disk", shown.display()))?;
        if !data.is_file() {
            return Err(refused(format!("{} of the disk is no file", shown.display())));
        }
        File::open(by_number(&found)).with_context(|| format!("opening {} of the disk", shown.display()))
    }

    /// A configuration file's text, to its first [`TEXT_LIMIT`] bytes. `None`: there is none.
    pub fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        self.open(Path::new(path)).ok()?.take(TEXT_LIMIT).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether a plain file is there.
    pub fn has(&self, path: &Path) -> bool {
        self.open(path).is_ok()
    }

    /// A handle to a folder, such as to mount on.
    ///
    /// # Errors
    /// When there is none.
    pub fn folder(&self, path: &Path) -> Result<OwnedFd> {
        self.find(path, OFlags::DIRECTORY)
    }
}

/// A path that leads to an open file of this process, links or not.
pub fn by_number(file: &impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_where_the_system_would_see_them_lead() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/static")).unwrap();
        std::fs::write(root.path().join("etc/static/fstab"), "inside").unwrap();
        symlink("/etc/static/fstab", root.path().join("etc/fstab")).unwrap();
        symlink("/../../etc/hosts", root.path().join("out")).unwrap();
        symlink("/usr", root.path().join("boot")).unwrap();
        let inside = Inside::new(root.path()).unwrap();
        assert_eq!(inside.text("etc/fstab").as_deref(), Some("inside"));
        assert!(!inside.has(Path::new("/out")) && inside.folder(Path::new("/boot")).is_err());
        std::fs::create_dir(root.path().join("usr")).unwrap();
        let folder = inside.folder(Path::new("/boot")).unwrap();
        let real = std::fs::read_link(by_number(&folder)).unwrap();
        assert_eq!(real, root.path().canonicalize().unwrap().join("usr"));
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let root = tempfile::tempdir().unwrap();
        let fifo = root.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let inside = Inside::new(root.path()).unwrap();
        // A FIFO with nobody at its other end would wait for ever.
        assert_eq!(inside.text("fifo"), None);
        assert!(inside.open(Path::new("/")).unwrap_err().to_string().contains("no file"));
    }
}
