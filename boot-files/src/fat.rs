//! `boot.img`: a FAT file system without partition table, laid out as Raspberry Pi's own maker does: sectors of
//! 512 bytes, one to a cluster, one FAT, 256 root entries, label BOOT, a little room left.

use crate::boot_file::BootFile;
use anyhow::{Context, Result, ensure};
use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider, format_volume,
};
use std::collections::BTreeSet;
use std::io::{Cursor, Write};

/// Bytes per sector, and per cluster.
const SECTOR: u64 = 512;
/// Room left: a full file system did not boot before 2024-01 (bytes).
const SLACK: u64 = 16 << 10;
/// With fewer clusters than this it is FAT12, with at least [`FAT32_CLUSTERS`] FAT32.
const FAT16_CLUSTERS: u64 = 4085;
const FAT32_CLUSTERS: u64 = 65_525;
/// Implementations count differently at the limits: keep this far away.
const MARGIN: u64 = 32;
const LABEL: [u8; 11] = *b"BOOT       ";

/// The image with these files. `time`, in Unix seconds, becomes the volume's serial number; files have FAT's first date.
///
/// # Errors
/// If two files have one name, or the file system cannot be made.
pub fn image(files: &[BootFile], time: u64) -> Result<Vec<u8>> {
    let (fat_type, sectors) = size(files);
    let bytes = usize::try_from(sectors * SECTOR).context("boot.img is too large")?;
    let mut disk = Cursor::new(vec![0; bytes]);
    let options = FormatVolumeOptions::new()
        .bytes_per_sector(512)
        .bytes_per_cluster(512)
        .total_sectors(u32::try_from(sectors).context("boot.img is too large")?)
        .fats(1)
        .max_root_dir_entries(256)
        .fat_type(fat_type)
        .volume_id(u32::try_from(time & u64::from(u32::MAX))?)
        .volume_label(LABEL);
    format_volume(&mut disk, options).context("making the file system of boot.img")?;
    make_folders(&mut disk, files)?;
    let volume = open(&mut disk)?;
    // Counts the free clusters, which the file system's header is to have.
    volume.stats().context("reading the file system of boot.img")?;
    for file in files {
        let context = || format!("writing {} into boot.img", file.name);
        ensure!(
            volume.root_dir().open_file(&file.name).is_err(),
            "boot.img: two files are called {}",
            file.name
        );
        let mut target = volume.root_dir().create_file(&file.name).with_context(context)?;
        target.write_all(&file.data).with_context(context)?;
        target.flush().with_context(context)?;
    }
    volume.unmount().context("closing the file system of boot.img")?;
    Ok(disk.into_inner())
}

fn open(disk: &mut Cursor<Vec<u8>>) -> Result<FileSystem<&mut Cursor<Vec<u8>>>> {
    disk.set_position(0);
    let options = FsOptions::new().time_provider(&FirstDay);
    FileSystem::new(disk, options).context("opening the file system of boot.img")
}

/// Makes the folders while nothing else is in the image. fatfs 0.3 gives their entries `.` and `..` long names, and `..`
/// the root's cluster, where FAT wants neither (held by `fsck_and_mtools_agree`): each folder's first sector is put right.
fn make_folders(disk: &mut Cursor<Vec<u8>>, files: &[BootFile]) -> Result<()> {
    let volume = open(disk)?;
    for folder in folders(files) {
        volume.root_dir().create_dir(folder).with_context(|| format!("making {folder} in boot.img"))?;
    }
    volume.unmount().context("closing the file system of boot.img")?;
    for sector in disk.get_mut().chunks_exact_mut(512) {
        let entry = |number: usize| sector.get(number * 32..(number + 1) * 32).map(<[u8]>::to_vec);
        let (Some(dot), Some(mut dot_dot)) = (entry(1), entry(3)) else { continue };
        if dot.starts_with(b".          ") && dot_dot.starts_with(b"..         ") {
            for half_of_cluster in [20..22, 26..28] {
                if let Some(bytes) = dot_dot.get_mut(half_of_cluster) {
                    bytes.fill(0);
                }
            }
            let entries = [dot, dot_dot].concat();
            sector.fill(0);
            if let Some(start) = sector.get_mut(..entries.len()) {
                start.copy_from_slice(&entries);
            }
        }
    }
    Ok(())
}

/// The clock of the files: it stands still.
#[derive(Debug)]
struct FirstDay;

impl TimeProvider for FirstDay {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

fn folders(files: &[BootFile]) -> BTreeSet<&str> {
    files.iter().filter_map(|file| file.name.rsplit_once('/').map(|(folder, _)| folder)).collect()
}

/// Type and sectors of a file system that holds these files and [`SLACK`].
fn size(files: &[BootFile]) -> (FatType, u64) {
    let clusters = |bytes: u64| bytes.div_ceil(SECTOR);
    // A long name takes entries of 13 characters, and every folder one cluster at least.
    let entries: u64 = files.iter().map(|file| 2 + file.name.len() as u64 / 13 + 1).sum();
    let directories = clusters(entries * 32) + 2 * folders(files).len() as u64 + 1;
    let data: u64 = files.iter().map(|file| clusters(file.data.len() as u64)).sum();
    let mut needed = data + directories + clusters(SLACK);
    if needed < FAT16_CLUSTERS + MARGIN {
        needed = FAT16_CLUSTERS + MARGIN;
    }
    if needed < FAT32_CLUSTERS - MARGIN {
        let root = 256 * 32 / SECTOR;
        return (FatType::Fat16, 1 + clusters((needed + 2) * 2) + root + needed);
    }
    needed = needed.max(FAT32_CLUSTERS + MARGIN);
    (FatType::Fat32, 32 + clusters((needed + 2) * 4) + needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::Command;

    fn files(large: usize) -> Vec<BootFile> {
        vec![
            BootFile::own("config.txt", "arm_64bit=1\n"),
            BootFile::own("bcm2711-rpi-4-b.dtb", vec![1; 39_650]),
            BootFile::own("kernel8.img", vec![7; large]),
            BootFile::own("overlays/README", "x"),
            BootFile::own("overlays/dwc2.dtbo", vec![2; 801]),
        ]
    }

    /// Of every size, around the limits between FAT16 and FAT32 too: whole for fsck.vfat, and with mtools as put in.
    #[test]
    fn fsck_and_mtools_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot.img");
        for large in
            [0, 1 << 20, 33_400_000, 33_440_000, 33_470_000, 33_480_000, 33_500_000, 33_550_000, 60 << 20]
        {
            let image = image(&files(large), 1_700_000_000).unwrap();
            std::fs::write(&path, &image).unwrap();
            let fsck =
                Command::new("fsck.vfat").arg("-n").arg(&path).output().expect("Debian package dosfstools");
            assert!(fsck.status.success(), "{large}: {}", String::from_utf8_lossy(&fsck.stdout));
            let copied = folder.path().join("copy");
            let status = Command::new("mcopy")
                .args(["-n", "-o", "-i"])
                .arg(&path)
                .arg("::kernel8.img")
                .arg(&copied)
                .status()
                .expect("Debian package mtools");
            assert!(status.success());
            assert!(std::fs::read(&copied).unwrap() == vec![7; large]);
        }
    }

    #[test]
    fn room_is_left_and_nothing_depends_on_the_time_of_day() {
        let image = image(&files(5 << 20), 1_700_000_000).unwrap();
        assert!(image == super::image(&files(5 << 20), 1_700_000_000).unwrap());
        let volume = FileSystem::new(Cursor::new(image), FsOptions::new()).unwrap();
        let free = u64::from(volume.stats().unwrap().free_clusters()) * SECTOR;
        assert!((SLACK..SLACK + (64 << 10)).contains(&free), "{free}");
        let mut text = String::new();
        volume.root_dir().open_file("overlays/README").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let twice = [BootFile::own("a.txt", "1"), BootFile::own("A.TXT", "2")];
        assert!(super::image(&twice, 0).unwrap_err().to_string().contains("A.TXT"));
    }
}
