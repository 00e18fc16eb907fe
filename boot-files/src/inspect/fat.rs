//! `boot.img`: a FAT file system.

use super::guard::guarded;
use super::{Archive, Item, Kind};
use anyhow::{Context, Result, ensure};
use fatfs::{Dir, FileSystem, FsOptions};
use std::fs::File;
use std::io::Write;

/// The most paths: a damaged folder may lead to itself.
const ITEM_LIMIT: usize = 100_000;
/// The deepest folder.
const DEPTH_LIMIT: usize = 32;

/// A FAT image.
pub struct Fat {
    volume: FileSystem<File>,
    items: Vec<Item>,
}

impl Fat {
    /// Opens it.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn open(file: File) -> Result<Fat> {
        guarded(|| Self::read(file))
    }

    fn read(file: File) -> Result<Fat> {
        let volume = FileSystem::new(file, FsOptions::new()).context("opening the FAT file system")?;
        let mut items = Vec::new();
        walk(&volume.root_dir(), "", 0, &mut items)?;
        Ok(Fat { volume, items })
    }
}

fn walk(folder: &Dir<'_, File>, prefix: &str, depth: usize, items: &mut Vec<Item>) -> Result<()> {
    ensure!(depth < DEPTH_LIMIT, "has folders more than {DEPTH_LIMIT} deep: it is damaged");
    let mut entries: Vec<_> =
        folder.iter().take(ITEM_LIMIT).collect::<std::io::Result<_>>().context("reading a folder")?;
    entries.retain(|entry| ![".", ".."].contains(&entry.file_name().as_str()));
    entries.sort_by_key(fatfs::DirEntry::file_name);
    for entry in entries {
        ensure!(items.len() < ITEM_LIMIT, "has more than {ITEM_LIMIT} files: it is damaged");
        let path = format!("{prefix}{}", entry.file_name());
        let (kind, mode) = if entry.is_dir() { (Kind::Directory, 0o755) } else { (Kind::File, 0o644) };
        items.push(Item { path: path.clone(), kind, mode, uid: 0, gid: 0, size: entry.len() });
        if entry.is_dir() {
            walk(&entry.to_dir(), &format!("{path}/"), depth.saturating_add(1), items)?;
        }
    }
    Ok(())
}

impl Archive for Fat {
    fn items(&self) -> &[Item] {
        &self.items
    }

    fn copy(&mut self, index: usize, to: &mut dyn Write) -> Result<()> {
        guarded(|| {
            let item = self.items.get(index).context("there is no such file")?;
            let mut file = self
                .volume
                .root_dir()
                .open_file(&item.path)
                .with_context(|| format!("opening {}", item.path))?;
            let copied = std::io::copy(&mut file, to).with_context(|| format!("reading {}", item.path))?;
            ensure!(copied == item.size, "{} is cut off after {copied} of {} bytes", item.path, item.size);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Cursor, Seek};

    /// A small image with a folder and a file in it.
    fn image() -> Vec<u8> {
        let mut disk = Cursor::new(vec![0; 64 << 10]);
        fatfs::format_volume(&mut disk, fatfs::FormatVolumeOptions::new()).unwrap();
        disk.rewind().unwrap();
        let volume = FileSystem::new(&mut disk, FsOptions::new()).unwrap();
        volume.root_dir().create_dir("overlays").unwrap();
        volume.root_dir().create_file("overlays/README").unwrap().write_all(&[b'x'; 3000]).unwrap();
        volume.unmount().unwrap();
        disk.into_inner()
    }

    fn file(data: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(data).unwrap();
        file.rewind().unwrap();
        file
    }

    proptest! {
        #[test]
        fn a_damaged_image_is_read_or_refused(flips in proptest::collection::vec((0usize..8192, any::<u8>()), 1..12)) {
            let mut data = image();
            for (at, value) in flips {
                data[at] = value;
            }
            if let Ok(mut fat) = Fat::open(file(&data)) {
                for index in 0..fat.items.len() {
                    let _ = fat.copy(index, &mut std::io::sink());
                }
            }
        }
    }
}
