//! A squashfs that is there already: what its manifest has to say of it.

use super::tree::{Content, Entry, Kind, Tree};
use anyhow::{Context, Result};
use backhand::{FilesystemReader, InnerNode};
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

/// As much of a file as anybody here asks for.
const BEGINNING: u64 = 64 << 10;

/// An open squashfs.
#[derive(Clone)]
pub struct Squashfs(Arc<FilesystemReader<'static>>);

impl Squashfs {
    /// Reads the list of files of the squashfs at `path`.
    ///
    /// # Errors
    /// If it is no squashfs, or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let system = FilesystemReader::from_reader(BufReader::new(file));
        Ok(Squashfs(Arc::new(system.with_context(|| format!("reading {} as a squashfs", path.display()))?)))
    }

    /// Its files; content is not read.
    ///
    /// # Errors
    /// If they make no tree.
    pub fn scan(&self) -> Result<Tree> {
        let mut tree = Tree::default();
        for (node, number) in self.0.files().zip(0..) {
            let kind = match &node.inner {
                InnerNode::Dir(_) => Kind::Directory,
                InnerNode::File(file) => {
                    Kind::File { size: file.file_len() as u64, content: Content::Inode(number) }
                }
                InnerNode::Symlink(link) => Kind::Symlink { target: link.link.clone() },
                InnerNode::CharacterDevice(_) => Kind::Device { block: false, major: 0, minor: 0 },
                InnerNode::BlockDevice(_) => Kind::Device { block: true, major: 0, minor: 0 },
                InnerNode::NamedPipe => Kind::Fifo,
                InnerNode::Socket => Kind::Socket,
            };
            let header = &node.header;
            let (mode, uid, gid, mtime) =
                (header.permissions, header.uid, header.gid, i64::from(header.mtime));
            let path = node.fullpath.strip_prefix("/").unwrap_or(&node.fullpath).to_owned();
            tree.insert(path, Entry { mode, uid, gid, mtime, xattrs: Vec::new(), kind });
        }
        tree.complete()
    }

    /// The beginning of the file that is the `number`th of the list.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn beginning(&self, number: u32) -> Result<Cursor<Vec<u8>>> {
        let node = self.0.files().nth(usize::try_from(number)?).context("finding a file in the squashfs")?;
        let mut bytes = Vec::new();
        if let InnerNode::File(file) = &node.inner {
            let reader = self.0.file(file).reader();
            reader.take(BEGINNING).read_to_end(&mut bytes).context("reading a file in the squashfs")?;
        }
        Ok(Cursor::new(bytes))
    }
}
