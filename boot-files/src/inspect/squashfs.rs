//! An OS image: a squashfs.

use super::guard::guarded;
use super::{Archive, Item, Kind};
use anyhow::{Context, Result};
use backhand::{FilesystemReader, InnerNode, SquashfsFileReader};
use std::fs::File;
use std::io::{BufReader, Write};

/// A squashfs image.
pub struct Squashfs {
    volume: FilesystemReader<'static>,
    items: Vec<Item>,
}

impl Squashfs {
    /// Opens it.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn open(file: File) -> Result<Squashfs> {
        guarded(|| Self::read(file))
    }

    fn read(file: File) -> Result<Squashfs> {
        let volume = FilesystemReader::from_reader(BufReader::new(file)).context("opening the squashfs")?;
        let items = volume.files().skip(1).map(item).collect::<Result<_>>()?;
        Ok(Squashfs { volume, items })
    }
}

fn item(node: &backhand::Node<SquashfsFileReader>) -> Result<Item> {
    let text = |path: &std::path::Path| {
        path.to_str().map(str::to_owned).with_context(|| format!("the name {} is not UTF-8", path.display()))
    };
    // The kernel's new_decode_dev: 12 bits of major between 8 and 12 bits of minor.
    let device = |block, number: u32| Kind::Device {
        block,
        major: (number >> 8) & 0xfff,
        minor: (number & 0xff) | ((number >> 12) & 0xf_ff00),
    };
    let mut size = 0;
    let kind = match &node.inner {
        InnerNode::File(file) => {
            size = u64::try_from(file.file_len())?;
            Kind::File
        }
        InnerNode::Symlink(link) => Kind::Symlink { target: text(&link.link)? },
        InnerNode::Dir(_) => Kind::Directory,
        InnerNode::CharacterDevice(node) => device(false, node.device_number),
        InnerNode::BlockDevice(node) => device(true, node.device_number),
        InnerNode::NamedPipe | InnerNode::Socket => Kind::Special,
    };
    Ok(Item {
        path: super::trimmed(&text(&node.fullpath)?).to_owned(),
        kind,
        mode: u32::from(node.header.permissions) & 0o7777,
        uid: node.header.uid,
        gid: node.header.gid,
        size,
    })
}

impl Archive for Squashfs {
    fn items(&self) -> &[Item] {
        &self.items
    }

    fn copy(&mut self, index: usize, to: &mut dyn Write) -> Result<()> {
        guarded(|| {
            let node = self.volume.files().nth(index.saturating_add(1)).context("there is no such file")?;
            let InnerNode::File(file) = &node.inner else { anyhow::bail!("is no file") };
            let mut reader = self.volume.file(file).reader();
            std::io::copy(&mut reader, to).with_context(|| format!("reading {}", node.fullpath.display()))?;
            Ok(())
        })
    }
}
