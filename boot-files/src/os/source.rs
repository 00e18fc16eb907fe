//! Recognises what an OS is to be made from, by its content, and opens it.

use super::contents::Contents;
use super::ext4::{self, Ext4};
use super::meter::{Meter, Metered};
use super::partitions::{self, Partition};
use super::tree::Tree;
use super::{directory, tarball};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// As much of a file's beginning as tells what it is: past the magic number of an ext4 file system.
const BEGINNING: usize = 2048;

/// An opened source.
pub struct Source {
    /// Its files.
    pub tree: Tree,
    /// What they are read from.
    pub contents: Contents,
    /// The folder, if it is one.
    pub folder: Option<PathBuf>,
    /// What it was recognised as, for people.
    pub what: String,
}

/// What a file's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Gzip,
    Xz,
    Zstd,
    Tar,
    Disk,
    Squashfs,
}

/// Opens the source at `path`. Compressed ones are unpacked into a file without a name in `spool`.
///
/// # Errors
/// If it is none of the forms that are known, or damaged. `partition` chooses one of a disk image.
pub fn open(path: &Path, partition: Option<u32>, spool: &Path) -> Result<Source> {
    let opening = || format!("opening {}", path.display());
    let meta = path.metadata().with_context(opening)?;
    if meta.is_dir() {
        ensure!(partition.is_none(), "--partition is for disk images; {} is a folder", path.display());
        let tree = directory::scan(path)?;
        return Ok(Source {
            tree,
            contents: Contents::Folder,
            folder: Some(path.to_owned()),
            what: "folder".into(),
        });
    }
    ensure!(meta.is_file(), "{} is neither a folder nor a file", path.display());
    let mut file = File::open(path).with_context(opening)?;
    let mut what = String::new();
    let mut form = recognise(&beginning(&file).with_context(opening)?);
    if let Some(packed @ (Form::Gzip | Form::Xz | Form::Zstd)) = form {
        file = unpack(&file, packed, meta.len(), spool)
            .with_context(|| format!("unpacking {}", path.display()))?;
        form = recognise(&beginning(&file).with_context(opening)?);
        what = format!(" ({packed:?})").to_lowercase();
    }
    let reading = || format!("reading {}", path.display());
    match form {
        Some(Form::Tar) => {
            ensure!(partition.is_none(), "--partition is for disk images; {} is an archive", path.display());
            let tree = tarball::scan(&file).with_context(reading)?;
            let what = format!("tar archive{what}");
            Ok(Source { tree, contents: Contents::Archive(Arc::new(file)), folder: None, what })
        }
        Some(Form::Disk) => {
            let (system, number) = choose(&file, partition).with_context(reading)?;
            let what = format!("disk image{what}, partition {number}");
            let tree = system.scan().with_context(reading)?;
            Ok(Source { tree, contents: Contents::Ext4(system), folder: None, what })
        }
        Some(Form::Squashfs) => {
            bail!("{} is a squashfs already: --manifest-only makes its manifest", path.display())
        }
        _ => bail!("{} is no folder, no tar archive and no disk image", path.display()),
    }
}

fn beginning(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; BEGINNING];
    let mut filled = 0;
    while let Some(buffer) = bytes.get_mut(filled..).filter(|buffer| !buffer.is_empty()) {
        match file.read_at(buffer, filled as u64)? {
            0 => break,
            length => filled += length,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn recognise(bytes: &[u8]) -> Option<Form> {
    let has = |at: usize, magic: &[u8]| bytes.get(at..at + magic.len()) == Some(magic);
    match () {
        () if has(0, &[0x1f, 0x8b]) => Some(Form::Gzip),
        () if has(0, b"\xfd7zXZ\0") => Some(Form::Xz),
        () if has(0, &[0x28, 0xb5, 0x2f, 0xfd]) => Some(Form::Zstd),
        () if has(0, b"hsqs") => Some(Form::Squashfs),
        () if tarball::is_header(bytes) => Some(Form::Tar),
        () if has(510, &[0x55, 0xaa]) || has(1080, &[0x53, 0xef]) => Some(Form::Disk),
        () => None,
    }
}

/// Unpacks into a file without a name, which is gone when it is closed. Zeros become holes: most of an image is empty.
fn unpack(file: &File, form: Form, length: u64, spool: &Path) -> Result<File> {
    let mut source = file.try_clone()?;
    source.rewind()?;
    let meter = Meter::new("unpacking", length);
    let source = Metered { inner: source, meter: meter.clone() };
    let mut reader: Box<dyn Read> = match form {
        Form::Gzip => Box::new(flate2::read::MultiGzDecoder::new(source)),
        Form::Xz => Box::new(liblzma::read::XzDecoder::new_multi_decoder(source)),
        _ => Box::new(zstd::stream::read::Decoder::new(source)?),
    };
    let mut target =
        tempfile::tempfile_in(spool).with_context(|| format!("making a file in {}", spool.display()))?;
    let mut block = vec![0; 64 << 10];
    let mut at = 0;
    loop {
        let length = reader.read(&mut block).context("it is damaged, or ends early")?;
        let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
        if bytes.iter().any(|byte| *byte != 0) {
            target.seek(SeekFrom::Start(at))?;
            target.write_all(bytes).with_context(|| format!("writing to {}", spool.display()))?;
        }
        at += length as u64;
    }
    target.set_len(at).context("writing what was unpacked")?;
    meter.finish();
    Ok(target)
}

/// The partition that `wanted` names, otherwise the first one with an ext4 file system that holds an OS.
fn choose(file: &File, wanted: Option<u32>) -> Result<(Ext4, u32)> {
    let whole = Partition { number: 0, start: 0, length: file.metadata()?.len() };
    let all = if ext4::is_ext4(file, &whole) { vec![whole] } else { partitions::read(file)? };
    let ext4: Vec<_> = all.iter().filter(|it| ext4::is_ext4(file, it)).copied().collect();
    if let Some(wanted) = wanted {
        let list = all.iter().map(|it| it.number.to_string()).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|it| it.number == wanted);
        let partition =
            *found.with_context(|| format!("there is no partition {wanted}; there are: {list}"))?;
        ensure!(ext4.contains(&partition), "partition {wanted} has no ext4 file system");
        check_length(file, &partition)?;
        return Ok((Ext4::open(file, partition)?, wanted));
    }
    ensure!(!ext4.is_empty(), "none of its {} partitions has an ext4 file system", all.len());
    for partition in &ext4 {
        check_length(file, partition)?;
        let system = Ext4::open(file, *partition)
            .with_context(|| format!("looking at partition {}", partition.number))?;
        if system.has("/etc/os-release") {
            return Ok((system, partition.number));
        }
    }
    let list = ext4.iter().map(|it| it.number.to_string()).collect::<Vec<_>>().join(", ");
    bail!("none of its ext4 partitions ({list}) has an /etc/os-release; choose one with --partition")
}

/// An image that was cut off would otherwise fail somewhere in the middle.
fn check_length(file: &File, partition: &Partition) -> Result<()> {
    let (length, end) = (file.metadata()?.len(), partition.start.saturating_add(partition.length));
    let number = partition.number;
    ensure!(end <= length, "it was cut off: it has {length} bytes, and partition {number} ends at {end}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_by_content() {
        let mut header = tar::Header::new_old();
        header.set_path("etc").unwrap();
        header.set_size(0);
        header.set_cksum();
        assert_eq!(recognise(header.as_bytes()), Some(Form::Tar));
        assert_eq!(recognise(b"hsqs"), Some(Form::Squashfs));
        assert_eq!(recognise(&[0; 2048]), None);
        assert_eq!(recognise(b"\x1f\x8b"), Some(Form::Gzip));
        assert_eq!(recognise(b""), None);
        let mut disk = vec![0; 512];
        disk[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(recognise(&disk), Some(Form::Disk));
    }
}
