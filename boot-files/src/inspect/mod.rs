//! `boot-files ls`, `cat` and `unpack`: look inside `boot.img` (FAT), an initramfs (cpio, compressed or not, also several
//! one after the other) and a squashfs. What a file is, is told by its content.

pub mod cat;
pub mod cpio;
pub mod fat;
pub mod format;
pub mod guard;
pub mod ls;
pub mod squashfs;
pub mod unpack;

use anyhow::{Context, Result, bail, ensure};
use format::Format;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The name of standard input.
const STDIN: &str = "-";

/// An opened image.
pub trait Archive {
    /// What is in it, folders before what is in them.
    fn items(&self) -> &[Item];

    /// Writes the content of the file that is item number `index`.
    ///
    /// # Errors
    /// If it is no file, cannot be read, or cannot be written.
    fn copy(&mut self, index: usize, to: &mut dyn Write) -> Result<()>;
}

/// One path of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The path as the image has it, without a leading `/` or `./`. It has not been checked: see [`unpack`].
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Kind {
    /// A folder.
    Directory,
    /// A file.
    File,
    /// A symbolic link.
    Symlink {
        /// Where it leads.
        target: String,
    },
    /// A device node.
    Device {
        /// Whether it is a block device.
        block: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A pipe or a socket.
    Special,
}

/// Opens an image; `-` is standard input.
///
/// # Errors
/// If it cannot be read, or is none of the known formats.
pub fn open(image: &Path) -> Result<Box<dyn Archive>> {
    let name = image.display();
    let file = source(image).with_context(|| format!("opening {name}"))?;
    open_file(file).with_context(|| format!("reading {name}"))
}

fn source(image: &Path) -> Result<File> {
    if image == Path::new(STDIN) {
        let mut file = tempfile::tempfile()?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        return Ok(file);
    }
    let file = File::open(image)?;
    if !file.metadata()?.is_dir() {
        return Ok(file);
    }
    bail!("is a folder, not an image")
}

fn open_file(mut file: File) -> Result<Box<dyn Archive>> {
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    Read::by_ref(&mut file).take(format::START).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(match Format::of(&start) {
        Some(Format::Fat) => Box::new(fat::Fat::open(file)?),
        Some(Format::Squashfs) => Box::new(squashfs::Squashfs::open(file)?),
        Some(Format::Cpio | Format::Gzip | Format::Zstd | Format::Xz) => Box::new(cpio::Cpio::read(file)?),
        None => bail!("is neither a FAT image nor an initramfs (cpio) nor a squashfs"),
    })
}

/// The number of the item at `path`, and the item.
fn find<'a>(archive: &'a dyn Archive, path: &str) -> Result<(usize, &'a Item)> {
    let wanted = trimmed(path);
    // In an initramfs of several archives the last one of a path wins, as in the kernel.
    let found = archive.items().iter().enumerate().rev().find(|(_, item)| item.path == wanted);
    let (index, item) = found.with_context(|| format!("has no {path}"))?;
    ensure!(item.kind == Kind::File, "{path} is no file");
    Ok((index, item))
}

/// A path without what makes no difference at its start.
fn trimmed(path: &str) -> &str {
    let mut path = path;
    while let Some(rest) = path.strip_prefix("./").or_else(|| path.strip_prefix('/')) {
        path = rest;
    }
    path
}
