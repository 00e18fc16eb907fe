//! `--grow`: the last partition takes the rest of the disk, and its file system the whole partition.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use init::size::human;
use serde::{Deserialize, Serialize};

use crate::disk::probe;
use crate::tool::Tool;

/// What grew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grown {
    /// The partition.
    pub device: PathBuf,
    /// Bytes of the partition now.
    pub size: u64,
    /// What its file system is, if it grew too.
    pub file_system: Option<String>,
    /// What is left to do, in words.
    pub left: Option<String>,
}

/// `sfdisk --json`, as far as it matters.
#[derive(Debug, Deserialize)]
struct Dump {
    partitiontable: Table,
}

#[derive(Debug, Deserialize)]
struct Table {
    label: String,
    #[serde(default = "sector")]
    sectorsize: u64,
    #[serde(default)]
    partitions: Vec<Partition>,
}

fn sector() -> u64 {
    512
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Partition {
    node: PathBuf,
    start: u64,
    size: u64,
    #[serde(rename = "type")]
    kind: String,
}

/// Grows the last partition of `disk`, which nobody uses, and its file system.
///
/// # Errors
/// Where the table or the file system cannot grow. The data on it is as it was.
pub fn last_partition(disk: &Path) -> Result<Grown> {
    let table = dump(disk)?;
    if table.label == "gpt" {
        // Its copy belongs to the disk's end, and no partition may lie behind it.
        let moved =
            Tool::new("sfdisk")?.args(["--no-reread", "--relocate", "gpt-bak-std"]).arg(disk).stdout();
        moved.context("moving the GPT's copy to the end of the disk")?;
    }
    let last = last(&table)?;
    let number = number(&last.node)?;
    let words = ["--no-reread", "--no-tell-kernel", "--quiet", "-N"];
    let mut sfdisk = Tool::new("sfdisk")?.args(words).arg(number.to_string()).arg(disk);
    sfdisk = sfdisk.args(["--wipe", "never"]);
    let output = sfdisk.output_with_input(b", +\n")?;
    ensure!(
        output.status.success(),
        "growing {} in the partition table: sfdisk says {}",
        last.node.display(),
        output.last_line()
    );
    let table = dump(disk)?;
    let size = self::last(&table)?.size * table.sectorsize;
    let read = Tool::new("partx")?.arg("--update").arg(disk).stdout();
    read.context("telling the kernel of the larger partition")?;
    let mut grown = file_system(&last.node)?;
    grown.size = size;
    Ok(grown)
}

/// Grows what is on `device`, which nobody uses.
///
/// # Errors
/// Where the program that grows it fails.
pub fn file_system(device: &Path) -> Result<Grown> {
    let content = probe::probe(device)?.content;
    let kind = content.as_ref().map(|content| content.kind.as_str());
    let path = device.display();
    let left = match kind {
        Some("ext2" | "ext3" | "ext4") => {
            ext(device)?;
            None
        }
        Some("btrfs") => {
            mounted(device, "btrfs", |at| {
                Tool::new("btrfs")?.args(["filesystem", "resize", "max"]).arg(at).stdout()
            })?;
            None
        }
        Some("xfs") => {
            mounted(device, "xfs", |at| Tool::new("xfs_growfs")?.arg(at).stdout())?;
            None
        }
        Some("crypto_LUKS") => Some(format!(
            "the LUKS on {path} takes the room when it is opened; then grow what is in it (resize2fs and its like)"
        )),
        Some("LVM2_member") => Some(format!("lvm pvresize {path}, then lvm lvextend --resizefs")),
        Some(other) => Some(format!("the {other} on {path} has its old size: nothing here grows it")),
        None => Some(format!("{path} has no file system that is known")),
    };
    let file_system = kind.filter(|_| left.is_none()).map(String::from);
    Ok(Grown { device: device.into(), size: 0, file_system, left })
}

fn dump(disk: &Path) -> Result<Table> {
    let json =
        Tool::new("sfdisk")?.arg("--json").arg(disk).stdout().context("reading the partition table")?;
    let dump: Dump = serde_json::from_slice(&json).context("reading sfdisk's description of the table")?;
    Ok(dump.partitiontable)
}

/// The one that reaches furthest.
fn last(table: &Table) -> Result<Partition> {
    let last = table.partitions.iter().max_by_key(|partition| partition.start.saturating_add(partition.size));
    let last = last.ok_or_else(|| anyhow!("there is no partition that could grow"))?;
    let extended = |kind: &str| ["5", "f", "85"].contains(&kind);
    if table.label == "dos" && (extended(&last.kind) || number(&last.node)? > 4) {
        bail!("the last partition, {}, is a logical one: grow it with parted", last.node.display());
    }
    Ok(last.clone())
}

/// The number at the end of a partition's name.
fn number(node: &Path) -> Result<u32> {
    let name = node.to_string_lossy();
    let digits = name.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().with_context(|| format!("{name} is no name of a partition"))
}

/// resize2fs works on what was checked just before, and on nothing else.
fn ext(device: &Path) -> Result<()> {
    let path = device.display();
    let checked = Tool::new("e2fsck")?.args(["-f", "-y"]).arg(device).output()?;
    // 1: errors were corrected (e2fsck(8)).
    ensure!(
        matches!(checked.status.code(), Some(0 | 1)),
        "checking {path} before it grows: e2fsck says {}",
        checked.last_line()
    );
    Tool::new("resize2fs")?
        .arg(device)
        .stdout()
        .with_context(|| format!("growing the file system on {path}"))?;
    Ok(())
}

/// Some file systems grow only while they are mounted.
fn mounted(device: &Path, kind: &str, work: impl FnOnce(&Path) -> Result<Vec<u8>>) -> Result<()> {
    let path = device.display();
    let at = std::env::temp_dir().join(format!("rescue-grow.{}", std::process::id()));
    std::fs::create_dir(&at).with_context(|| format!("making the folder {}", at.display()))?;
    let mount = Tool::new("mount")?.args(["-t", kind]).arg(device).arg(&at).stdout();
    let done = mount.with_context(|| format!("mounting {path} to grow it")).and_then(|_| {
        let grown = work(&at).with_context(|| format!("growing the file system on {path}"));
        let unmounted = Tool::new("umount")?.arg(&at).stdout().with_context(|| format!("unmounting {path}"));
        grown.and(unmounted)
    });
    let _ = std::fs::remove_dir(&at);
    done.map(drop)
}

impl Grown {
    /// In words.
    pub fn text(&self) -> String {
        let mut text = self.device.display().to_string();
        if self.size > 0 {
            text += &format!(" has {} now", human(self.size));
        }
        if let Some(kind) = &self.file_system {
            text += &format!("; its {kind} fills it");
        }
        if let Some(left) = &self.left {
            text += &format!("; {left}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(json: &str) -> Table {
        serde_json::from_str::<Dump>(json).unwrap().partitiontable
    }

    #[test]
    fn the_last_is_the_one_that_reaches_furthest() {
        let gpt = table(
            r#"{"partitiontable":{"label":"gpt","sectorsize":512,"partitions":[
            {"node":"/dev/mmcblk0p2","start":4096,"size":100,"type":"X"},
            {"node":"/dev/mmcblk0p1","start":9000,"size":10,"type":"X"}]}}"#,
        );
        assert_eq!(number(&last(&gpt).unwrap().node).unwrap(), 1);
        let dos = r#"{"partitiontable":{"label":"dos","partitions":[
            {"node":"/dev/sda1","start":4096,"size":100,"type":"c"},
            {"node":"/dev/sda2","start":9000,"size":10,"type":"TYPE"}]}}"#;
        assert_eq!(number(&last(&table(&dos.replace("TYPE", "83"))).unwrap().node).unwrap(), 2);
        assert!(last(&table(&dos.replace("TYPE", "f"))).is_err());
        assert!(last(&table(r#"{"partitiontable":{"label":"gpt"}}"#)).is_err());
        assert!(number(Path::new("/dev/sda")).is_err());
    }
}
