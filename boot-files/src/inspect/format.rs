//! What an image is, by its first bytes.

/// How many bytes [`Format::of`] wants to see.
pub const START: u64 = 1024;

/// The formats known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// FAT12, 16 or 32 without a partition table.
    Fat,
    /// squashfs 4.
    Squashfs,
    /// cpio, newc or crc.
    Cpio,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// xz.
    Xz,
}

impl Format {
    /// Recognises a format.
    pub fn of(start: &[u8]) -> Option<Format> {
        let magics: [(&[u8], Format); 6] = [
            (b"hsqs", Format::Squashfs),
            (b"070701", Format::Cpio),
            (b"070702", Format::Cpio),
            (b"\x1f\x8b\x08", Format::Gzip),
            (b"\x28\xb5\x2f\xfd", Format::Zstd),
            (b"\xfd7zXZ\0", Format::Xz),
        ];
        let magic = magics.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, format)| *format);
        magic.or_else(|| is_fat(start).then_some(Format::Fat))
    }
}

/// A boot sector with a jump, a power of two as sector size and the signature at its end.
fn is_fat(start: &[u8]) -> bool {
    let jump = matches!(start.first(), Some(0xeb | 0xe9));
    let sector = start.get(11..13) == Some(&[0, 2]) || start.get(11..13) == Some(&[0, 16]);
    let fats = matches!(start.get(16), Some(1 | 2));
    jump && sector && fats && start.get(510..512) == Some(&[0x55, 0xaa])
}
