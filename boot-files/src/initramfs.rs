//! The initramfs: the tree as a cpio archive, compressed with zstd.

use crate::tree::{Node, Tree};
use anyhow::{Context, Result};
use std::io::Write;
use zstd::stream::raw::CParameter;

/// log2 of zstd's window: 32 MiB, what the kernel must have free to unpack it. The kernel takes up to 27.
const WINDOW_LOG: u32 = 25;
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// The tree as a cpio archive (newc). Everything belongs to root and has the same time.
///
/// # Errors
/// If a file is too large for cpio.
pub fn archive(tree: &Tree, time: u64) -> Result<Vec<u8>> {
    let time = u32::try_from(time).context("the build's time does not fit into cpio")?;
    let mut archive = Vec::new();
    for (number, (path, entry)) in tree.iter().enumerate() {
        let (kind, data, device): (u32, &[u8], (u32, u32)) = match &entry.node {
            Node::Directory => (DIRECTORY, &[], (0, 0)),
            Node::File(data) => (FILE, data, (0, 0)),
            Node::Symlink(target) => (SYMLINK, target.as_bytes(), (0, 0)),
            Node::CharacterDevice { major, minor } => (CHARACTER_DEVICE, &[], (*major, *minor)),
        };
        let links = if kind == DIRECTORY { 2 } else { 1 };
        let size = u32::try_from(data.len()).with_context(|| format!("/{path} is too large for cpio"))?;
        let header = cpio::newc::Builder::new(path)
            .ino(u32::try_from(number)?.saturating_add(1))
            .mode(kind | entry.mode)
            .nlink(links)
            .mtime(time)
            .rdev_major(device.0)
            .rdev_minor(device.1);
        let mut writer = header.write(&mut archive, size);
        writer.write_all(data)?;
        writer.finish()?;
    }
    cpio::newc::trailer(&mut archive)?;
    Ok(archive)
}

/// Compresses it as well as the kernel can unpack it.
///
/// # Errors
/// If zstd fails.
pub fn compress(archive: &[u8], level: i32) -> Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).context("starting zstd")?;
    encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    encoder.set_parameter(CParameter::ChecksumFlag(true))?;
    encoder.set_pledged_src_size(Some(u64::try_from(archive.len())?))?;
    encoder.write_all(archive).context("compressing the initramfs")?;
    encoder.finish().context("compressing the initramfs")
}
