//! The state that boots leave each other ([`init::state`]), in a file of a mounted disk. Whoever can write to the disk can
//! write anything: no link on it leads anywhere, and nothing but a file of a few kilobytes is read.
//!
//! A file that is missing or damaged is an empty state. That makes nobody safe who was not: who may write the file might as
//! well write lower serial numbers into it. It guards against a server or a network that gives an old image, not against
//! who holds the disk; against those the floor in the signed boot.img does.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use init::state::{STATE_LIMIT, State};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags, flock, openat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;

/// What a file had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A state.
    State(State),
    /// There is no such file.
    Missing,
    /// No state, and why.
    Damaged(String),
}

/// Reads the state at `path` below `folder`.
pub fn read(folder: &Path, path: &str) -> Result<Found> {
    let (above, name) = place(folder, path)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&above, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(Found::Missing),
        Err(Errno::LOOP) => return Ok(Found::Damaged("it is a link".into())),
        Err(error) => return Err(error).context("opening it"),
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file).context("looking at it")?.st_mode);
    if kind != FileType::RegularFile {
        return Ok(Found::Damaged("it is no plain file".into()));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(STATE_LIMIT)?.saturating_add(1);
    File::from(file).take(limit).read_to_end(&mut bytes).context("reading it")?;
    Ok(State::parse(&bytes).map_or_else(Found::Damaged, Found::State))
}

/// Writes `newer` over what is at `path` below `folder`, whose serial numbers never fall. The file is there as the old one
/// or as the new one, whenever the power is cut: written beside it, synced, renamed, and the folder synced.
pub fn update(folder: &Path, path: &str, newer: &State) -> Result<()> {
    let (above, name) = place(folder, path)?;
    // Gone with the descriptor. Another process of ours may have mounted the same disk elsewhere.
    flock(&above, FlockOperation::LockExclusive).context("locking its folder")?;
    let old = match read(folder, path)? {
        Found::State(state) => state,
        Found::Missing | Found::Damaged(_) => State::default(),
    };
    let state = old.clone().updated(newer);
    let json = serde_json::to_vec(&state).context("writing it as JSON")?;
    State::parse(&json).map_err(anyhow::Error::msg).context("what is to be written is no good")?;
    if Found::State(state) == read(folder, path)? {
        return Ok(());
    }
    let beside = format!("{name}.new");
    let written = write_beside(above.as_fd(), &beside, &json)
        .and_then(|()| renameat(&above, &beside, &above, name).context("renaming it"))
        .and_then(|()| rustix::fs::fsync(&above).context("syncing its folder"));
    if written.is_err() {
        let _ = unlinkat(&above, &beside, AtFlags::empty());
    }
    written
}

fn write_beside(above: impl AsFd, beside: &str, bytes: &[u8]) -> Result<()> {
    // What a power cut left.
    let _ = unlinkat(&above, beside, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(&above, beside, flags, Mode::from_raw_mode(0o600)).context("making it")?;
    let mut file = File::from(file);
    file.write_all(bytes).and_then(|()| file.sync_all()).context("writing it")
}

/// The folder that the file is in, which no link leads to, and its name there.
fn place<'a>(folder: &Path, path: &'a str) -> Result<(OwnedFd, &'a str)> {
    let (above, name) = path.trim_start_matches('/').rsplit_once('/').unwrap_or((".", path));
    ensure!(!name.is_empty() && name != "." && name != "..", "{path:?} names no file");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(folder, flags, Mode::empty()).context("opening the file system")?;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let above = openat2(&root, above, flags, Mode::empty(), how)
        .with_context(|| format!("opening the folder /{above}"))?;
    Ok((above, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn state(serial: u64, unfinished: u32) -> State {
        State { serials: [("debian".to_owned(), serial)].into(), unfinished, ..State::default() }
    }

    #[test]
    fn what_is_written_is_read_and_serials_never_fall() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        assert_eq!(read(at, "state.json").unwrap(), Found::Missing);
        update(at, "state.json", &state(7, 2)).unwrap();
        assert_eq!(read(at, "state.json").unwrap(), Found::State(state(7, 2)));
        update(at, "state.json", &state(5, 0)).unwrap();
        assert_eq!(read(at, "state.json").unwrap(), Found::State(state(7, 0)));
        assert_eq!(std::fs::read_dir(at).unwrap().count(), 1);
    }

    #[test]
    fn what_is_the_same_is_not_written_again() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let inode = || folder.path().join("s").metadata().unwrap().ino();
        update(folder.path(), "s", &state(7, 1)).unwrap();
        let before = inode();
        update(folder.path(), "s", &state(6, 1)).unwrap();
        assert_eq!(inode(), before);
    }

    #[test]
    fn damage_is_said_and_mended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s");
        for bytes in [&b""[..], b"{", br#"{"format":9}"#, &[b' '; STATE_LIMIT + 1], &[0xff; 99]] {
            std::fs::write(&file, bytes).unwrap();
            assert!(matches!(read(folder.path(), "s").unwrap(), Found::Damaged(_)), "{}", bytes.len());
        }
        // A cut while the first one was written.
        std::fs::write(folder.path().join("s.new"), "{\"for").unwrap();
        update(folder.path(), "s", &state(1, 1)).unwrap();
        assert_eq!(read(folder.path(), "s").unwrap(), Found::State(state(1, 1)));
        assert!(!folder.path().join("s.new").exists());
    }

    #[test]
    fn no_link_leads_away() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, elsewhere) = (folder.path().join("disk"), folder.path().join("elsewhere"));
        std::fs::create_dir(&disk).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("s"), serde_json::to_vec(&state(1, 1)).unwrap()).unwrap();
        symlink(&elsewhere, disk.join("a")).unwrap();
        symlink(elsewhere.join("s"), disk.join("s")).unwrap();
        assert!(read(&disk, "a/s").is_err());
        assert!(update(&disk, "a/s", &state(2, 2)).is_err());
        assert_eq!(read(&disk, "s").unwrap(), Found::Damaged("it is a link".into()));
        update(&disk, "s", &state(2, 2)).unwrap();
        assert_eq!(read(&disk, "s").unwrap(), Found::State(state(2, 2)));
        assert_eq!(read(&elsewhere, "s").unwrap(), Found::State(state(1, 1)));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", update(folder.path(), "a/b/s", &state(1, 1)).unwrap_err());
        assert!(error.contains("/a/b"), "{error}");
        std::fs::create_dir(folder.path().join("s")).unwrap();
        assert!(matches!(read(folder.path(), "s").unwrap(), Found::Damaged(_)));
        assert!(update(folder.path(), "s", &state(1, 1)).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
