//! What was on a device whose beginning is lost: file systems keep copies of their first block elsewhere.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::filesystem::FileSystem;

const MIB: u64 = 1 << 20;

/// A copy of a superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// blkid's name of what it belongs to.
    pub kind: &'static str,
    /// Where the copy is: bytes from the device's first.
    pub at: u64,
}

/// A place where a copy may be, and how it is told.
struct Place {
    at: u64,
    magic_at: usize,
    magic: &'static [u8],
    kind: &'static str,
}

/// Looks at the few places where copies are by default. Reads alone; what cannot be read has none.
pub fn find(device: &Path, size: u64) -> Option<Trace> {
    let file = File::open(device).ok()?;
    find_in(&file, size)
}

fn find_in(file: &File, size: u64) -> Option<Trace> {
    ext(file, size).or_else(|| places(size).into_iter().find_map(|place| place.look(file)))
}

impl Place {
    fn look(&self, file: &File) -> Option<Trace> {
        let mut block = [0; 512];
        file.read_exact_at(&mut block, self.at).ok()?;
        let found = block.get(self.magic_at..self.magic_at + self.magic.len()) == Some(self.magic);
        found.then_some(Trace { kind: self.kind, at: self.at })
    }
}

fn places(size: u64) -> Vec<Place> {
    let place = |at, magic_at, magic, kind| Place { at, magic_at, magic, kind };
    // mkfs.xfs makes four allocation groups on a single disk of up to 4 TiB; each begins with a superblock.
    let xfs_group = (size / 4096).div_ceil(4) * 4096;
    let mut places = vec![
        // fs/btrfs/disk-io.h: btrfs_sb_offset, BTRFS_MAGIC.
        place(64 * MIB, 0x40, b"_BHRfS_M".as_slice(), FileSystem::Btrfs.name()),
        place(256 << 30, 0x40, b"_BHRfS_M", FileSystem::Btrfs.name()),
        // include/linux/f2fs_fs.h: the second of two blocks, 1024 bytes in.
        place(4096 + 1024, 0, &[0x10, 0x20, 0xf5, 0xf2], FileSystem::F2fs.name()),
        place(xfs_group, 0, b"XFSB", FileSystem::Xfs.name()),
        // Of exFAT the backup boot region, of FAT32 the backup boot sector: sectors of 512 bytes, then of 4096.
        place(12 * 512, 3, b"EXFAT   ", FileSystem::Exfat.name()),
        place(12 * 4096, 3, b"EXFAT   ", FileSystem::Exfat.name()),
        place(6 * 512, 0x52, b"FAT32   ", FileSystem::Vfat.name()),
        place(6 * 4096, 0x52, b"FAT32   ", FileSystem::Vfat.name()),
    ];
    // LUKS2's on-disk format: the places of the secondary header.
    let headers = (14..=22).map(|shift| place(1 << shift, 0, b"SKUL\xba\xbe", "crypto_LUKS"));
    places.extend(headers);
    places
}

/// The first backup of an ext superblock is in the block group 1; where that begins follows from the block size
/// (fs/ext4/ext4.h, `struct ext4_super_block`).
fn ext(file: &File, size: u64) -> Option<Trace> {
    for (log_block_size, at) in [(2_u32, 32768 * 4096), (0, 8193 * 1024), (1, 16384 * 2048)] {
        let mut block = [0; 1024];
        if at >= size || file.read_exact_at(&mut block, at).is_err() {
            continue;
        }
        let half = |at: usize| block.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes);
        let word = |at: usize| block.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let is_backup = half(56) == Some(0xEF53) && half(90) == Some(1) && word(24) == Some(log_block_size);
        if is_backup {
            return Some(Trace { kind: ext_kind(word(92)?, word(96)?), at });
        }
    }
    None
}

/// As blkid tells them apart: by the feature words.
fn ext_kind(compatible: u32, incompatible: u32) -> &'static str {
    const HAS_JOURNAL: u32 = 0x4;
    /// Those that ext3 has: file type, recover, journal device, meta_bg.
    const EXT3: u32 = 0x2 | 0x4 | 0x8 | 0x10;
    let system = match (compatible & HAS_JOURNAL != 0, incompatible & !EXT3 != 0) {
        (_, true) => FileSystem::Ext4,
        (true, false) => FileSystem::Ext3,
        (false, false) => FileSystem::Ext2,
    };
    system.name()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 200 * MIB;

    /// A file system made by its own program, with its first 4096 bytes gone (64 KiB and 4096 for btrfs).
    fn beheaded(program: &str, package: &str, arguments: &[&str], size: u64, lost: u64) -> Option<Trace> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        let made = Command::new(program).args(arguments).arg(image.path()).output();
        let made = made.unwrap_or_else(|_| panic!("{program} is missing (Debian package: {package})"));
        assert!(made.status.success(), "{program}: {}", String::from_utf8_lossy(&made.stderr));
        image.as_file().write_all_at(&vec![0; usize::try_from(lost).unwrap()], 0).unwrap();
        find(image.path(), size)
    }

    #[test]
    fn each_kind_leaves_a_trace() {
        let found = |trace: Option<Trace>| trace.map(|trace| trace.kind);
        for kind in ["ext2", "ext3", "ext4"] {
            for block in ["1024", "4096"] {
                let arguments = ["-q", "-F", "-t", kind, "-b", block];
                let trace = beheaded("mke2fs", "e2fsprogs", &arguments, SIZE, 4096);
                assert_eq!(found(trace), Some(kind), "{block}");
            }
        }
        let trace = beheaded("mkfs.vfat", "dosfstools", &["-F", "32"], SIZE, 512);
        assert_eq!(found(trace), Some("vfat"));
        assert_eq!(found(beheaded("mkfs.exfat", "exfatprogs", &[], SIZE, 4096)), Some("exfat"));
        assert_eq!(found(beheaded("mkfs.btrfs", "btrfs-progs", &["-q"], SIZE, 69632)), Some("btrfs"));
        assert_eq!(found(beheaded("mkfs.xfs", "xfsprogs", &["-q"], 2 * SIZE, 4096)), Some("xfs"));
        assert_eq!(found(beheaded("mkfs.f2fs", "f2fs-tools", &["-q"], SIZE, 4096)), Some("f2fs"));
    }

    #[test]
    fn zeroes_and_what_is_not_there_have_no_trace() {
        let image = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(find(image.path(), 0), None);
        image.as_file().set_len(SIZE).unwrap();
        assert_eq!(find(image.path(), SIZE), None);
        assert_eq!(find(Path::new("/nowhere"), SIZE), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..9000), size in any::<u64>()) {
            let image = tempfile::tempfile().unwrap();
            image.write_all_at(&bytes, 0).unwrap();
            find_in(&image, size);
        }
    }
}
