//! Writes a squashfs with the crate `backhand`: needs no program beside this one, and cannot carry everything.

use super::contents::Contents;
use super::meter::Meter;
use super::tree::{Content, Entry, Kind, Tree, squashfs_time};
use super::writer::Options;
use anyhow::{Context, Result, bail};
use backhand::compression::{CompressionOptions, Compressor, Zstd};
use backhand::{FilesystemCompressor, FilesystemWriter, NodeHeader};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

/// What of `tree` backhand cannot carry, a phrase each.
pub fn losses(tree: &Tree) -> Vec<String> {
    let mut losses = Vec::new();
    let (mut attributes, mut links) = (0_u64, 0_u64);
    for (_, entry) in tree.iter() {
        match entry.kind {
            Kind::HardLink { .. } => links += 1,
            _ => attributes += entry.xattrs.len() as u64,
        }
    }
    if attributes > 0 {
        losses.push(format!("extended attributes, such as file capabilities: {attributes}"));
    }
    if links > 0 {
        losses.push(format!("hard links: {links} (each becomes a file of its own)"));
    }
    if !root_owner_is_known(tree) {
        losses.push("the owner of the top folder (it becomes root's)".to_owned());
    }
    losses
}

/// Writes the image. The time of the top folder is 1970: backhand gives no way to set it.
///
/// # Errors
/// If reading a file or writing the image fails.
pub fn write(tree: &Tree, contents: &Contents, output: &File, options: &Options) -> Result<()> {
    let meter = Meter::new("packing", tree.bytes());
    let mut writer = FilesystemWriter::default();
    let level = CompressionOptions::Zstd(Zstd { compression_level: options.level });
    let compressor = FilesystemCompressor::new(Compressor::Zstd, Some(level)).context("choosing zstd")?;
    writer.set_compressor(compressor);
    writer.set_block_size(options.block_size);
    writer.set_time(options.time);
    for (path, entry) in tree.iter() {
        push(&mut writer, path, entry, tree, contents, &meter)
            .with_context(|| format!("adding {:?} to the image", path.display()))?;
    }
    let mut output = BufWriter::with_capacity(1 << 20, output);
    writer.write(&mut output).context("writing the image")?;
    output.flush().context("writing the image")?;
    meter.finish();
    Ok(())
}

fn push<'c>(
    writer: &mut FilesystemWriter<'_, '_, 'c>,
    path: &Path,
    entry: &Entry,
    tree: &Tree,
    contents: &Contents,
    meter: &Meter,
) -> Result<()> {
    let header = NodeHeader::new(entry.mode, entry.uid, entry.gid, squashfs_time(entry.mtime));
    if path.as_os_str().is_empty() {
        writer.set_root_mode(entry.mode);
        if root_owner_is_known(tree) {
            writer.set_root_uid(entry.uid);
            writer.set_root_gid(entry.gid);
        }
        return Ok(());
    }
    let kind = match &entry.kind {
        Kind::HardLink { of } => &tree.entry(of).context("finding the hard link's file")?.kind,
        kind => kind,
    };
    match kind {
        Kind::Directory => writer.push_dir(path, header)?,
        Kind::File { size, content } => {
            let (contents, content, meter) = (contents.clone(), content.clone(), meter.clone());
            writer.push_file(
                Lazy { contents, content, size: *size, open: None, meter, ended: false },
                path,
                header,
            )?;
        }
        Kind::Symlink { target } => writer.push_symlink(target, path, header)?,
        Kind::Device { block: true, major, minor } => {
            writer.push_block_device(device(*major, *minor), path, header)?
        }
        Kind::Device { block: false, major, minor } => {
            writer.push_char_device(device(*major, *minor), path, header)?
        }
        Kind::Fifo => writer.push_fifo(path, header)?,
        Kind::Socket => writer.push_socket(path, header)?,
        Kind::HardLink { .. } => bail!("a hard link to a hard link"),
    }
    Ok(())
}

/// backhand knows the owners of the files that it is given, and root.
fn root_owner_is_known(tree: &Tree) -> bool {
    let known: HashSet<u32> = tree.iter().skip(1).flat_map(|(_, entry)| [entry.uid, entry.gid]).collect();
    let root = tree.entry(Path::new(""));
    root.is_none_or(|root| [root.uid, root.gid].iter().all(|id| *id == 0 || known.contains(id)))
}

/// Linux's own way to pack a device's numbers into 32 bits.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// A file that is opened when its first byte is wanted and closed with its last one: an OS has more files than a process
/// may have open.
struct Lazy {
    contents: Contents,
    content: Content,
    size: u64,
    open: Option<Box<dyn Read + Send>>,
    meter: Meter,
    ended: bool,
}

impl Read for Lazy {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(self.contents.open(&self.content, self.size).map_err(std::io::Error::other)?),
        };
        let length = open.read(buffer)?;
        if length == 0 && !buffer.is_empty() {
            self.open = None;
            self.ended = true;
        }
        self.meter.add(length as u64);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_packed_as_linux_does() {
        assert_eq!(device(1, 3), 0x103);
        assert_eq!(device(5, 300), 0x0010_052c);
    }
}
