//! A tar archive as the source of an OS.

use super::tree::{Content, Entry, Kind, Tree};
use anyhow::{Context, Result, bail, ensure};
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use tar::{Archive, EntryType, Header};

/// Everything in an archive is a multiple of this many bytes.
const BLOCK: u64 = 512;
/// What tar calls an extended attribute in its own records.
const XATTR_RECORD: &[u8] = b"SCHILY.xattr.";
/// A path or an entry's records are not longer than this many bytes: an attribute has 64 KiB at most.
const RECORDS_LIMIT: u64 = 1 << 20;

/// Looks at every entry of the uncompressed archive `file`; content is not read.
///
/// # Errors
/// If the archive is damaged, ends early, or holds a path with `..` or a kind of entry that has no meaning here.
pub fn scan(file: &File) -> Result<Tree> {
    let mut walk = Walk { file, at: 0, length: file.metadata().context("reading the archive")?.len() };
    let mut tree = Tree::default();
    while let Some(described) = walk.next()? {
        let path = clean(&described.path)?;
        let entry =
            described.entry().with_context(|| format!("reading the archive's entry {:?}", path.display()))?;
        tree.insert(path, entry);
    }
    tree.complete()
}

/// Whether a block is a header: its checksum holds.
pub fn is_header(block: &[u8]) -> bool {
    let Some(header) = block.get(..BLOCK as usize).map(Header::from_byte_slice) else { return false };
    // The checksum's own eight bytes count as spaces.
    let byte = |(at, byte): (usize, &u8)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte });
    let sum: u32 = header.as_bytes().iter().enumerate().map(byte).sum();
    header.cksum().is_ok_and(|wanted| wanted == sum) && sum != 8 * u32::from(b' ')
}

/// Goes from header to header. The tar crate's own walk splits PAX records at line feeds, which are common in binary
/// attributes, and takes an archive that was cut off between two entries for whole.
struct Walk<'a> {
    file: &'a File,
    at: u64,
    length: u64,
}

/// An entry with what the records before it say of it.
struct Described {
    header: Box<Header>,
    header_at: u64,
    content_at: u64,
    size: u64,
    path: Vec<u8>,
    target: Option<Vec<u8>>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Walk<'_> {
    fn next(&mut self) -> Result<Option<Described>> {
        let (mut long_path, mut long_target, mut records) = (None, None, Vec::new());
        loop {
            let header_at = self.at;
            let block = self.block()?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            ensure!(is_header(&block), "the archive is damaged: what is at byte {header_at} is no header");
            let header = Box::new(Header::from_byte_slice(&block).clone());
            let size = header.entry_size().context("the archive is damaged: reading a size")?;
            match header.entry_type() {
                EntryType::GNULongName => long_path = Some(until_nul(self.small(size)?)),
                EntryType::GNULongLink => long_target = Some(until_nul(self.small(size)?)),
                EntryType::XHeader => records = pax_records(&self.small(size)?)?,
                EntryType::XGlobalHeader => drop(self.small(size)?),
                _ => {
                    return self
                        .described(header, header_at, size, long_path, long_target, records)
                        .map(Some);
                }
            }
        }
    }

    fn described(
        &mut self,
        header: Box<Header>,
        header_at: u64,
        size: u64,
        long_path: Option<Vec<u8>>,
        long_target: Option<Vec<u8>>,
        records: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Described> {
        let record =
            |name: &[u8]| records.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let stored = match record(b"size") {
            Some(text) => text_number(&text).context("the archive is damaged: reading a size")?,
            None => size,
        };
        let mut size = stored;
        if header.entry_type() == EntryType::GNUSparse {
            let sparse =
                header.as_gnu().context("the archive is damaged: a file with holes without their list")?;
            size = sparse.real_size().context("the archive is damaged: reading a size")?;
            let mut more = sparse.is_extended();
            while more {
                // The last list of holes says that it is the last in its 505th byte.
                more = self.block()?.get(504) == Some(&1);
            }
        }
        let path = record(b"path").or(long_path).unwrap_or_else(|| header.path_bytes().into_owned());
        let target =
            record(b"linkpath").or(long_target).or_else(|| header.link_name_bytes().map(Cow::into_owned));
        let content_at = self.at;
        let holds =
            !matches!(header.entry_type(), EntryType::Link | EntryType::Symlink | EntryType::Directory);
        self.skip(if holds { stored } else { 0 })?;
        Ok(Described { header, header_at, content_at, size, path, target, records })
    }

    fn block(&mut self) -> Result<[u8; BLOCK as usize]> {
        let mut block = [0; BLOCK as usize];
        let cut = || "the archive has no end mark: it was cut off";
        self.file.read_exact_at(&mut block, self.at).with_context(cut)?;
        self.at += BLOCK;
        Ok(block)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let end = bytes.checked_next_multiple_of(BLOCK).and_then(|bytes| self.at.checked_add(bytes));
        self.at = end
            .filter(|end| *end <= self.length)
            .context("the archive was cut off in the middle of a file")?;
        Ok(())
    }

    /// The content of an entry that describes the next one.
    fn small(&mut self, size: u64) -> Result<Vec<u8>> {
        ensure!(size <= RECORDS_LIMIT, "the archive is damaged: a path or its records have {size} bytes");
        let mut bytes = vec![0; usize::try_from(size)?];
        self.file
            .read_exact_at(&mut bytes, self.at)
            .context("the archive was cut off in the middle of a path")?;
        self.skip(size)?;
        Ok(bytes)
    }
}

impl Described {
    fn entry(&self) -> Result<Entry> {
        if self.records.iter().any(|(key, _)| key.starts_with(b"GNU.sparse.")) {
            bail!(
                "it has holes in PAX form, which is not supported; make the archive with --format=gnu, or without -S"
            );
        }
        let record =
            |name: &[u8]| self.records.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
        let id = |name: &str, field: std::io::Result<u64>| -> Result<u32> {
            let reading = || format!("reading its {name}");
            let value = match record(name.as_bytes()) {
                Some(text) => text_number(text).with_context(reading)?,
                None => field.with_context(reading)?,
            };
            u32::try_from(value).with_context(|| format!("its {name} {value} is too large"))
        };
        let mtime = record(b"mtime").and_then(|text| std::str::from_utf8(text).ok()?.parse::<f64>().ok());
        let xattr = |(key, value): &(Vec<u8>, Vec<u8>)| {
            key.strip_prefix(XATTR_RECORD).map(|name| (OsString::from_vec(name.to_vec()), value.clone()))
        };
        Ok(Entry {
            mode: (self.header.mode().context("reading its mode")? & 0o7777) as u16,
            uid: id("uid", self.header.uid())?,
            gid: id("gid", self.header.gid())?,
            mtime: match mtime {
                Some(seconds) => seconds.floor() as i64,
                None => i64::try_from(self.header.mtime().context("reading its time")?).unwrap_or(i64::MAX),
            },
            xattrs: self.records.iter().filter_map(xattr).collect(),
            kind: self.kind()?,
        })
    }

    fn kind(&self) -> Result<Kind> {
        let target = || self.target.as_deref().context("it is a link without a target");
        let device = |block| -> Result<Kind> {
            let major = self.header.device_major().context("reading its device")?.unwrap_or_default();
            let minor = self.header.device_minor().context("reading its device")?.unwrap_or_default();
            Ok(Kind::Device { block, major, minor })
        };
        Ok(match self.header.entry_type() {
            EntryType::Directory => Kind::Directory,
            // Before 1988 a folder was a file whose name ends in a slash.
            EntryType::Regular if self.path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => {
                Kind::File { size: self.size, content: Content::Offset(self.content_at) }
            }
            EntryType::GNUSparse => Kind::File { size: self.size, content: Content::Sparse(self.header_at) },
            EntryType::Link => Kind::HardLink { of: clean(target()?)? },
            EntryType::Symlink => Kind::Symlink { target: OsStr::from_bytes(target()?).into() },
            EntryType::Char => device(false)?,
            EntryType::Block => device(true)?,
            EntryType::Fifo => Kind::Fifo,
            other => {
                bail!("it is of the type {:?}, which has no meaning in an OS", char::from(other.as_byte()))
            }
        })
    }
}

/// The records of a PAX header: `LENGTH KEY=VALUE\n` each, the length counting all of it; a value may hold any bytes.
fn pax_records(mut bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let record = (|| {
            let space = bytes.iter().position(|byte| *byte == b' ')?;
            let length = usize::try_from(text_number(bytes.get(..space)?)?).ok()?;
            let (key, value) = {
                let text = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
                let equals = text.iter().position(|byte| *byte == b'=')?;
                (text.get(..equals)?.to_vec(), text.get(equals + 1..)?.to_vec())
            };
            bytes = bytes.get(length..)?;
            Some((key, value))
        })();
        records.push(record.context("the archive is damaged: its PAX records cannot be read")?);
    }
    Ok(records)
}

fn text_number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// A path as it lies in the tree: no leading `/` or `./`; one that leads out is refused.
fn clean(bytes: &[u8]) -> Result<PathBuf> {
    let path = Path::new(OsStr::from_bytes(bytes));
    ensure!(!bytes.contains(&0), "the archive has a path with a NUL: {path:?}");
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir => {}
            _ => bail!("the archive has a path that leads out of it: {path:?}"),
        }
    }
    Ok(clean)
}

/// A file in the archive that has holes, whole: the holes are read as zeros. `header` is where its header is.
///
/// # Errors
/// If the archive has changed.
pub fn sparse_reader(file: &File, header: u64) -> Result<Box<dyn Read + Send>> {
    // An entry borrows its archive, and the archive its file: reading runs on a thread of its own, a block at a time.
    let (blocks, source) = std::sync::mpsc::sync_channel(4);
    let mut file = reopen(file)?;
    file.seek(SeekFrom::Start(header)).context("reading the archive")?;
    std::thread::spawn(move || {
        let mut archive = Archive::new(file);
        let opened = archive.entries().and_then(|mut entries| entries.next().unwrap_or_else(|| Err(end())));
        let mut entry = match opened {
            Ok(entry) => entry,
            Err(error) => return drop(blocks.send(Err(error))),
        };
        loop {
            let mut block = vec![0; 128 << 10];
            let block = entry.read(&mut block).map(|length| {
                block.truncate(length);
                block
            });
            let last = !block.as_ref().is_ok_and(|block| !block.is_empty());
            if blocks.send(block).is_err() || last {
                return;
            }
        }
    });
    Ok(Box::new(Blocks { source, block: std::io::Cursor::new(Vec::new()) }))
}

/// A description of the same file with a position of its own: a duplicate would share it.
fn reopen(file: &File) -> Result<File> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::open(path).context("opening the archive again")
}

fn end() -> std::io::Error {
    std::io::ErrorKind::UnexpectedEof.into()
}

struct Blocks {
    source: std::sync::mpsc::Receiver<std::io::Result<Vec<u8>>>,
    block: std::io::Cursor<Vec<u8>>,
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.block.read(buffer)?;
        if length > 0 || buffer.is_empty() {
            return Ok(length);
        }
        self.block = std::io::Cursor::new(self.source.recv().map_err(|_| end())??);
        self.block.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn scanned(bytes: &[u8]) -> Result<Tree> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        scan(&file)
    }

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in [("./etc/os-release", "ID=x\n"), ("/usr/bin/a", "b")] {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn an_archive_that_was_cut_off_is_noticed() {
        let whole = archive();
        assert!(scanned(&whole).is_ok());
        // Between entries, in a header, in content: nowhere does it pass.
        for length in [512, 1024, 1030, 1536, 2048] {
            assert!(scanned(&whole[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        assert_eq!(clean(b"./a//b/./c").unwrap(), Path::new("a/b/c"));
        assert_eq!(clean(b"/a").unwrap(), Path::new("a"));
        for path in ["..", "a/../../b", "../a", "a/.."] {
            assert!(clean(path.as_bytes()).is_err(), "{path}");
        }
    }

    #[test]
    fn a_value_may_hold_any_bytes() {
        let records = pax_records(b"13 a=x\n2 y=z\n8 c=d=e\n").unwrap();
        assert_eq!(records, [(b"a".to_vec(), b"x\n2 y=z".to_vec()), (b"c".to_vec(), b"d=e".to_vec())]);
        for bad in ["6 a=\n", "99 a=b\n", "0 a=b\n", "-1 a=b\n", "6 ab\n", "x"] {
            assert!(pax_records(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_change_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = archive();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = scanned(&bytes);
        }

        #[test]
        fn no_records_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = pax_records(&bytes);
        }
    }
}
