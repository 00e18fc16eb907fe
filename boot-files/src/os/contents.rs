//! Opens the files of a tree, whatever they come from.

use super::ext4::Ext4;
use super::squashfs::Squashfs;
use super::tarball;
use super::tree::Content;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// What a tree's files are read from.
#[derive(Clone)]
pub enum Contents {
    /// A folder: each file has its path.
    Folder,
    /// An uncompressed archive.
    Archive(Arc<File>),
    /// A file system in an image.
    Ext4(Ext4),
    /// A squashfs that is there already.
    Squashfs(Squashfs),
}

impl Contents {
    /// Opens a file. What it gives has `size` bytes, or reading fails.
    ///
    /// # Errors
    /// If the source has changed or is damaged.
    pub fn open(&self, content: &Content, size: u64) -> Result<Box<dyn Read + Send>> {
        Ok(match (self, content) {
            (Contents::Folder, Content::Path(path)) => {
                let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
                Box::new(Exact { inner: file, left: size })
            }
            (Contents::Archive(file), Content::Offset(at)) => {
                Box::new(Window { file: file.clone(), at: *at, left: size })
            }
            (Contents::Archive(file), Content::Sparse(header)) => tarball::sparse_reader(file, *header)?,
            (Contents::Ext4(system), Content::Inode(number)) => Box::new(system.reader(*number, size)),
            (Contents::Squashfs(system), Content::Inode(number)) => Box::new(system.beginning(*number)?),
            (_, content) => anyhow::bail!("{content:?} does not belong to this source"),
        })
    }
}

/// A stretch of a file.
struct Window {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at)?;
        if length == 0 && wanted > 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.at += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

/// As many bytes as were promised: a file that shrank meanwhile is an error, one that grew is cut.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.inner.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if length == 0 && wanted > 0 {
            return Err(std::io::Error::other("the file became shorter while it was read"));
        }
        self.left -= length as u64;
        Ok(length)
    }
}
