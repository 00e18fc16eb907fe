//! `rescue fsck`: checks and repairs file systems.

use std::ffi::OsString;
use std::io::Write;

use anyhow::{Context, Result};
use lexopt::prelude::*;

use super::{Exit, Usage};
use crate::disk::filesystem::{FILE_SYSTEMS, FileSystem};
use crate::disk::inventory::{Device, Inventory};
use crate::disk::usage;
use crate::fsck::check::{Request, check};
use crate::fsck::report::{FORMAT, Outcome, Report, Reports, exit};
use crate::fsck::subject;
use crate::run_dir::RunDir;

/// What `rescue fsck --help` prints.
pub const HELP: &str = "\
rescue fsck: look at file systems, and repair them after a yes

Usage: rescue fsck [OPTIONS] DEVICE...
       rescue fsck [OPTIONS] --all

First a look that changes nothing, and what it found, in words. Then, if
something is wrong, the question whether to repair it. Then another look,
whose answer is the result. ext2, ext3, ext4, vfat, exfat, btrfs, xfs and
f2fs, each by its own checker.

DEVICE is a path (/dev/sda2), a name (sda2), UUID=..., LABEL=... or
PARTUUID=...; a disk stands for its partitions. Never one that is mounted
or in use.

Options:
  --all            every file system that is not in use. One whose
                   beginning is lost is repaired only when it is named.
  --dry-run        only look
  --yes            repair without asking; for scripts
  --type KIND      what is on it, where that is not recognised any more
  --zero-log       xfs: throw a log away that cannot be played back. What
                   was being written is lost, and more may be damaged.
                   Without it the log is played back by mounting.
  --btrfs-repair   btrfs: allow `btrfs check --repair`, of which its manual
                   warns: it can make things worse. Copy first what can be
                   read. Without it only what is safe is done: good copies
                   of superblock and metadata replace bad ones.
  --json           one JSON object with `format`: 1
  --run-dir RUN    where the checkers' words are kept (fsck-NAME.log)
                   [default: /run/lifeboat]
  -h, --help       this text

A repair that has begun goes on when the line drops.

Exit codes: 0 clean, or repaired; 1 failed; 2 wrong usage; 3 refused,
nothing was changed; 4 damaged, and left so.

Examples:
  rescue fsck --dry-run --all     what is broken?
  rescue fsck /dev/mmcblk0p2      look, ask, repair
  rescue fsck --yes --json sda1   for scripts
";

#[derive(Default)]
struct Arguments {
    request: Request,
    words: Vec<String>,
    json: bool,
}

/// Checks what was asked for.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let arguments = parse(arguments)?;
    let inventory = Inventory::read()?;
    let mut stdout = std::io::stdout();
    let mut stderr = std::io::stderr();
    let people: &mut dyn Write = if arguments.json { &mut stderr } else { &mut stdout };
    let devices = if arguments.request.all {
        check_all(&arguments.request, &inventory, people)
    } else {
        let devices = named(&arguments.words, &inventory)?;
        devices.into_iter().map(|device| check(&arguments.request, &inventory, device, people)).collect()
    };
    if devices.is_empty() {
        let _ = writeln!(people, "there is no file system that could be checked");
    }
    let exit = exit(&devices);
    if arguments.json {
        let line = serde_json::to_string(&Reports { format: FORMAT, devices }).context("writing JSON")?;
        writeln!(stdout, "{line}").context("writing to standard output")?;
    }
    Ok(exit)
}

fn parse(arguments: Vec<OsString>) -> Result<Arguments> {
    let mut parsed = Arguments::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("all") => parsed.request.all = true,
            Long("dry-run") => parsed.request.dry_run = true,
            Long("yes") => parsed.request.yes = true,
            Long("type") => parsed.request.kind = Some(kind(&parser.value()?.string()?)?),
            Long("zero-log") => parsed.request.permissions.zero_log = true,
            Long("btrfs-repair") => parsed.request.permissions.btrfs_repair = true,
            Long("json") => parsed.json = true,
            Long("run-dir") => parsed.request.run = RunDir::new(parser.value()?),
            Value(word) => parsed.words.push(word.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let usage = |text: &str| Err(Usage(text.into()).into());
    match (parsed.request.all, parsed.words.is_empty()) {
        (true, false) => usage("--all and devices do not go together"),
        (false, true) => usage("which device? Name some, or say --all (`rescue disks` shows what there is)"),
        (true, _) if parsed.request.kind.is_some() => usage("--all and --type do not go together"),
        _ => Ok(parsed),
    }
}

fn kind(name: &str) -> Result<FileSystem> {
    FileSystem::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = FILE_SYSTEMS.iter().map(|system| system.name()).collect();
        Usage(format!("--type {name}: it is one of {}", names.join(", "))).into()
    })
}

/// All are found before the first is touched.
fn named<'a>(words: &[String], inventory: &'a Inventory) -> Result<Vec<&'a Device>> {
    let mut devices: Vec<&Device> = Vec::new();
    for word in words {
        for device in subject::expand(inventory.named(word)?) {
            if !devices.iter().any(|known| known.number == device.number) {
                devices.push(device);
            }
        }
    }
    Ok(devices)
}

/// What is in use is none of this one's business; it is shown that it was left out.
fn check_all(request: &Request, inventory: &Inventory, people: &mut dyn Write) -> Vec<Report> {
    let mut reports = Vec::new();
    for device in subject::all(inventory) {
        let uses = usage::uses(inventory, device);
        let Some(first) = uses.first() else {
            reports.push(check(request, inventory, device, people));
            continue;
        };
        let message = first.to_string();
        let _ = writeln!(people, "{}: skipped: {message}", device.path.display());
        reports.push(Report {
            device: device.path.clone(),
            file_system: device.content_kind().map(String::from),
            result: Outcome::Skipped,
            findings: Vec::new(),
            message: Some(message),
            log: None,
        });
    }
    reports
}
