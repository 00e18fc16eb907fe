//! `rescue disks`: what disks there are, and what is on them.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use lexopt::prelude::*;

use super::Exit;
use crate::disk::inventory::{Device, Inventory};
use crate::disk::{overview, page};

/// What `rescue disks --help` prints.
pub const HELP: &str = "\
rescue disks: what disks there are, and what is on them

Usage: rescue disks [--health] [--json] [DEVICE...]

Disks and partitions with size, model, table, file systems, labels and
UUIDs; LUKS, LVM and RAID; which device has a Linux root (by its
os-release); what was there where the beginning of a file system is
lost; read and write errors in the kernel's log; how worn an eMMC is.

Looking changes nothing: nothing is activated, assembled or unlocked, no
journal is played back. To find a Linux root, ext2, ext3 and ext4 are
read by debugfs; btrfs, xfs and f2fs are mounted for a moment,
read-only, without recovery, where no other program sees it.

DEVICE is a path (/dev/sda2), a name (sda2), UUID=..., LABEL=... or
PARTUUID=...; without one, all are shown.

Options:
  --health    ask disks for SMART, too; this wakes one that sleeps
  --json      one JSON object with `format`: 1
  -h, --help  this text

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 there is no such device.

Examples:
  rescue disks
  rescue disks --health sda
  rescue disks --json
";

/// Shows the disks.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let (mut json, mut health, mut words) = (false, false, Vec::new());
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("json") => json = true,
            Long("health") => health = true,
            Value(word) => words.push(word.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let inventory = Inventory::read()?;
    let devices: Vec<&Device> = if words.is_empty() {
        inventory.devices.iter().filter(|device| overview::is_disk(device)).collect()
    } else {
        words.iter().map(|word| inventory.named(word)).collect::<Result<_>>()?
    };
    let mut overview = overview::gather(&inventory, &devices, health)?;
    if !words.is_empty() {
        overview.volume_groups.retain(|group| {
            let below = devices.iter().flat_map(|device| device.subtree());
            below.into_iter().any(|device| group.members.contains(&device.path))
        });
    }
    let output = if json {
        serde_json::to_string(&overview).context("writing JSON")? + "\n"
    } else {
        let colour =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        page::render(&overview, colour)
    };
    std::io::stdout().write_all(output.as_bytes()).context("writing to standard output")?;
    Ok(Exit::Done)
}
