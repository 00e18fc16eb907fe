//! What block devices there are: a tree, as the kernel stacks them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{lsblk, probe};
use crate::refusal::refused;
use crate::tool::Tool;

/// Where the kernel tells of its devices.
const SYS: &str = "/sys";

/// All block devices with a medium, but RAM disks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// Those that stand on no other; what stands on them is in their [`Device::children`].
    pub devices: Vec<Device>,
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its file: `/dev/mmcblk0p2`, `/dev/mapper/home`.
    pub path: PathBuf,
    /// The kernel's name for it: `mmcblk0p2`, `dm-0`.
    pub name: String,
    /// Its number: major, minor.
    pub number: (u32, u32),
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Bytes of a logical sector: the smallest that can be read.
    pub logical_sector: u32,
    /// Bytes of a physical sector: the smallest that the disk writes in one piece.
    pub physical_sector: u32,
    /// Its vendor's name for it.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// `usb`, `nvme`, `sata`, `mmc`, `virtio`, …
    pub transport: Option<String>,
    /// The kernel lets nobody write to it.
    pub read_only: bool,
    /// Its medium can be taken out.
    pub removable: bool,
    /// It turns, as far as it says so.
    pub rotational: bool,
    /// The partition table on it.
    pub table: Option<Table>,
    /// What the partition table says of it, if it is a partition.
    pub partition: Option<Partition>,
    /// What is on it.
    pub content: Option<Content>,
    /// Where it is mounted, in this mount namespace, in the order of the mounts.
    pub mounts: Vec<PathBuf>,
    /// It is in use as swap.
    pub swap: bool,
    /// The file or device that a loop device shows.
    pub backing: Option<PathBuf>,
    /// Its partitions, and what else stands on it. A device on several others (RAID) is below each of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Device>,
}

/// What a block device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Kind {
    /// A whole disk.
    Disk,
    /// A partition.
    Partition,
    /// An open LUKS (or plain dm-crypt) device.
    Crypt,
    /// A logical volume of LVM.
    Lvm,
    /// An md array; the word is its level (`raid1`).
    Raid(String),
    /// A loop device.
    Loop,
    /// A CD or DVD.
    Rom,
    /// Something else, by `lsblk`'s word for it.
    Other(String),
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        let word = match kind {
            Kind::Disk => "disk",
            Kind::Partition => "partition",
            Kind::Crypt => "crypt",
            Kind::Lvm => "lvm",
            Kind::Loop => "loop",
            Kind::Rom => "rom",
            Kind::Raid(word) | Kind::Other(word) => return word,
        };
        word.into()
    }
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// `gpt`, `dos`, …
    pub kind: String,
    /// Its identifier.
    pub uuid: Option<String>,
}

/// An entry of a partition table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Counted from 1.
    pub number: u32,
    /// Where it begins: bytes from the disk's first.
    pub start: u64,
    /// `PARTUUID`.
    pub uuid: Option<String>,
    /// GPT's name for it (`PARTLABEL`).
    pub label: Option<String>,
    /// GPT: the type's UUID; dos: `0x83`.
    pub kind: Option<String>,
}

/// What a device holds: a file system, or a member of something larger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Content {
    /// blkid's name: `ext4`, `vfat`, `crypto_LUKS`, `LVM2_member`, `linux_raid_member`, `swap`, …
    pub kind: String,
    /// Its version, where that tells something: `2` of `crypto_LUKS`.
    pub version: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
}

impl Inventory {
    /// Asks the kernel, and looks into each device for signatures, reading alone.
    pub fn read() -> Result<Self> {
        let list =
            Tool::new("lsblk")?.args(lsblk::ARGUMENTS).stdout().context("listing the block devices")?;
        let mut devices = lsblk::parse(&list).context("reading lsblk's list of block devices")?;
        for device in &mut devices {
            device.complete(Path::new(SYS))?;
        }
        Ok(Inventory { devices })
    }

    /// Every device once, those that others stand on first.
    pub fn all(&self) -> Vec<&Device> {
        let mut all: Vec<&Device> = Vec::new();
        for device in self.devices.iter().flat_map(Device::subtree) {
            if !all.iter().any(|known| known.number == device.number) {
                all.push(device);
            }
        }
        all
    }

    /// The device that a person names: a path (links are followed), a kernel's name (`sda1`), or `UUID=`, `LABEL=`,
    /// `PARTUUID=`, `PARTLABEL=` with a value. One that none has, or several, is refused.
    pub fn named(&self, word: &str) -> Result<&Device> {
        if let Some((tag, value)) = word.split_once('=')
            && !word.starts_with('/')
        {
            return self.tagged(tag, value);
        }
        if let Some(device) = self.all().into_iter().find(|device| device.name == word) {
            return Ok(device);
        }
        let path = Path::new(word);
        let Ok(file) = std::fs::metadata(path) else {
            return Err(refused(format!("there is no {word} ({})", self.choice())));
        };
        if !file.file_type().is_block_device() {
            return Err(refused(format!("{word} is no block device ({})", self.choice())));
        }
        let number = (rustix::fs::major(file.rdev()), rustix::fs::minor(file.rdev()));
        self.all()
            .into_iter()
            .find(|device| device.number == number)
            .ok_or_else(|| refused(format!("{word} has no medium, or is a RAM disk")))
    }

    fn tagged(&self, tag: &str, value: &str) -> Result<&Device> {
        let value = value.trim_matches('"');
        let found: Vec<&Device> = self
            .all()
            .into_iter()
            .filter(|device| {
                let content = device.content.as_ref();
                let partition = device.partition.as_ref();
                match tag {
                    "UUID" => same(content.and_then(|content| content.uuid.as_ref()), value),
                    "LABEL" => content.and_then(|content| content.label.as_deref()) == Some(value),
                    "PARTUUID" => same(partition.and_then(|partition| partition.uuid.as_ref()), value),
                    "PARTLABEL" => partition.and_then(|partition| partition.label.as_deref()) == Some(value),
                    _ => false,
                }
            })
            .collect();
        match found.as_slice() {
            [one] => Ok(one),
            [] => Err(refused(format!("no device has {tag}={value} (`rescue disks` shows what there is)"))),
            several => {
                let paths: Vec<String> =
                    several.iter().map(|device| device.path.display().to_string()).collect();
                Err(refused(format!("several devices have {tag}={value}: {}; say which", paths.join(", "))))
            }
        }
    }

    fn choice(&self) -> String {
        let paths: Vec<String> = self.all().iter().map(|device| device.path.display().to_string()).collect();
        if paths.is_empty() { "there are no disks".into() } else { format!("there are: {}", paths.join(" ")) }
    }
}

impl Device {
    /// This one and all below it. What stands on several devices comes several times.
    pub fn subtree(&self) -> Vec<&Device> {
        let mut all = vec![self];
        for child in &self.children {
            all.extend(child.subtree());
        }
        all
    }

    /// Its partitions, as opposed to what else stands on it.
    pub fn partitions(&self) -> impl Iterator<Item = &Device> {
        self.children.iter().filter(|child| child.kind == Kind::Partition)
    }

    /// What stands on it that is no partition: dm, md, …
    pub fn holders(&self) -> impl Iterator<Item = &Device> {
        self.children.iter().filter(|child| child.kind != Kind::Partition)
    }

    /// The content's kind: blkid's word, or nothing.
    pub fn content_kind(&self) -> Option<&str> {
        self.content.as_ref().map(|content| content.kind.as_str())
    }

    /// What lsblk does not tell without udev: signatures by blkid, the rest by `sys` (`/sys`).
    fn complete(&mut self, sys: &Path) -> Result<()> {
        let folder = sys.join("class/block").join(&self.name);
        let line = |path: &str| {
            let text = std::fs::read_to_string(folder.join(path)).ok()?;
            Some(text.trim().to_string()).filter(|text| !text.is_empty())
        };
        if self.kind == Kind::Disk {
            self.model = self.model.take().or_else(|| line("device/name"));
            self.serial = self.serial.take().or_else(|| line("device/serial")).or_else(|| line("serial"));
            if self.name.starts_with("mmcblk") {
                self.transport = self.transport.take().or_else(|| Some("mmc".into()));
            }
        }
        self.backing = line("loop/backing_file").map(PathBuf::from);
        let probed = probe::probe(&self.path)?;
        self.table = probed.table;
        self.content = probed.content;
        self.partition = probed.partition.or(self.partition.take());
        self.children.iter_mut().try_for_each(|child| child.complete(sys))
    }
}

/// UUIDs are the same in either case.
fn same(known: Option<&String>, wanted: &str) -> bool {
    known.is_some_and(|known| known.eq_ignore_ascii_case(wanted))
}
