//! How large a disk an image is of, by its partition table: known as soon as its first sectors are.

/// What the table says, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// `GPT` or `MBR`.
    pub kind: &'static str,
    /// Bytes from the disk's first to the end of what the table covers.
    pub bytes: u64,
}

/// Reads the partition table in an image's first bytes. None: there is none that makes sense.
pub fn extent(start: &[u8]) -> Option<Extent> {
    let entries = mbr(start)?;
    if entries.iter().any(|entry| entry.kind == 0xee) {
        return gpt(start);
    }
    let end = entries.iter().map(|entry| u64::from(entry.first) + u64::from(entry.count)).max()?;
    Some(Extent { kind: "MBR", bytes: end * 512 })
}

struct Entry {
    kind: u8,
    first: u32,
    count: u32,
}

/// The entries in use. A boot sector of a FAT has the same end mark, and code or text where a table would be.
fn mbr(start: &[u8]) -> Option<Vec<Entry>> {
    let number = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    if start.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let mut entries = Vec::new();
    for entry in start.get(446..510)?.chunks_exact(16) {
        let (state, kind) = (*entry.first()?, *entry.get(4)?);
        let (first, count) = (number(entry, 8)?, number(entry, 12)?);
        if state & 0x7f != 0 {
            return None;
        }
        match (kind, first, count) {
            (0, _, _) => {}
            (_, 0, _) | (_, _, 0) => return None,
            _ => entries.push(Entry { kind, first, count }),
        }
    }
    (!entries.is_empty()).then_some(entries)
}

/// The header's "alternate LBA" is the disk's last sector.
fn gpt(start: &[u8]) -> Option<Extent> {
    [512_usize, 4096].into_iter().find_map(|sector| {
        let header = start.get(sector..sector + 92)?;
        if !header.starts_with(b"EFI PART") {
            return None;
        }
        let backup = u64::from_le_bytes(header.get(32..40)?.try_into().ok()?);
        let bytes = backup.checked_add(1)?.checked_mul(sector as u64)?;
        Some(Extent { kind: "GPT", bytes })
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    /// A disk of 64 MiB, partitioned by `sfdisk`; its first MiB.
    fn partitioned(script: &str) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        let mut sfdisk = Command::new("sfdisk")
            .arg("--quiet")
            .arg(file.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("sfdisk (Debian package: fdisk)");
        sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        let mut bytes = std::fs::read(file.path()).unwrap();
        bytes.truncate(1 << 20);
        bytes
    }

    #[test]
    fn tables_tell_how_large_the_disk_is() {
        let gpt = partitioned("label: gpt\nsize=16MiB\nsize=8MiB\n");
        assert_eq!(extent(&gpt), Some(Extent { kind: "GPT", bytes: 64 << 20 }));
        let mbr = partitioned("label: dos\nstart=8MiB, size=16MiB, type=c\nstart=32MiB, size=8MiB\n");
        assert_eq!(extent(&mbr), Some(Extent { kind: "MBR", bytes: 40 << 20 }));
        assert_eq!(extent(&partitioned("label: dos\n")), None);
    }

    #[test]
    fn a_bare_fat_has_no_table() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        let made = Command::new("mkfs.vfat").arg(file.path()).stdout(Stdio::null()).status();
        assert!(made.expect("mkfs.vfat (Debian package: dosfstools)").success());
        assert_eq!(extent(&std::fs::read(file.path()).unwrap()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(mut bytes in prop::collection::vec(any::<u8>(), 0..5000), signed: bool, gpt: bool) {
            if signed && bytes.len() > 512 {
                bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
                for entry in 0..4 { bytes[446 + entry * 16] &= 0x80; }
            }
            if gpt && bytes.len() > 1000 {
                bytes[450] = 0xee;
                bytes[512..520].copy_from_slice(b"EFI PART");
            }
            let _ = extent(&bytes);
        }
    }
}
