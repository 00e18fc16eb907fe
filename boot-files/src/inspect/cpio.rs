//! An initramfs: one or more cpio archives, each plain or compressed, with zeroes between them
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use super::format::Format;
use super::{Archive, Item, Kind, trimmed};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, Cursor, Read, Write};
use std::ops::Range;

/// The most that an initramfs may have, packed and unpacked, in bytes.
const LIMIT: u64 = 4 << 30;
/// The most paths.
const ITEM_LIMIT: usize = 4 << 20;
/// Compressed inside of compressed inside of …
const DEPTH_LIMIT: u32 = 4;

/// An initramfs in memory.
#[derive(Debug, Default)]
pub struct Cpio {
    items: Vec<Item>,
    data: Vec<(usize, Range<usize>)>,
    buffers: Vec<Vec<u8>>,
    unpacked: u64,
}

impl Cpio {
    /// Reads and unpacks an initramfs.
    ///
    /// # Errors
    /// If it is damaged, too large, or has no cpio archive in it.
    pub fn read(file: File) -> Result<Cpio> {
        let mut data = Vec::new();
        file.take(LIMIT).read_to_end(&mut data)?;
        Self::parse(data)
    }

    /// Parses an initramfs.
    ///
    /// # Errors
    /// As [`Cpio::read`].
    pub fn parse(data: Vec<u8>) -> Result<Cpio> {
        let mut cpio = Cpio::default();
        cpio.add(data, DEPTH_LIMIT)?;
        Ok(cpio)
    }

    fn add(&mut self, data: Vec<u8>, depth: u32) -> Result<()> {
        ensure!(depth > 0, "is compressed more often than it makes sense");
        let number = self.buffers.len();
        let mut at = 0;
        let mut inner = Vec::new();
        while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
            if rest.first() == Some(&0) {
                at = at.saturating_add(1);
                continue;
            }
            match Format::of(rest) {
                Some(Format::Cpio) => at = self.archive(&data, at, number)?,
                Some(format @ (Format::Gzip | Format::Zstd | Format::Xz)) => {
                    let (unpacked, length) = self.unpack(format, rest)?;
                    inner.push(unpacked);
                    at = at.saturating_add(length);
                }
                _ if at == 0 => bail!("is compressed, but there is no initramfs inside"),
                _ => bail!("has something at byte {at} that is no cpio archive"),
            }
        }
        self.buffers.push(data);
        inner.into_iter().try_for_each(|data| self.add(data, depth.saturating_sub(1)))
    }

    /// Unpacks one compressed stream. Returns its content, and its length when packed.
    fn unpack(&mut self, format: Format, packed: &[u8]) -> Result<(Vec<u8>, usize)> {
        let left = LIMIT.saturating_sub(self.unpacked);
        let mut cursor = Cursor::new(packed);
        let mut data = Vec::new();
        let read = match format {
            Format::Gzip => flate2::bufread::GzDecoder::new(&mut cursor).take(left).read_to_end(&mut data),
            Format::Xz => liblzma::bufread::XzDecoder::new(&mut cursor).take(left).read_to_end(&mut data),
            _ => unpack_zstd(&mut cursor, left, &mut data),
        };
        read.context("unpacking it")?;
        let size = u64::try_from(data.len())?;
        ensure!(size < left, "unpacks to more than {} GiB", LIMIT >> 30);
        self.unpacked = self.unpacked.saturating_add(size);
        let length = usize::try_from(cursor.position())?;
        ensure!(length > 0, "is damaged");
        Ok((data, length))
    }

    /// Reads one cpio archive that starts at `start`. Returns where it ends.
    fn archive(&mut self, data: &[u8], start: usize, buffer: usize) -> Result<usize> {
        let mut cursor = Cursor::new(data);
        cursor.set_position(u64::try_from(start)?);
        let mut links: HashMap<(u32, u32, u32), Vec<usize>> = HashMap::new();
        loop {
            let reader = ::cpio::newc::Reader::new(&mut cursor).context("reading a cpio header")?;
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                reader.finish()?;
                return Ok(usize::try_from(cursor.position())?);
            }
            ensure!(self.items.len() < ITEM_LIMIT, "has more than {ITEM_LIMIT} paths");
            let length = usize::try_from(entry.file_size())?;
            drop(reader);
            let at = usize::try_from(cursor.position())?;
            let end = at.checked_add(length).filter(|end| *end <= data.len());
            let end = end.with_context(|| format!("is cut off inside of {}", entry.name()))?;
            let content = data.get(at..end).unwrap_or_default();
            if entry.nlink() > 1 && entry.mode() & 0o170_000 == 0o100_000 {
                let links = links.entry((entry.dev_major(), entry.dev_minor(), entry.ino())).or_default();
                links.push(self.items.len());
                if length > 0 {
                    self.share(links, buffer, at..end);
                }
            }
            self.items.push(item(&entry, content)?);
            self.data.push((buffer, at..end));
            let padding = start.wrapping_sub(end) % 4;
            cursor.set_position(u64::try_from(end.saturating_add(padding))?);
        }
    }

    /// Hard links: the last one has the content, the ones before are empty.
    fn share(&mut self, links: &[usize], buffer: usize, range: Range<usize>) {
        for index in links {
            if let (Some(item), Some(data)) = (self.items.get_mut(*index), self.data.get_mut(*index)) {
                item.size = range.len() as u64;
                *data = (buffer, range.clone());
            }
        }
    }
}

/// Unpacks zstd frames up to the first byte that is none.
fn unpack_zstd(cursor: &mut Cursor<&[u8]>, limit: u64, data: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut total = 0usize;
    while cursor.fill_buf()?.starts_with(b"\x28\xb5\x2f\xfd") {
        let mut decoder = zstd::Decoder::with_buffer(&mut *cursor)?.single_frame();
        decoder.window_log_max(31)?;
        let left = limit.saturating_sub(total as u64);
        total = total.saturating_add(decoder.take(left).read_to_end(data)?);
    }
    Ok(total)
}

fn item(entry: &::cpio::newc::Entry, content: &[u8]) -> Result<Item> {
    let device = |block| Kind::Device { block, major: entry.rdev_major(), minor: entry.rdev_minor() };
    let kind = match entry.mode() & 0o170_000 {
        0o040_000 => Kind::Directory,
        0o100_000 => Kind::File,
        0o120_000 => Kind::Symlink {
            target: std::str::from_utf8(content)
                .with_context(|| format!("reading the link {}", entry.name()))?
                .trim_end_matches('\0')
                .to_owned(),
        },
        0o020_000 => device(false),
        0o060_000 => device(true),
        _ => Kind::Special,
    };
    Ok(Item {
        path: trimmed(entry.name()).to_owned(),
        kind,
        mode: entry.mode() & 0o7777,
        uid: entry.uid(),
        gid: entry.gid(),
        size: content.len() as u64,
    })
}

impl Archive for Cpio {
    fn items(&self) -> &[Item] {
        &self.items
    }

    fn copy(&mut self, index: usize, to: &mut dyn Write) -> Result<()> {
        let found =
            self.data.get(index).and_then(|(buffer, range)| self.buffers.get(*buffer)?.get(range.clone()));
        Ok(to.write_all(found.context("there is no such file")?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::{Command, Stdio};

    /// An archive as GNU cpio makes it, with a hard link.
    fn gnu() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "one").unwrap();
        std::fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("c")).unwrap();
        let mut cpio = Command::new("cpio")
            .args(["-o", "-H", "newc", "--quiet"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Debian package cpio");
        cpio.stdin.take().unwrap().write_all(b"./a\n./b\n./c\n").unwrap();
        cpio.wait_with_output().unwrap().stdout
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn content(cpio: &mut Cpio, path: &str) -> Vec<u8> {
        let (index, _) = super::super::find(cpio, path).unwrap();
        let mut data = Vec::new();
        cpio.copy(index, &mut data).unwrap();
        data
    }

    #[test]
    fn what_gnu_cpio_makes_is_read() {
        let mut cpio = Cpio::parse(gnu()).unwrap();
        assert_eq!(cpio.items.iter().map(|item| item.path.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(cpio.items[2].kind, Kind::Symlink { target: "a".into() });
        assert_eq!((content(&mut cpio, "/a"), content(&mut cpio, "b")), (b"one".to_vec(), b"one".to_vec()));
    }

    #[test]
    fn archives_one_after_the_other_in_any_compression() {
        let mut all = gnu();
        all.extend([0; 512]);
        all.extend(gzip(&gnu()));
        all.extend(zstd::encode_all(&gnu()[..], 1).unwrap());
        all.extend([0; 3]);
        all.extend(gnu());
        assert_eq!(Cpio::parse(all).unwrap().items.len(), 12);
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let cut = gnu()[..150].to_vec();
        assert!(Cpio::parse(cut).is_err());
        let error = Cpio::parse(gzip(b"MZ a kernel")).unwrap_err().to_string();
        assert_eq!(error, "is compressed, but there is no initramfs inside");
        let mut tail = gnu();
        tail.extend(b"junk");
        assert!(Cpio::parse(tail).unwrap_err().to_string().contains("that is no cpio archive"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(flips in proptest::collection::vec((0usize..1500, any::<u8>()), 0..8), packed: bool) {
            let mut data = if packed { gzip(&gnu_once()) } else { gnu_once() };
            for (at, value) in flips {
                if let Some(byte) = data.get_mut(at) { *byte = value; }
            }
            let _ = Cpio::parse(data);
        }
    }

    fn gnu_once() -> Vec<u8> {
        static ONCE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        ONCE.get_or_init(gnu).clone()
    }
}
