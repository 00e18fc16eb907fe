//! The machine's disks, from `/sys/block`: what could be repaired or written.

use std::path::Path;

use serde::Serialize;

/// A sector of `/sys/block/*/size`, whatever the disk's own sectors are.
const SECTOR: u64 = 512;
/// Devices that are no disks: RAM, loops, and the boot areas of an eMMC.
const NO_DISKS: [&str; 3] = ["loop", "ram", "zram"];

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Its name below `/dev`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Its vendor's name for it, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its partitions, in their order.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its name below `/dev`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    #[serde(skip)]
    number: u32,
}

/// The disks below `sys` (`/sys`) that have a medium, by name.
pub fn disks(sys: &Path) -> Vec<Disk> {
    let mut disks: Vec<Disk> = names(&sys.join("block"))
        .into_iter()
        .filter(|name| !NO_DISKS.iter().any(|start| name.starts_with(start)) && !is_boot_area(name))
        .filter_map(|name| disk(&sys.join("block").join(&name), name))
        .collect();
    disks.sort_by(|one, other| one.name.cmp(&other.name));
    disks
}

fn is_boot_area(name: &str) -> bool {
    name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"))
}

fn disk(folder: &Path, name: String) -> Option<Disk> {
    let size = number(&folder.join("size"))?.checked_mul(SECTOR).filter(|size| *size > 0)?;
    // An SD card or eMMC has a name and no model.
    let model = line(&folder.join("device/model")).or_else(|| line(&folder.join("device/name")));
    let mut partitions: Vec<Partition> = names(folder)
        .into_iter()
        .filter_map(|name| {
            let number = u32::try_from(self::number(&folder.join(&name).join("partition"))?).ok()?;
            let size = self::number(&folder.join(&name).join("size"))?.checked_mul(SECTOR)?;
            Some(Partition { name, size, number })
        })
        .collect();
    partitions.sort_by_key(|partition| partition.number);
    Some(Disk { name, size, model, partitions })
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_string()).filter(|text| !text.is_empty())
}

fn number(path: &Path) -> Option<u64> {
    line(path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn disks_with_partitions_and_no_others() {
        let sys = tempfile::tempdir().unwrap();
        write(sys.path(), "block/mmcblk0/size", "62333952\n");
        write(sys.path(), "block/mmcblk0/device/name", "SD32G\n");
        for partition in [1, 2, 10] {
            write(
                sys.path(),
                &format!("block/mmcblk0/mmcblk0p{partition}/partition"),
                &partition.to_string(),
            );
            write(sys.path(), &format!("block/mmcblk0/mmcblk0p{partition}/size"), "2048\n");
        }
        write(sys.path(), "block/sda/size", "1953525168\n");
        write(sys.path(), "block/sda/device/model", "Samsung SSD\n");
        for other in ["loop0", "ram0", "zram0", "mmcblk0boot0", "mmcblk0rpmb"] {
            write(sys.path(), &format!("block/{other}/size"), "2048\n");
        }
        write(sys.path(), "block/sdb/size", "0\n");
        let disks = disks(sys.path());
        let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["mmcblk0", "sda"]);
        assert_eq!(disks[0].size, 62_333_952 * 512);
        assert_eq!(disks[0].model.as_deref(), Some("SD32G"));
        let partitions: Vec<&str> =
            disks[0].partitions.iter().map(|partition| partition.name.as_str()).collect();
        assert_eq!(partitions, ["mmcblk0p1", "mmcblk0p2", "mmcblk0p10"]);
    }
}
