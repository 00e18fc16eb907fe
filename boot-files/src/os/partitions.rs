//! The partition table of a disk image: MBR with logical partitions, or GPT.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Images of SD cards have sectors of this many bytes.
const SECTOR: u64 = 512;
/// As many logical partitions as Linux looks for.
const LOGICAL_LIMIT: usize = 60;
/// A GPT has 128 entries; more than this are not looked at.
const GPT_LIMIT: u32 = 1024;

/// A part of a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// As Linux numbers it; 0 is a file system without a partition table.
    pub number: u32,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Reads bytes at a place, as far as there are any.
pub trait Disk {
    /// Fills `buffer` from byte `at`, or fails.
    ///
    /// # Errors
    /// If there are not as many bytes, or they cannot be read.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> std::io::Result<()>;
}

impl Disk for File {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.read_exact_at(buffer, at)
    }
}

impl Disk for [u8] {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        let end = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)).ok_or_else(end)?;
        buffer.copy_from_slice(from.get(..buffer.len()).ok_or_else(end)?);
        Ok(())
    }
}

/// The partitions of `disk`, in the order of their numbers; empty ones are left out.
///
/// # Errors
/// If there is no partition table, or it cannot be read.
pub fn read<D: Disk + ?Sized>(disk: &D) -> Result<Vec<Partition>> {
    let first = sector(disk, 0)?;
    let entries = table(&first).context("there is no partition table in the first sector")?;
    if entries.iter().any(|entry| entry.kind == 0xee) {
        return gpt(disk);
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(entries) {
        match entry.kind {
            0 => {}
            0x05 | 0x0f | 0x85 => logical(disk, u64::from(entry.start), &mut partitions)?,
            _ => partitions.extend(entry.at(number, 0)),
        }
    }
    partitions.sort_by_key(|partition| partition.number);
    Ok(partitions)
}

#[derive(Clone, Copy)]
struct Entry {
    kind: u8,
    start: u32,
    sectors: u32,
}

impl Entry {
    fn at(self, number: u32, base: u64) -> Option<Partition> {
        let start = (base + u64::from(self.start)) * SECTOR;
        let length = u64::from(self.sectors) * SECTOR;
        (length > 0).then_some(Partition { number, start, length })
    }
}

/// The four entries of an MBR or of an extended partition's record.
fn table(sector: &[u8; SECTOR as usize]) -> Option<[Entry; 4]> {
    if sector.get(510..) != Some(&[0x55, 0xaa]) {
        return None;
    }
    let mut entries = [Entry { kind: 0, start: 0, sectors: 0 }; 4];
    for (entry, bytes) in entries.iter_mut().zip(sector.get(446..510)?.chunks_exact(16)) {
        *entry = Entry { kind: *bytes.get(4)?, start: u32_at(bytes, 8)?, sectors: u32_at(bytes, 12)? };
    }
    Some(entries)
}

/// Follows the chain of an extended partition that starts at sector `base`. A chain that leads back ends at the limit.
fn logical<D: Disk + ?Sized>(disk: &D, base: u64, partitions: &mut Vec<Partition>) -> Result<()> {
    let mut record = base;
    for number in (5..).take(LOGICAL_LIMIT) {
        let Some([entry, next, ..]) = table(&sector(disk, record)?) else { return Ok(()) };
        partitions.extend(entry.at(number, record));
        if next.kind == 0 || next.start == 0 {
            return Ok(());
        }
        record = base + u64::from(next.start);
    }
    bail!("the partition table has more than {LOGICAL_LIMIT} logical partitions, or leads in a circle")
}

fn gpt<D: Disk + ?Sized>(disk: &D) -> Result<Vec<Partition>> {
    let header = sector(disk, 1)?;
    let damaged = || "the GPT is damaged";
    if header.get(..8) != Some(b"EFI PART") {
        bail!("the partition table says GPT, and there is none");
    }
    let first = u64_at(&header, 72).with_context(damaged)?;
    let count = u32_at(&header, 80).with_context(damaged)?.min(GPT_LIMIT);
    let size = u64::from(u32_at(&header, 84).with_context(damaged)?);
    if !(128..=4096).contains(&size) {
        bail!("the GPT is damaged: its entries have {size} bytes");
    }
    let mut partitions = Vec::new();
    for index in 0..count {
        let mut entry = [0; 48];
        let at = first.checked_mul(SECTOR).and_then(|at| at.checked_add(u64::from(index) * size));
        disk.read_at(at.with_context(damaged)?, &mut entry).context("reading the GPT")?;
        if entry.get(..16) == Some(&[0; 16]) {
            continue;
        }
        let (start, last) =
            (u64_at(&entry, 32).with_context(damaged)?, u64_at(&entry, 40).with_context(damaged)?);
        let sectors = last.checked_sub(start).and_then(|it| it.checked_add(1)).with_context(damaged)?;
        let (start, length) = (start.checked_mul(SECTOR), sectors.checked_mul(SECTOR));
        let (start, length) = (start.with_context(damaged)?, length.with_context(damaged)?);
        partitions.push(Partition { number: index + 1, start, length });
    }
    Ok(partitions)
}

fn sector<D: Disk + ?Sized>(disk: &D, number: u64) -> Result<[u8; SECTOR as usize]> {
    let mut sector = [0; SECTOR as usize];
    disk.read_at(number * SECTOR, &mut sector).context("reading the partition table")?;
    Ok(sector)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// An image of 16 MiB with the partitions that `script` describes to sfdisk.
    fn sfdisk(script: &str) -> Vec<Partition> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(16 << 20).unwrap();
        let child = Command::new("sfdisk").arg("-q").arg(image.path()).stdin(Stdio::piped()).spawn();
        let mut child = child.expect("sfdisk is in Debian's package fdisk");
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        read(image.as_file()).unwrap()
    }

    fn partition(number: u32, start: u64, sectors: u64) -> Partition {
        Partition { number, start: start * 512, length: sectors * 512 }
    }

    #[test]
    fn sfdisks_tables_are_read() {
        assert_eq!(
            sfdisk("label: dos\nstart=2048, size=4096, type=c\nstart=8192, size=8192, type=83\n"),
            [partition(1, 2048, 4096), partition(2, 8192, 8192)]
        );
        assert_eq!(
            sfdisk("label: gpt\nstart=2048, size=4096\nstart=8192, size=8192\n"),
            [partition(1, 2048, 4096), partition(2, 8192, 8192)]
        );
        let logical = "label: dos\nstart=2048, size=2048, type=c\nstart=4096, size=16384, type=5\n\
                       start=6144, size=2048, type=83\nstart=10240, size=4096, type=83\n";
        assert_eq!(
            sfdisk(logical),
            [partition(1, 2048, 2048), partition(5, 6144, 2048), partition(6, 10240, 4096)]
        );
    }

    #[test]
    fn a_circle_ends() {
        let mut disk = vec![0; 4096];
        let mut entry = |sector: usize, slot: usize, kind: u8, start: u32| {
            let at = sector * 512;
            disk[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
            let at = at + 446 + slot * 16;
            disk[at + 4] = kind;
            disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            disk[at + 12] = 1;
        };
        entry(0, 0, 5, 2);
        entry(2, 0, 0x83, 1);
        entry(2, 1, 5, 1);
        entry(3, 0, 0x83, 1);
        entry(3, 1, 5, 1);
        assert!(read(&disk[..]).unwrap_err().to_string().contains("circle"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            mut disk in proptest::collection::vec(any::<u8>(), 512..4096),
            kind in prop_oneof![Just(0xee), Just(5), any::<u8>()],
            magic in any::<bool>(),
        ) {
            disk[510] = 0x55;
            disk[511] = 0xaa;
            disk[450] = kind;
            if magic && disk.len() >= 1024 {
                disk[512..520].copy_from_slice(b"EFI PART");
            }
            let _ = read(&disk[..]);
        }
    }
}
