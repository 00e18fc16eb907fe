//! `rescue mount`: mounts a disk's file system, read-only unless told otherwise.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use lexopt::prelude::*;
use serde::Serialize;

use super::{Exit, Usage};
use crate::disk::filesystem::FileSystem;
use crate::disk::inventory::Inventory;
use crate::mount::attach::{Tree, Wish, attach, plan};
use crate::mount::record;
use crate::run_dir::RunDir;

/// What `rescue mount --help` prints.
pub const HELP: &str = "\
rescue mount: mount a file system, to look or to write

Usage: rescue mount [OPTIONS] DEVICE [DIR]

Read-only, and without playing a journal back: nothing on the disk
changes. What was being written when the system stopped may be missing
or in pieces then; --rw plays the journal back.

DEVICE is a path (/dev/sda2), a name (sda2), UUID=..., LABEL=... or
PARTUUID=...; without DIR it is mounted on /mnt/NAME.

Options:
  --rw        to write
  --root      a Linux root with all that belongs to it: its btrfs
              subvolume, what its /etc/fstab mounts, and /dev, /proc and
              /sys, so that `chroot DIR` works
  --dry-run   say what would be mounted
  --json      one JSON object with `format`: 1
  --run-dir RUN  where it is kept what was mounted, for
              `rescue umount --all` [default: /run/lifeboat]
  -h, --help  this text

Exit codes: 0 mounted; 1 failed; 2 wrong usage; 3 refused, nothing was
changed; 4 mounted, but not all of what /etc/fstab has.

Examples:
  rescue mount mmcblk0p2
  rescue mount --rw --root mmcblk0p2 /mnt/root && chroot /mnt/root
  rescue umount /mnt/root
";

const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Output<'a> {
    format: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(flatten)]
    tree: &'a Tree,
}

#[derive(Default)]
struct Arguments {
    wish: Wish,
    device: String,
    folder: Option<PathBuf>,
    run: RunDir,
    dry_run: bool,
    json: bool,
}

/// Mounts what was asked for.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let arguments = parse(arguments)?;
    let inventory = Inventory::read()?;
    let device = inventory.named(&arguments.device)?;
    let folder = arguments.folder.as_deref();
    let dry_run = arguments.dry_run;
    let tree = if dry_run {
        Tree { mounted: vec![plan(device, folder, arguments.wish)?], skipped: Vec::new() }
    } else {
        attach(&inventory, device, folder, arguments.wish)?
    };
    if let Some(first) = tree.mounted.first().filter(|_| !dry_run) {
        record::add(&arguments.run, &first.source, &first.at)?;
    }
    let output = if arguments.json {
        serde_json::to_string(&Output { format: FORMAT, dry_run, tree: &tree }).context("writing JSON")?
            + "\n"
    } else {
        let would = if dry_run { "would be mounted: " } else { "" };
        let rest = if dry_run && arguments.wish.root {
            "and what its /etc/fstab has, /dev, /proc and /sys\n"
        } else {
            ""
        };
        format!("{would}{}{rest}", text(&tree))
    };
    std::io::stdout().write_all(output.as_bytes()).context("writing to standard output")?;
    Ok(if tree.skipped.is_empty() { Exit::Done } else { Exit::Problems })
}

fn parse(arguments: Vec<OsString>) -> Result<Arguments> {
    let mut parsed = Arguments::default();
    let mut words: Vec<OsString> = Vec::new();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("rw") => parsed.wish.writable = true,
            Long("root") => parsed.wish.root = true,
            Long("dry-run") => parsed.dry_run = true,
            Long("json") => parsed.json = true,
            Long("run-dir") => parsed.run = RunDir::new(parser.value()?),
            Value(word) => words.push(word),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let mut words = words.into_iter();
    let Some(device) = words.next() else {
        return Err(Usage("which device? `rescue disks` shows what there is".into()).into());
    };
    parsed.device = device.string()?;
    parsed.folder = words.next().map(PathBuf::from);
    match words.next() {
        Some(word) => Err(Usage(format!("one device and one folder; what is {}?", word.display())).into()),
        None => Ok(parsed),
    }
}

fn text(tree: &Tree) -> String {
    let mut text = String::new();
    for one in &tree.mounted {
        let journal = FileSystem::from_name(&one.kind)
            .is_some_and(|system| !system.options_without_replay().is_empty());
        let access = match (one.writable, journal) {
            (true, _) => "to write",
            (false, true) => "read-only, journal not played back",
            (false, false) => "read-only",
        };
        let (source, at) = (one.source.display(), one.at.display());
        let _ = match one.kind.as_str() {
            "bind" => writeln!(text, "{source} on {at}"),
            kind => writeln!(text, "{source} on {at} ({kind}, {access})"),
        };
    }
    for one in &tree.skipped {
        let _ = writeln!(text, "not mounted: {one}");
    }
    text
}
