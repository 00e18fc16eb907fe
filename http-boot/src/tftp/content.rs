//! What is sent: an open file, or bytes in memory; read piece by piece as it is asked for.

use std::io::{self, IoSliceMut};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::io::{Errno, ReadWriteFlags};

use crate::http::conditions::Version;

/// How many bytes are fetched from a disk at once when they are not in the page cache. A session holds one such piece, and
/// only then.
const PIECE: usize = 128 * 1024;
/// How many bytes are taken from the page cache at once, where less is asked for: one system call for several blocks.
const AHEAD: usize = 12 * 1024;

/// What is sent.
#[derive(Clone, Debug)]
pub enum Content {
    /// A file, and which version of it was opened.
    File(Arc<OwnedFd>, Version),
    /// Text that was made for this client.
    Memory(Bytes),
}

impl Content {
    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::File(_, version) => version.size,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }
}

/// Why bytes are not there.
#[derive(Debug)]
pub enum NotRead {
    /// They are on a disk: [`Reader::fetch`] them first.
    NotCached,
    /// They cannot be read, or are no longer those that the transfer began with.
    Failed(io::Error),
}

/// Reads a [`Content`] without ever waiting for a disk on the thread that sends.
#[derive(Debug)]
pub struct Reader {
    content: Content,
    /// What was read ahead or [`Reader::fetch`] got, and from where on.
    piece: (u64, Vec<u8>),
}

impl Reader {
    /// Reads `content`.
    pub fn new(content: Content) -> Self {
        Self { content, piece: (0, Vec::new()) }
    }

    /// Fills `buffers`, one behind the other, with the bytes at `offset`; all of these have to be inside of the content.
    ///
    /// # Errors
    /// See [`NotRead`].
    pub fn read(&mut self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<(), NotRead> {
        let wanted: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let file = match &self.content {
            Content::Memory(bytes) => return copy(bytes, offset, buffers),
            Content::File(file, _) => file,
        };
        let (start, piece) = &self.piece;
        let inside = offset.checked_sub(*start).filter(|at| at + wanted as u64 <= piece.len() as u64);
        if let Some(inside) = inside.filter(|_| !piece.is_empty()) {
            return copy(piece, inside, buffers);
        }
        // The same memory again, unless a disk filled more.
        let mut piece = std::mem::take(&mut self.piece.1);
        if piece.capacity() > AHEAD {
            piece = Vec::new();
        }
        if wanted > 0 && read_ahead(file, offset, self.content.size(), wanted, &mut piece) {
            self.check(offset + piece.len() as u64)?;
            let copied = copy(&piece, 0, buffers);
            self.piece = (offset, piece);
            return copied;
        }
        match rustix::io::preadv2(file, buffers, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) if read == wanted => self.check(offset + wanted as u64),
            // The rest is on the disk; or the file system cannot say so (NFS and others).
            Ok(_) | Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR | Errno::INVAL | Errno::NOSYS) => {
                Err(NotRead::NotCached)
            }
            Err(error) => Err(NotRead::Failed(error.into())),
        }
    }

    /// Before the last bytes go out, makes sure that all were of one version: a client must not take a mix of two for whole
    /// (`a_file_that_changes_is_not_ended`).
    fn check(&self, read_to: u64) -> Result<(), NotRead> {
        match &self.content {
            Content::File(file, version) if read_to >= version.size => {
                let now = rustix::fs::fstat(file).map_err(|error| NotRead::Failed(error.into()))?;
                if version.holds(&Version::from(&now)) { Ok(()) } else { Err(NotRead::Failed(changed())) }
            }
            _ => Ok(()),
        }
    }

    /// Gets the bytes at `offset`, at least `length` of them, from the disk.
    ///
    /// # Errors
    /// When they cannot be read or the file has changed.
    pub async fn fetch(&mut self, offset: u64, length: usize) -> io::Result<()> {
        let Content::File(file, version) = &self.content else { return Ok(()) };
        let left = usize::try_from(version.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        if length > left {
            return Err(changed());
        }
        let (file, length) = (Arc::clone(file), length.max(PIECE).min(left));
        let fetched = tokio::task::spawn_blocking(move || read_piece(&file, offset, length)).await;
        let piece = fetched.unwrap_or_else(|died| Err(io::Error::other(died)))?;
        self.piece = (offset, piece);
        match self.check(offset + length as u64) {
            Err(NotRead::Failed(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

fn copy(bytes: &[u8], offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<(), NotRead> {
    let mut rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    for buffer in buffers {
        let Some((head, tail)) = rest.split_at_checked(buffer.len()) else {
            return Err(NotRead::Failed(changed()));
        };
        buffer.copy_from_slice(head);
        rest = tail;
    }
    Ok(())
}

/// Fills `piece` with the bytes at `offset` and some behind them, if more than `wanted` are left and all of these are in the
/// page cache.
fn read_ahead(file: &OwnedFd, offset: u64, size: u64, wanted: usize, piece: &mut Vec<u8>) -> bool {
    let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(AHEAD);
    if left <= wanted {
        return false;
    }
    piece.resize(left, 0);
    let read = rustix::io::preadv2(file, &mut [IoSliceMut::new(piece)], offset, ReadWriteFlags::NOWAIT);
    read == Ok(left)
}

fn read_piece(file: &OwnedFd, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(length);
    while piece.len() < length {
        let at = offset + piece.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut piece), at) {
            Ok(0) => return Err(changed()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may give more than was asked for.
    piece.truncate(length);
    Ok(piece)
}

fn changed() -> io::Error {
    io::Error::other("the file changed during the transfer")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> Reader {
        let file = OwnedFd::from(File::open(path).unwrap());
        let version = Version::from(&rustix::fs::fstat(&file).unwrap());
        Reader::new(Content::File(Arc::new(file), version))
    }

    /// As a transfer does.
    async fn read(reader: &mut Reader, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        loop {
            match reader.read(offset, &mut [IoSliceMut::new(&mut buffer)]) {
                Ok(()) => return Ok(buffer),
                Err(NotRead::NotCached) => reader.fetch(offset, length).await?,
                Err(NotRead::Failed(error)) => return Err(error),
            }
        }
    }

    #[tokio::test]
    async fn pieces_are_where_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0u32..100_000).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mut reader = open(&path);
        for (offset, length) in [(0, 512), (1000, 70_000), (399_990, 10), (400_000, 0), (5, 1)] {
            assert_eq!(
                read(&mut reader, offset as u64, length).await.unwrap(),
                bytes[offset..offset + length]
            );
            // From the disk, as it were.
            reader.fetch(offset as u64, length).await.unwrap();
            assert_eq!(
                read(&mut reader, offset as u64, length).await.unwrap(),
                bytes[offset..offset + length]
            );
        }
        let mut memory = Reader::new(Content::Memory(Bytes::from_static(b"some text")));
        assert_eq!(read(&mut memory, 5, 4).await.unwrap(), b"text");
        assert!(read(&mut memory, 5, 5).await.is_err());
    }

    #[tokio::test]
    async fn a_file_that_changes_is_not_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // More than is read ahead.
        let half = AHEAD + 500;
        std::fs::write(&path, vec![1; 2 * half]).unwrap();
        let mut reader = open(&path);
        assert!(read(&mut reader, 0, 500).await.is_ok());
        std::fs::write(&path, vec![2; 2 * half]).unwrap();
        assert!(read(&mut reader, half as u64, half).await.is_err());
        std::fs::write(&path, [2; 600]).unwrap();
        assert!(read(&mut open(&path), 0, 600).await.is_ok());
        assert!(read(&mut reader, half as u64, half).await.is_err());
        // What was read ahead is whole.
        std::fs::write(&path, [2; 1000]).unwrap();
        let mut reader = open(&path);
        assert!(read(&mut reader, 0, 500).await.is_ok());
        std::fs::write(&path, [3; 1000]).unwrap();
        assert_eq!(read(&mut reader, 500, 500).await.unwrap(), [2; 500]);
        // One that is replaced goes on as it was.
        let mut reader = open(&path);
        std::fs::write(folder.path().join("new"), [4; 700]).unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(read(&mut reader, 0, 600).await.unwrap(), [3; 600]);
    }
}
