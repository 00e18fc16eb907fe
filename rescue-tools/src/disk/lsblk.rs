//! What `lsblk --json` says, as checked types.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::inventory::{Device, Kind, Partition};

/// Columns that do not need udev; the rest is blkid's and `/sys`'s.
pub const ARGUMENTS: [&str; 4] = [
    "--json",
    "--bytes",
    "--output",
    "NAME,KNAME,PATH,MAJ:MIN,TYPE,SIZE,RO,RM,ROTA,TRAN,MODEL,SERIAL,LOG-SEC,PHY-SEC,START,MOUNTPOINTS",
];
/// lsblk's word for swap in use, where a mount point would stand.
const SWAP: &str = "[SWAP]";
/// A sector of START, whatever the disk's own sectors are.
const SECTOR: u64 = 512;
/// Devices are stacked no deeper (serde_json itself ends at 128 nested values).
const DEPTH: usize = 32;

#[derive(Deserialize)]
struct List {
    blockdevices: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    kname: String,
    path: PathBuf,
    #[serde(rename = "maj:min")]
    number: String,
    #[serde(rename = "type")]
    kind: String,
    size: u64,
    ro: bool,
    rm: bool,
    rota: bool,
    tran: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    #[serde(rename = "log-sec")]
    logical_sector: u32,
    #[serde(rename = "phy-sec")]
    physical_sector: u32,
    start: Option<u64>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Entry>,
}

/// The devices of `lsblk` with [`ARGUMENTS`], as a tree; none without a medium.
pub fn parse(json: &[u8]) -> Result<Vec<Device>> {
    if json.trim_ascii().is_empty() {
        // What some versions print when there is no device at all.
        return Ok(Vec::new());
    }
    let list: List = serde_json::from_slice(json).context("parsing JSON")?;
    devices(list.blockdevices, DEPTH)
}

fn devices(entries: Vec<Entry>, depth: usize) -> Result<Vec<Device>> {
    if depth == 0 && !entries.is_empty() {
        bail!("more than {DEPTH} devices stand on each other");
    }
    let with_medium = entries.into_iter().filter(|entry| entry.size > 0 && !entry.kname.starts_with("ram"));
    with_medium.map(|entry| device(entry, depth)).collect()
}

fn device(entry: Entry, depth: usize) -> Result<Device> {
    let text =
        |text: Option<String>| text.map(|text| text.trim().to_string()).filter(|text| !text.is_empty());
    let swap = entry.mountpoints.iter().flatten().any(|at| at == SWAP);
    // lsblk has the newest first; ours are in the order in which they were made.
    let mounts = entry.mountpoints.into_iter().flatten().filter(|at| at != SWAP).map(PathBuf::from).rev();
    let mounts = mounts.collect();
    let kind = kind(entry.kind);
    // blkid says more; this much is known of a partition in a table that blkid does not know.
    let partition = (kind == Kind::Partition).then(|| Partition {
        number: trailing_number(&entry.kname),
        start: entry.start.unwrap_or_default().saturating_mul(SECTOR),
        uuid: None,
        label: None,
        kind: None,
    });
    Ok(Device {
        number: number(&entry.number).with_context(|| format!("reading the number of {}", entry.kname))?,
        path: entry.path,
        name: entry.kname,
        kind,
        size: entry.size,
        logical_sector: entry.logical_sector,
        physical_sector: entry.physical_sector,
        model: text(entry.model),
        serial: text(entry.serial),
        transport: text(entry.tran),
        read_only: entry.ro,
        removable: entry.rm,
        rotational: entry.rota,
        table: None,
        partition,
        content: None,
        mounts,
        swap,
        backing: None,
        children: devices(entry.children, depth - 1)?,
    })
}

fn kind(word: String) -> Kind {
    match word.as_str() {
        "disk" => Kind::Disk,
        "part" => Kind::Partition,
        "crypt" => Kind::Crypt,
        "lvm" => Kind::Lvm,
        "loop" => Kind::Loop,
        "rom" => Kind::Rom,
        level if level.starts_with("raid") || level == "linear" || level == "md" => Kind::Raid(word),
        _ => Kind::Other(word),
    }
}

fn number(text: &str) -> Result<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':').context("it is not MAJOR:MINOR")?;
    Ok((major.parse()?, minor.parse()?))
}

/// `12` of `mmcblk0p12`.
fn trailing_number(name: &str) -> u32 {
    let digits = name.rfind(|character: char| !character.is_ascii_digit()).map_or(0, |at| at + 1);
    name.get(digits..).and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of util-linux 2.41 on a Pi with LUKS, LVM, RAID 1, a loop device over a partition, swap, and a mount point with a
    /// blank in its name.
    pub(crate) const STACKED: &[u8] = include_bytes!("fixtures/lsblk-stacked.json");

    #[test]
    fn a_real_list_becomes_a_tree() {
        let devices = parse(STACKED).unwrap();
        let find = |name: &str| {
            devices.iter().flat_map(Device::subtree).find(|device| device.name == name).unwrap().clone()
        };
        let disk = find("vda");
        assert_eq!((disk.kind.clone(), disk.size, disk.number), (Kind::Disk, 400 << 20, (254, 0)));
        assert_eq!((disk.logical_sector, disk.transport.as_deref()), (512, Some("virtio")));
        assert_eq!(disk.partitions().count(), 3);
        assert_eq!(find("vda2").partition.unwrap().start, 133_120 * 512);
        assert_eq!(find("vda2").partition.unwrap().number, 2);
        assert!(find("vda3").swap && find("vda3").mounts.is_empty());
        assert_eq!(find("vdg").mounts, [PathBuf::from("/mnt/a b"), PathBuf::from("/mnt/r")]);
        assert_eq!(find("dm-0").kind, Kind::Crypt);
        assert_eq!(find("dm-0").path, PathBuf::from("/dev/mapper/home"));
        assert_eq!(find("vdb").holders().count(), 1);
        assert_eq!(find("dm-1").kind, Kind::Lvm);
        assert_eq!(find("md0").kind, Kind::Raid("raid1".into()));
        assert!(find("vdd").holders().count() == 1 && find("vde").holders().count() == 1);
    }

    #[test]
    fn no_device_at_all_is_no_error() {
        assert_eq!(parse(b"\n").unwrap(), []);
        assert_eq!(parse(br#"{"blockdevices": []}"#).unwrap(), []);
        assert!(parse(b"lsblk: what").is_err());
    }

    #[test]
    fn names_end_in_numbers_or_not() {
        assert_eq!(["sda1", "mmcblk0p12", "nvme0n1p3", "sda"].map(trailing_number), [1, 12, 3, 0]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        /// Real output with some bytes changed: a list or an error.
        #[test]
        fn no_broken_list_makes_it_panic(at in 0..STACKED.len(), byte in any::<u8>(), end in 0..STACKED.len()) {
            let mut bytes = STACKED.to_vec();
            bytes[at] = byte;
            let _ = parse(&bytes);
            let _ = parse(&bytes[..end]);
        }

        #[test]
        fn any_numbers_are_kept(size in 1_u64.., major in any::<u32>(), minor in any::<u32>(), start in any::<u64>()) {
            let json = format!(
                r#"{{"blockdevices":[{{"kname":"sda1","path":"/dev/sda1","maj:min":"{major}:{minor}","type":"part",
                "size":{size},"ro":false,"rm":true,"rota":false,"tran":null,"model":" M ","serial":" ","log-sec":512,
                "phy-sec":4096,"start":{start},"mountpoints":[null]}}]}}"#
            );
            let devices = parse(json.as_bytes()).unwrap();
            prop_assert_eq!((devices[0].size, devices[0].number), (size, (major, minor)));
            prop_assert_eq!((devices[0].model.as_deref(), &devices[0].serial), (Some("M"), &None));
        }
    }
}
