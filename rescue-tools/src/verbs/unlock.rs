//! `rescue unlock`: opens encrypted disks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use lexopt::prelude::*;
use serde_json::json;

use super::{Exit, Usage};
use crate::disk::inventory::Inventory;
use crate::refusal::refused;
use crate::tool::Tool;
use crate::unlock::inside::{self, Inside};
use crate::unlock::keyring;
use crate::unlock::open::{self, How, Locked, Opened};
use crate::unlock::passphrase::Passphrase;

/// What `rescue unlock --help` prints.
pub const HELP: &str = "\
rescue unlock: open encrypted disks (LUKS)

Usage: rescue unlock [OPTIONS] [DEV...]

Without DEV it takes every LUKS device that is not open; where there is
none at all it looks for 15 seconds, as a USB disk may be on its way.
One passphrase is tried on all of them; for those that stay closed it
asks again. What stands inside, LVM, RAID or btrfs, comes up as well.
Nothing is mounted.

The passphrase is asked for on the terminal, without echo:
  ssh -t root@pi rescue unlock
or is standard input, without the newline at its end:
  ssh root@pi rescue unlock < passphrase-file

A boot that waits for it (`rd.luks.uuid=` on the kernel command line)
goes on by itself. On a system with kexec the kernel keeps the passphrase
for a quarter of an hour, out of reach of all but root, for
`rescue boot --kexec`; --no-keep keeps none.

Options:
  --key-file FILE  a key file, taken as it is; - is standard input
  --header FILE    a detached header, or the device that has it; with
                   one DEV
  --name NAME      the device below /dev/mapper; with one DEV
                   [default: luks-UUID]
  --read-only      nothing can be written to what is inside
  --allow-discards pass TRIM on to the disk
  --no-keep        do not keep the passphrase for a kexec
  --dry-run        say what would be opened
  --json           one JSON object with `format`: 1, `opened`, `locked`,
                   `devices`, `problems`
  -h, --help       this text

Exit codes: 0 all are open; 1 wrong passphrase, or failed; 2 wrong
usage; 3 refused: no such device, not encrypted, too little memory for
its key slots; 4 some are open, others are not.
";

/// How long a disk may take to appear.
const APPEARANCE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Arguments {
    words: Vec<String>,
    key_file: Option<PathBuf>,
    header: Option<PathBuf>,
    name: Option<String>,
    how: How,
    no_keep: bool,
    dry_run: bool,
    json: bool,
}

/// Opens them.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let arguments = parse(arguments)?;
    let locked = wanted(&arguments)?;
    if arguments.dry_run {
        say_what_would_be(&arguments, &locked);
        return Ok(Exit::Done);
    }
    let (opened, left) = match once(&arguments)? {
        Some(passphrase) => try_all(locked, &passphrase, &arguments)?,
        None => ask_for_all(locked, &arguments)?,
    };
    if opened.is_empty() {
        bail!("nothing was opened: no passphrase for {}", list(&left));
    }
    let inside = inside::bring_up(&opened)?;
    report(&arguments, &opened, &left, &inside);
    Ok(if left.is_empty() && inside.problems.is_empty() { Exit::Done } else { Exit::Problems })
}

/// What is to be opened. Without names it waits a little for a disk: over USB one takes seconds to appear, and whoever was
/// told to come and unlock may be faster.
fn wanted(arguments: &Arguments) -> Result<Vec<Locked>> {
    let end = Instant::now() + APPEARANCE;
    let mut told = false;
    loop {
        let inventory = Inventory::read()?;
        let header = arguments.header.as_deref();
        let locked = open::locked(&inventory, &arguments.words, header, arguments.name.as_deref())?;
        if !locked.is_empty() {
            return Ok(locked);
        }
        if inventory.all().into_iter().any(open::is_luks) {
            return Err(refused("every LUKS device is open already"));
        }
        if Instant::now() > end || arguments.dry_run {
            return Err(refused("there is no LUKS device here"));
        }
        if !told {
            told = true;
            eprintln!("there is no LUKS device yet: looking for {} s", APPEARANCE.as_secs());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn parse(arguments: Vec<OsString>) -> Result<Arguments> {
    let mut parsed = Arguments::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("key-file") => parsed.key_file = Some(parser.value()?.into()),
            Long("header") => parsed.header = Some(parser.value()?.into()),
            Long("name") => parsed.name = Some(parser.value()?.string()?),
            Long("read-only") => parsed.how.read_only = true,
            Long("allow-discards") => parsed.how.discards = true,
            Long("no-keep") => parsed.no_keep = true,
            Long("dry-run") => parsed.dry_run = true,
            Long("json") => parsed.json = true,
            Value(word) => parsed.words.push(word.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if (parsed.header.is_some() || parsed.name.is_some()) && parsed.words.len() != 1 {
        return Err(Usage("--header and --name go with one DEV".into()).into());
    }
    Ok(parsed)
}

/// The one passphrase that there is without asking anybody.
fn once(arguments: &Arguments) -> Result<Option<Passphrase>> {
    match &arguments.key_file {
        Some(path) => Passphrase::of_file(path).map(Some),
        None => Passphrase::piped(),
    }
}

/// Tries it on each. That it fits none is an error.
fn try_all(
    locked: Vec<Locked>,
    passphrase: &Passphrase,
    arguments: &Arguments,
) -> Result<(Vec<Opened>, Vec<Locked>)> {
    let (opened, left) = round(locked, passphrase, arguments)?;
    if opened.is_empty() {
        bail!("wrong passphrase for {}", list(&left));
    }
    Ok((opened, left))
}

/// Asks until all are open, or nothing is answered.
fn ask_for_all(mut left: Vec<Locked>, arguments: &Arguments) -> Result<(Vec<Opened>, Vec<Locked>)> {
    let mut all = Vec::new();
    while !left.is_empty() {
        let rest = if all.is_empty() { "" } else { ", or Enter to leave it" };
        let prompt = format!("Passphrase for {}{rest}: ", list(&left));
        let Some(passphrase) = Passphrase::ask(&prompt)? else { break };
        eprintln!("trying (this may take some seconds) ...");
        let before = left.len();
        let (opened, still) = round(left, &passphrase, arguments)?;
        for one in &opened {
            eprintln!("{} is open", one.device.display());
        }
        if still.len() == before {
            eprintln!("wrong passphrase");
        }
        all.extend(opened);
        left = still;
    }
    Ok((all, left))
}

fn round(
    locked: Vec<Locked>,
    passphrase: &Passphrase,
    arguments: &Arguments,
) -> Result<(Vec<Opened>, Vec<Locked>)> {
    let (mut opened, mut left) = (Vec::new(), Vec::new());
    let mut failed = None;
    for one in locked {
        match open::open(&one, passphrase, arguments.how) {
            Ok(Some(device)) => {
                keep(&one, passphrase, arguments);
                opened.push(device);
            }
            Ok(None) => left.push(one),
            Err(error) => {
                // Another may go well, and the person should know of this one.
                if failed.is_some() || !opened.is_empty() {
                    eprintln!("{error:#}");
                }
                failed.get_or_insert(error);
                left.push(one);
            }
        }
    }
    match failed {
        Some(error) if opened.is_empty() => Err(error),
        _ => Ok((opened, left)),
    }
}

/// For `rescue boot --kexec`. Where that is not possible, the passphrase is asked for again then.
fn keep(one: &Locked, passphrase: &Passphrase, arguments: &Arguments) {
    let (Some(uuid), false) = (&one.uuid, arguments.no_keep || Tool::new("kexec").is_err()) else { return };
    if let Err(error) = keyring::keep(uuid, passphrase) {
        eprintln!("{error:#}");
    }
}

fn list(devices: &[Locked]) -> String {
    devices.iter().map(|one| one.device.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn say_what_would_be(arguments: &Arguments, locked: &[Locked]) {
    if arguments.json {
        let devices: Vec<_> =
            locked.iter().map(|one| json!({ "device": one.device, "name": one.name })).collect();
        println!("{}", json!({ "format": 1, "dry_run": true, "locked": devices }));
        return;
    }
    for one in locked {
        println!("{} would be opened as /dev/mapper/{}", one.device.display(), one.name);
    }
}

fn report(arguments: &Arguments, opened: &[Opened], left: &[Locked], inside: &Inside) {
    if arguments.json {
        let locked: Vec<&Path> = left.iter().map(|one| one.device.as_path()).collect();
        println!(
            "{}",
            json!({ "format": 1, "opened": opened, "locked": locked, "devices": inside.devices, "problems": inside.problems })
        );
        return;
    }
    for one in opened {
        println!("{} is open: {}", one.device.display(), one.path.display());
    }
    for device in inside.devices.iter().filter(|device| !opened.iter().any(|one| one.path == **device)) {
        println!("inside: {}", device.display());
    }
    for problem in &inside.problems {
        println!("{problem}");
    }
    for one in left {
        println!("{} is still locked", one.device.display());
    }
}
