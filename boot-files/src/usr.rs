//! `/usr` as a squashfs inside the initramfs: it stays compressed in RAM, and the kernel has less to unpack before PID 1
//! can begin. PID 1 mounts it (`init/src/pid1/usr.rs`).

use crate::tree::{Entry, Node, Tree};
use anyhow::{Context, Result};
use backhand::compression::{CompressionOptions, Compressor, Zstd};
use backhand::{FilesystemCompressor, FilesystemWriter, NodeHeader};
use std::io::Cursor;

/// Bytes of a squashfs block. Larger ones pack better, and each small file that is read costs a whole one.
const BLOCK_SIZE: u32 = 512 << 10;
/// depmod's index, as far as PID 1 needs it before `/usr` is there.
const INDEX: [&str; 3] = ["modules.builtin", "modules.dep", "modules.softdep"];

/// The tree in two.
#[derive(Debug)]
pub struct Split {
    /// What the kernel unpacks.
    pub initramfs: Tree,
    /// What goes into the squashfs: all below `usr/`.
    pub usr: Tree,
}

/// Takes `/usr` out of the tree, but for what its own mount needs: `modules` has the paths of the modules for that, and
/// `release` is the kernel's.
///
/// # Errors
/// Never on a complete tree.
pub fn split(tree: &Tree, release: &str, modules: &[String]) -> Result<Split> {
    let folder = format!("usr/lib/modules/{release}");
    let index = INDEX.iter().map(|name| format!("{folder}/{name}"));
    let early: Vec<String> = modules.iter().map(|path| format!("{folder}/{path}")).chain(index).collect();
    let mut split = Split { initramfs: Tree::default(), usr: Tree::default() };
    for (path, entry) in tree.iter() {
        let below = path.starts_with("usr/");
        if below {
            split.usr.add(path, entry.clone())?;
        }
        if !below || early.iter().any(|early| early == path) {
            split.initramfs.add(path, entry.clone())?;
        }
    }
    split.initramfs.complete()?;
    Ok(split)
}

/// Packs it. Everything belongs to root and has the same time, in Unix seconds.
///
/// # Errors
/// If the image cannot be made.
pub fn squashfs(usr: &Tree, time: u64, level: i32) -> Result<Vec<u8>> {
    let time = u32::try_from(time).context("the build's time does not fit into a squashfs")?;
    let mut writer = FilesystemWriter::default();
    let zstd = Zstd { compression_level: u32::try_from(level).context("the compression's level")? };
    let compressor = FilesystemCompressor::new(Compressor::Zstd, Some(CompressionOptions::Zstd(zstd)));
    writer.set_compressor(compressor.context("choosing zstd")?);
    writer.set_block_size(BLOCK_SIZE);
    writer.set_time(time);
    writer.set_root_mode(0o755);
    for (path, entry) in usr.iter() {
        let below = path.strip_prefix("usr/").unwrap_or(path);
        push(&mut writer, below, entry, time).with_context(|| format!("packing /{path}"))?;
    }
    let mut image = Cursor::new(Vec::new());
    writer.write(&mut image).context("packing /usr")?;
    Ok(image.into_inner())
}

fn push<'t>(
    writer: &mut FilesystemWriter<'_, '_, 't>,
    path: &str,
    entry: &'t Entry,
    time: u32,
) -> Result<()> {
    let header = NodeHeader::new(u16::try_from(entry.mode & 0o7777)?, 0, 0, time);
    match &entry.node {
        Node::Directory => writer.push_dir(path, header)?,
        Node::File(data) => writer.push_file(Cursor::new(data), path, header)?,
        Node::Symlink(target) => writer.push_symlink(target, path, header)?,
        Node::CharacterDevice { major, minor } => {
            writer.push_char_device(major << 8 | minor, path, header)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Origin;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.add_own("init", 0o755, "init").unwrap();
        tree.add_own("bin/tool", 0o755, "tool").unwrap();
        tree.add_link("bin/link", "tool", Origin::own()).unwrap();
        for name in ["modules.dep", "modules.alias", "kernel/loop.ko", "kernel/net.ko"] {
            tree.add_own(&format!("lib/modules/6/{name}"), 0o644, name).unwrap();
        }
        tree.complete().unwrap();
        tree
    }

    #[test]
    fn usr_keeps_all_and_the_initramfs_what_its_mount_needs() {
        let split = split(&tree(), "6", &["kernel/loop.ko".to_owned()]).unwrap();
        for path in
            ["init", "bin", "usr", "usr/lib/modules/6/kernel/loop.ko", "usr/lib/modules/6/modules.dep"]
        {
            assert!(split.initramfs.contains(path), "{path}");
        }
        for path in ["usr/bin/tool", "usr/lib/modules/6/kernel/net.ko", "usr/lib/modules/6/modules.alias"] {
            assert!(!split.initramfs.contains(path), "{path}");
        }
        for path in [
            "usr/bin/tool",
            "usr/bin/link",
            "usr/lib/modules/6/kernel/loop.ko",
            "usr/lib/modules/6/kernel/net.ko",
        ] {
            assert!(split.usr.contains(path), "{path}");
        }
        assert!(!split.usr.contains("init"));
    }
}
