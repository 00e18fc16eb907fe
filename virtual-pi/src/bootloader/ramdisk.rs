//! `boot.img`: a FAT file system in memory.

use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use fatfs::{FileSystem, FsOptions};

use super::boot_files::BootFiles;
use super::log::Log;
use super::refusal::{Kind, Refusal};

/// An opened `boot.img`. Names are compared without regard to case, as FAT does.
pub struct Ramdisk<'a> {
    files: FileSystem<Disk<'a>>,
    size: usize,
}

impl std::fmt::Debug for Ramdisk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ramdisk").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<'a> Ramdisk<'a> {
    /// Opens an image: FAT12, FAT16 or FAT32, from the first sector or in the first FAT partition of an MBR.
    ///
    /// # Errors
    /// [`Kind::NotFat`].
    pub fn open(image: &'a [u8]) -> Result<Self, Refusal> {
        let part = file_system(image).ok_or_else(|| {
            let start = "boot.img has neither a FAT file system from its first sector on nor an MBR with a FAT partition";
            Refusal::new(Kind::NotFat, start)
        })?;
        match survive(|| FileSystem::new(Disk::new(part), FsOptions::new())) {
            Ok(files) => Ok(Self { files, size: part.len() }),
            Err(error) => Err(Refusal::new(Kind::NotFat, format!("boot.img's FAT file system: {error}"))),
        }
    }

    /// Reads a file; gives `None` when there is none of this name.
    ///
    /// # Errors
    /// [`Kind::Unreadable`] when the file system is damaged.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
        let content = survive(|| self.content(name.trim_start_matches('/')));
        content
            .map_err(|error| Refusal::new(Kind::Unreadable, format!("reading {name} from boot.img: {error}")))
    }

    fn content(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let root = self.files.root_dir();
        let file = match root.open_file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(_) if root.open_dir(name).is_ok() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        // A file is no larger than what it lies in, whatever its directory entry says.
        file.take(self.size as u64 + 1).read_to_end(&mut content)?;
        if content.len() > self.size {
            Err(io::Error::other("its clusters form a loop"))
        } else {
            Ok(Some(content))
        }
    }
}

impl BootFiles for Ramdisk<'_> {
    fn read(&mut self, name: &str, _: &mut Log) -> Result<Option<Vec<u8>>, Refusal> {
        Ramdisk::read(self, name)
    }

    fn has(&mut self, name: &str, _: &mut Log) -> Result<bool, Refusal> {
        Ok(Ramdisk::read(self, name)?.is_some())
    }

    fn place(&self) -> &'static str {
        "in boot.img"
    }
}

/// Makes an error of a panic: `fatfs` computes with what it finds on the disk, and checked arithmetic stops it there
/// (`damage_is_survived`).
fn survive<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(io::Error::other("it is damaged")))
}

/// The part of an image that is the file system.
fn file_system(image: &[u8]) -> Option<&[u8]> {
    let boot_sector = image.get(..512)?;
    let bytes_per_sector = u16::from_le_bytes(*boot_sector.get(11..)?.first_chunk()?);
    let jumps = matches!(boot_sector.first(), Some(0xeb | 0xe9));
    if jumps && matches!(bytes_per_sector, 512 | 1024 | 2048 | 4096) {
        return Some(image);
    }
    if boot_sector.get(510..) != Some(&[0x55, 0xaa]) {
        return None;
    }
    let (entries, _) = boot_sector.get(446..510)?.as_chunks::<16>();
    let fat = entries.iter().find(|entry| matches!(entry[4], 0x01 | 0x04 | 0x06 | 0x0b | 0x0c | 0x0e))?;
    let sector = |at: usize| fat.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b) as usize);
    let start = sector(8)?.checked_mul(512)?;
    let end = start.checked_add(sector(12)?.checked_mul(512)?)?;
    image.get(start..end)
}

/// The image as `fatfs` wants it: never written, and read no more often than an honest file system needs, since a loop
/// in a directory's clusters would be followed for ever.
struct Disk<'a> {
    image: Cursor<&'a [u8]>,
    budget: u64,
}

impl<'a> Disk<'a> {
    fn new(image: &'a [u8]) -> Self {
        Self { image: Cursor::new(image), budget: image.len() as u64 * 32 + (64 << 20) }
    }
}

impl Read for Disk<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.image.read(buffer)?;
        match self.budget.checked_sub(count as u64 + 1) {
            Some(left) => self.budget = left,
            None => return Err(io::Error::other("its clusters form a loop")),
        }
        Ok(count)
    }
}

impl Seek for Disk<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.image.seek(to)
    }
}

impl Write for Disk<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fatfs::{FatType, FormatVolumeOptions, format_volume};
    use proptest::prelude::*;

    use super::*;

    fn image(kind: FatType, size: usize) -> Vec<u8> {
        let mut disk = Cursor::new(vec![0; size]);
        format_volume(&mut disk, FormatVolumeOptions::new().fat_type(kind).bytes_per_cluster(512)).unwrap();
        {
            let files = FileSystem::new(&mut disk, FsOptions::new()).unwrap();
            files.root_dir().create_file("config.txt").unwrap().write_all(b"arm_64bit=1\n").unwrap();
            files
                .root_dir()
                .create_dir("overlays")
                .unwrap()
                .create_file("a long name.dtbo")
                .unwrap()
                .write_all(&[7; 5000])
                .unwrap();
        }
        disk.into_inner()
    }

    #[test]
    fn all_sizes_of_fat() {
        for (kind, size) in [(FatType::Fat12, 1 << 20), (FatType::Fat16, 8 << 20), (FatType::Fat32, 40 << 20)]
        {
            let image = image(kind, size);
            let disk = Ramdisk::open(&image).unwrap();
            assert_eq!(disk.read("CONFIG.TXT").unwrap().unwrap(), b"arm_64bit=1\n", "{kind:?}");
            assert_eq!(disk.read("/overlays/A Long Name.dtbo").unwrap().unwrap(), [7; 5000]);
            assert_eq!(disk.read("cmdline.txt").unwrap(), None);
            assert_eq!(disk.read("overlays").unwrap(), None);
        }
    }

    #[test]
    fn in_a_partition() {
        let fat = image(FatType::Fat16, 8 << 20);
        let mut disk = vec![0; 2048 * 512];
        disk[446 + 4] = 0x0c;
        disk[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
        disk[446 + 12..446 + 16].copy_from_slice(&u32::try_from(fat.len() / 512).unwrap().to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk.extend_from_slice(&fat);
        assert!(Ramdisk::open(&disk).unwrap().read("config.txt").unwrap().is_some());
        disk.truncate(disk.len() - 1);
        assert_eq!(Ramdisk::open(&disk).unwrap_err().kind, Kind::NotFat);
    }

    #[test]
    fn what_is_no_fat() {
        for image in [&[][..], &[0; 511], &[0; 4096], &[0xeb; 4096]] {
            assert_eq!(Ramdisk::open(image).unwrap_err().kind, Kind::NotFat);
        }
    }

    proptest! {
        /// Neither a panic nor an endless loop, whatever a few wrong bytes make of the tables.
        #[test]
        fn damage_is_survived(damage in prop::collection::vec((0usize..20_000, any::<u8>()), 1..20)) {
            let mut image = image(FatType::Fat12, 64 << 10);
            for (at, byte) in damage {
                image[at] = byte;
            }
            if let Ok(disk) = Ramdisk::open(&image) {
                let _either = (disk.read("config.txt"), disk.read("overlays/a long name.dtbo"), disk.read("none"));
            }
        }
    }
}
