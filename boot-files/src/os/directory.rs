//! A folder as the source of an OS.

use super::tree::{Content, Entry, Kind, Tree};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Looks at everything under `root`; file content is not read.
///
/// # Errors
/// If something cannot be read: an OS's files belong to root, so that root has to look.
pub fn scan(root: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    let mut first_of: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let real = root.join(&path);
        let reading = || format!("reading {} (an OS's files are root's: run this as root?)", real.display());
        let meta = real.symlink_metadata().with_context(reading)?;
        let mut entry = Entry {
            mode: (meta.mode() & 0o7777) as u16,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: meta.mtime(),
            xattrs: attributes(&real).with_context(reading)?,
            kind: kind(&real, &meta).with_context(reading)?,
        };
        if entry.kind == Kind::Directory {
            for child in real.read_dir().with_context(reading)? {
                left.push(path.join(child.with_context(reading)?.file_name()));
            }
        } else if meta.nlink() > 1 {
            let first = first_of.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone());
            if *first != path {
                entry.kind = Kind::HardLink { of: first.clone() };
            }
        }
        tree.insert(path, entry);
    }
    tree.complete()
}

fn kind(path: &Path, meta: &Metadata) -> std::io::Result<Kind> {
    let file = meta.file_type();
    let (major, minor) = device(meta.rdev());
    Ok(match () {
        () if file.is_dir() => Kind::Directory,
        () if file.is_symlink() => Kind::Symlink { target: path.read_link()? },
        () if file.is_block_device() => Kind::Device { block: true, major, minor },
        () if file.is_char_device() => Kind::Device { block: false, major, minor },
        () if file.is_fifo() => Kind::Fifo,
        () if file.is_socket() => Kind::Socket,
        () => Kind::File { size: meta.len(), content: Content::Path(path.to_owned()) },
    })
}

/// Linux's way to pack a device's two numbers into one, as glibc's `makedev` has it.
fn device(rdev: u64) -> (u32, u32) {
    let major = (rdev >> 8 & 0xfff) | (rdev >> 32 & !0xfff);
    let minor = (rdev & 0xff) | (rdev >> 12 & !0xff);
    (major as u32, minor as u32)
}

fn attributes(path: &Path) -> std::io::Result<Vec<(OsString, Vec<u8>)>> {
    let names = match xattr::list(path) {
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(Vec::new()),
        names => names?,
    };
    let mut attributes = Vec::new();
    for name in names {
        if let Some(value) = xattr::get(path, &name)? {
            attributes.push((name, value));
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_taken_apart() {
        assert_eq!(device(0x0103), (1, 3));
        assert_eq!(device(5 << 8 | 0x2c | 0x100 << 12), (5, 300));
    }
}
