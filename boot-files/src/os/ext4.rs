//! An ext4 file system in a disk image as the source of an OS, read without mounting it and so without root.
//!
//! The reader is `rust-fs-ext4`: `ext4-view` tells neither extended attributes (file capabilities), nor inode numbers
//! (hard links), nor device numbers.

use super::partitions::Partition;
use super::tree::{Content, Entry, Kind, Tree};
use anyhow::{Context, Result, bail, ensure};
use fs_ext4::block_io::BlockDevice;
use fs_ext4::inode::Inode;
use fs_ext4::{Filesystem, xattr};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// The inode of the root folder.
const ROOT: u32 = 2;
/// No symbolic link is longer.
const SYMLINK_LIMIT: u64 = 4095;
/// Where in an ext4 file system its magic number is, and what it is.
const MAGIC: (u64, [u8; 2]) = (1080, [0x53, 0xef]);

/// An open file system.
#[derive(Clone)]
pub struct Ext4(Arc<Filesystem>);

/// A partition as the reader wants to see it.
struct Slice {
    file: File,
    partition: Partition,
}

impl BlockDevice for Slice {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> fs_ext4::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.partition.length) {
            let why = format!("the file system reaches beyond its partition ({offset})");
            return Err(fs_ext4::Error::Io(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, why)));
        }
        self.file.read_exact_at(buffer, self.partition.start + offset).map_err(fs_ext4::Error::Io)
    }

    fn size_bytes(&self) -> u64 {
        self.partition.length
    }
}

/// Whether there is an ext4 file system (or ext2, ext3) in the partition.
pub fn is_ext4(file: &File, partition: &Partition) -> bool {
    let mut magic = [0; 2];
    file.read_exact_at(&mut magic, partition.start.saturating_add(MAGIC.0)).is_ok() && magic == MAGIC.1
}

impl Ext4 {
    /// Opens the file system in `partition` of `file`. A journal that was not written back is taken into account.
    ///
    /// # Errors
    /// If it is damaged, or has a feature that the reader does not know.
    pub fn open(file: &File, partition: Partition) -> Result<Self> {
        let file = file.try_clone().context("opening the image again")?;
        let system =
            Filesystem::mount(Arc::new(Slice { file, partition })).context("opening the ext4 file system")?;
        Ok(Ext4(Arc::new(system)))
    }

    /// Whether there is something at `path`.
    pub fn has(&self, path: &str) -> bool {
        let mut at = ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            match self.0.lookup_at(at, part.as_bytes()) {
                Ok(inode) => at = inode,
                Err(_) => return false,
            }
        }
        true
    }

    /// Looks at every file; content is not read.
    ///
    /// # Errors
    /// If the file system is damaged.
    pub fn scan(&self) -> Result<Tree> {
        let mut tree = Tree::default();
        let mut first_of: HashMap<u32, PathBuf> = HashMap::new();
        let mut folders = HashSet::from([ROOT]);
        let mut left = vec![(ROOT, PathBuf::new())];
        while let Some((number, path)) = left.pop() {
            let reading = || format!("reading {:?} (inode {number})", path.display());
            let (inode, raw) = self.0.read_inode_verified(number).with_context(reading)?;
            let mut entry = self.entry(number, &inode, &raw).with_context(reading)?;
            if entry.kind == Kind::Directory {
                for child in self.0.read_dir_ino(number).with_context(reading)? {
                    if child.name == b"." || child.name == b".." {
                        continue;
                    }
                    let name = OsStr::from_bytes(&child.name);
                    ensure!(
                        !child.name.contains(&b'/'),
                        "the folder {:?} has an entry {name:?}",
                        path.display()
                    );
                    left.push((child.inode, path.join(name)));
                }
                ensure!(
                    number == ROOT || folders.insert(number),
                    "the folder {:?} is there twice",
                    path.display()
                );
            } else if inode.links_count > 1 {
                let first = first_of.entry(number).or_insert_with(|| path.clone());
                if *first != path {
                    entry.kind = Kind::HardLink { of: first.clone() };
                }
            }
            tree.insert(path, entry);
        }
        tree.complete()
    }

    fn entry(&self, number: u32, inode: &Inode, raw: &[u8]) -> Result<Entry> {
        let attributes =
            xattr::read_all_resolved(&self.0, inode, raw).context("reading its extended attributes")?;
        // "system.data" is where ext4 keeps the end of a small file, and no attribute that anybody set.
        let attributes = attributes.into_iter().filter(|it| it.name != "system.data");
        Ok(Entry {
            mode: inode.mode & 0o7777,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs: attributes.map(|it| (OsString::from(it.name), it.value)).collect(),
            kind: self.kind(number, inode)?,
        })
    }

    fn kind(&self, number: u32, inode: &Inode) -> Result<Kind> {
        let (major, minor) = device(&inode.block);
        Ok(match inode.mode >> 12 {
            0x4 => Kind::Directory,
            0x8 => Kind::File { size: inode.size, content: Content::Inode(number) },
            0xa => {
                ensure!(inode.size <= SYMLINK_LIMIT, "a symbolic link of {} bytes", inode.size);
                Kind::Symlink { target: OsString::from_vec(self.0.read_link_ino(number)?).into() }
            }
            0x6 => Kind::Device { block: true, major, minor },
            0x2 => Kind::Device { block: false, major, minor },
            0x1 => Kind::Fifo,
            0xc => Kind::Socket,
            other => bail!("a file of the unknown type {other:#x}"),
        })
    }

    /// The content of the file with this inode.
    pub fn reader(&self, number: u32, size: u64) -> Ext4File {
        Ext4File { system: self.0.clone(), number, at: 0, size }
    }
}

/// Device numbers, in the old form or the new one, from where other files keep their blocks.
fn device(block: &[u8; 60]) -> (u32, u32) {
    let word =
        |at: usize| block.get(at..at + 4).and_then(|it| it.try_into().ok()).map_or(0, u32::from_le_bytes);
    match (word(0), word(4)) {
        (0, new) => ((new & 0xfff00) >> 8, (new & 0xff) | (new >> 12 & 0xfff00)),
        (old, _) => (old >> 8 & 0xff, old & 0xff),
    }
}

/// An open file.
pub struct Ext4File {
    system: Arc<Filesystem>,
    number: u32,
    at: u64,
    size: u64,
}

impl Read for Ext4File {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let length = self.system.read_ino(self.number, self.at, buffer).map_err(std::io::Error::other)?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.at += length as u64;
        Ok(length)
    }
}
