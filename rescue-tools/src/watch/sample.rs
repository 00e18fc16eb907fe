//! One look at the machine. What cannot be read is left out: nothing here may fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use init::status::BootStatus;
use serde::Serialize;

use crate::people::{Person, people};
use crate::status::gather::{Sources, boot_status};

/// A sector of `/proc/diskstats`, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// One look.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Seconds since the kernel's start.
    pub uptime: u64,
    /// The three figures of `/proc/loadavg`, as they stand there.
    pub load: String,
    /// RAM.
    pub memory: Memory,
    /// Thousandths of a degree Celsius, of the hottest place.
    pub temperature: Option<i64>,
    /// Where the boot stands.
    pub boot: Option<BootStatus>,
    /// Who is at work.
    pub people: Vec<Person>,
    /// Bytes read and written since the kernel's start, by disk.
    pub disks: BTreeMap<String, Counts>,
    /// Bytes received and sent, by interface.
    pub interfaces: BTreeMap<String, Counts>,
}

/// RAM in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All that the kernel manages.
    pub total: u64,
    /// What programs could still have (`MemAvailable`).
    pub available: u64,
}

/// Bytes in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Read from the disk, or received.
    pub input: u64,
    /// Written to it, or sent.
    pub output: u64,
}

/// Looks.
pub fn look(sources: &Sources) -> Sample {
    let text = |path: &str| std::fs::read_to_string(sources.proc.join(path)).unwrap_or_default();
    let uptime = text("uptime").split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    Sample {
        at: Instant::now(),
        uptime,
        load: text("loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
        memory: memory(&text("meminfo")),
        temperature: temperature(&sources.sys),
        boot: boot_status(&sources.run),
        people: people(&sources.run),
        disks: disks(&text("diskstats"), &sources.sys),
        interfaces: interfaces(&sources.sys),
    }
}

fn memory(meminfo: &str) -> Memory {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Memory { total: bytes("MemTotal:").unwrap_or(0), available: bytes("MemAvailable:").unwrap_or(0) }
}

fn temperature(sys: &Path) -> Option<i64> {
    let zones = std::fs::read_dir(sys.join("class/thermal")).into_iter().flatten().flatten();
    zones.filter_map(|zone| std::fs::read_to_string(zone.path().join("temp")).ok()?.trim().parse().ok()).max()
}

/// Documentation/admin-guide/iostats.rst: fields 6 and 10 of a line are the sectors read and written. Only whole disks
/// with a medium, and what is mapped onto them.
fn disks(diskstats: &str, sys: &Path) -> BTreeMap<String, Counts> {
    let disk = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name =
            fields.get(2).filter(|name| !["loop", "ram", "zram"].iter().any(|not| name.starts_with(not)))?;
        let size = std::fs::read_to_string(sys.join("block").join(name).join("size")).ok()?;
        if size.trim() == "0" {
            return None;
        }
        let bytes = |field: usize| fields.get(field)?.parse::<u64>().ok()?.checked_mul(SECTOR);
        Some(((*name).to_string(), Counts { input: bytes(5)?, output: bytes(9)? }))
    };
    diskstats.lines().filter_map(disk).collect()
}

fn interfaces(sys: &Path) -> BTreeMap<String, Counts> {
    let entries = std::fs::read_dir(sys.join("class/net")).into_iter().flatten().flatten();
    let interface = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok().filter(|name| name != "lo")?;
        let bytes = |name: &str| -> Option<u64> {
            std::fs::read_to_string(entry.path().join("statistics").join(name)).ok()?.trim().parse().ok()
        };
        Some((name, Counts { input: bytes("rx_bytes")?, output: bytes("tx_bytes")? }))
    };
    entries.filter_map(interface).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::RunDir;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn disks_and_memory_and_the_hottest_place() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/uptime", "312.40 600.00\n");
        write(root.path(), "proc/loadavg", "0.50 0.20 0.10 1/90 412\n");
        write(root.path(), "proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 400 kB\n");
        let diskstats = "   8 0 sda 10 0 100 5 20 0 200 9 0 1 2\n   8 1 sda1 1 0 1 1 1 0 1 1 0 1 1\n   7 0 loop0 1 0 8 0 0 0 0 0 0 0 0\nshort line\n";
        write(root.path(), "proc/diskstats", diskstats);
        write(root.path(), "sys/block/sda/size", "2048\n");
        write(root.path(), "sys/block/loop0/size", "2048\n");
        write(root.path(), "sys/class/thermal/thermal_zone0/temp", "48300\n");
        write(root.path(), "sys/class/net/eth0/statistics/rx_bytes", "7\n");
        write(root.path(), "sys/class/net/eth0/statistics/tx_bytes", "8\n");
        let sources = Sources {
            run: RunDir::new(root.path().join("run")),
            sys: root.path().join("sys"),
            proc: root.path().join("proc"),
        };
        let sample = look(&sources);
        assert_eq!((sample.uptime, sample.load.as_str()), (312, "0.50 0.20 0.10"));
        assert_eq!(sample.memory, Memory { total: 1000 << 10, available: 400 << 10 });
        assert_eq!(sample.temperature, Some(48_300));
        let disks: Vec<_> = sample.disks.into_iter().collect();
        assert_eq!(disks, [("sda".into(), Counts { input: 51_200, output: 102_400 })]);
        assert_eq!(sample.interfaces["eth0"], Counts { input: 7, output: 8 });
    }
}
