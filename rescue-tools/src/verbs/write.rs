//! `rescue write`: writes a disk anew.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use init::size::human;
use lexopt::prelude::*;
use serde::Serialize;

use super::{Exit, Usage};
use crate::confirm::confirm;
use crate::disk::inventory::{Device, Kind};
use crate::disk::target::Target;
use crate::image::disk::{END, Written};
use crate::image::download::RETRIES;
use crate::image::format::Format;
use crate::image::grow::{self, Grown};
use crate::image::medium::{DiskFile, Medium};
use crate::image::partitions;
use crate::image::progress::Progress;
use crate::image::proof::{Keys, Wanted, parse_sha256};
use crate::image::readback::Hashes;
use crate::image::source::Place;
use crate::image::verify::Verified;
use crate::image::write::{self, Image, Order};
use crate::kernel_log::{KMSG_PATH, KernelLog};
use crate::refusal::refused;
use crate::{hangup, memory};

/// What `rescue write --help` prints.
pub const HELP: &str = "\
rescue write: writes a disk anew

Usage: rescue write [OPTIONS] SOURCE DEV

SOURCE is an http:// or https:// URL, a file, or - for standard input:
  ssh pi rescue write --yes --sha256 HEX - /dev/mmcblk0 < disk.img.xz
DEV is a disk, as `rescue disks` shows them. All that is on it is lost.

A raw image, or one packed with xz, zstd, gzip or bzip2: known by what
is in it, not by its name. It is checked on the way. Until all of it
was right, the first and the last MiB of the disk are zeroes: what is
cut short, damaged or wrongly signed never boots, and `rescue write`
may simply be run again.

What SOURCE is held against (one of them):
  --sha256 HEX       the SHA-256 of SOURCE as it is fetched
  --minisign PLACE   a signature by minisign: a file or a URL
                     [default: SOURCE.minisig]
  --key KEY          trust this public key (a file, or its base64) and
                     no other [default: all of /etc/lifeboat/keys]
  --insecure-no-verify
                     nothing

Options:
  --partition        DEV is a partition or volume, and SOURCE the image
                     of a file system
  --verify           read all of it back from the disk and compare
  --grow             let the last partition take the rest of the disk,
                     and its ext2/3/4, btrfs or xfs all of it
  --retries N        ask a server that fails so often in a row, with
                     waits of up to 30 s [default: 20]
  --yes              do not ask
  --dry-run          say what would be done; change nothing
  --json             one JSON object with `format`: 1; no progress
  -h, --help         this text

A download that breaks goes on where it broke, if the server knows
ranges (as `http-boot` does). Standard input cannot go on. When the SSH
session ends, a download goes on by itself, and its end is told in the
kernel's log (`dmesg`).

Memory: 32 MiB, and what unpacking takes: xz up to 160 MiB, and where
the image is in blocks (xz -T0) up to 384 MiB or a quarter of what is
free; zstd up to 128 MiB; others little. Images that need more are
refused. --verify takes 8 KiB for each GiB.

Exit codes: 0 done; 1 failed, the disk does not boot; 2 wrong usage;
3 refused, nothing was changed.
";

/// What was asked for.
struct Options {
    order: Order,
    device: String,
    partition: bool,
    read_back: bool,
    grow: bool,
    yes: bool,
    dry_run: bool,
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    format: u32,
    source: String,
    packed: Format,
    device: &'a Device,
    dry_run: bool,
    source_size: Option<u64>,
    image_size: Option<u64>,
    #[serde(flatten)]
    done: Option<Done>,
}

/// What was done.
#[derive(Serialize)]
struct Done {
    written: u64,
    zeroes: u64,
    verified: Verified,
    seconds: f64,
    resumed: u32,
    read_back: bool,
    grown: Option<Grown>,
}

/// Writes the image.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let options = parse(arguments)?;
    let target = Target::claim(&options.device, "write to")?;
    check_kind(target.device(), options.partition)?;
    let progress = Arc::new(Progress::new(options.json));
    let image = write::open(&options.order, &progress).map_err(|error| match Exit::of(&error) {
        Exit::Failed => error.context("nothing was changed"),
        _ => error,
    })?;
    image.fits(target.size(), options.partition)?;
    let mut report = Report {
        format: 1,
        source: options.order.source.to_string(),
        packed: image.format,
        device: &target.device().clone(),
        dry_run: options.dry_run,
        source_size: image.source_size,
        image_size: image.size.max(image.extent.map(|extent| extent.bytes)),
        done: None,
    };
    progress.end();
    let question = describe(&report);
    if options.dry_run {
        print(&options, &report, &format!("would write {question}: nothing was changed"))?;
        return Ok(Exit::Done);
    }
    confirm(&format!("Write {question}? All that is on it is lost."), options.yes)?;
    if options.order.source != Place::Stdin {
        hangup::ignore()?;
    }
    let log = KernelLog::new(KMSG_PATH.into(), "rescue-write");
    log.note(format!("writing {question}"));
    let done = write_disk(&options, target, image, &progress);
    match &done {
        Ok(done) => {
            log.note(format!("{}: {} written and right", report.device.path.display(), human(done.written)))
        }
        Err(error) => log.note(format!("{}: {error:#}", report.device.path.display())),
    }
    report.done = Some(done?);
    print(&options, &report, &summary(&report))?;
    Ok(Exit::Done)
}

/// All that changes the disk.
fn write_disk(options: &Options, target: Target, image: Image, progress: &Progress) -> Result<Done> {
    let began = Instant::now();
    let path = target.path().to_path_buf();
    let mut hashes = options.read_back.then(Hashes::default);
    let mut medium = DiskFile::new(target.file(), target.size(), target.device().logical_sector);
    let written = image.write(&mut medium, hashes.as_mut(), progress);
    progress.end();
    let not_bootable = || {
        format!(
            "{} is not bootable now: its first and last MiB are zeroes, until it is written again",
            path.display()
        )
    };
    let (Written { bytes, zeroes }, verified) = written.with_context(not_bootable)?;
    let seconds = began.elapsed().as_secs_f64();
    if let Some(hashes) = &hashes {
        hashes.check(&mut medium, progress).map_err(|error| error.context(unmake(&mut medium)))?;
    }
    if !options.partition {
        partitions::reread(target.file())?;
    }
    target.release();
    let grown = match (options.grow, options.partition) {
        (false, _) => None,
        (true, true) => Some(grow::file_system(&path)),
        (true, false) => Some(grow::last_partition(&path)),
    };
    let grown = grown
        .transpose()
        .with_context(|| format!("the image is on {} and right, but did not grow", path.display()))?;
    Ok(Done {
        written: bytes,
        zeroes,
        verified,
        seconds,
        resumed: progress.breaks(),
        read_back: hashes.is_some(),
        grown,
    })
}

/// Takes the first MiB away again from a disk that lies; says so.
fn unmake(medium: &mut DiskFile<'_>) -> &'static str {
    let medium: &mut dyn Medium = medium;
    match medium.write_zeroes_at(0, END.min(medium.size())).and_then(|()| medium.flush()) {
        Ok(()) => "do not use this disk: its first MiB was made zeroes again, so that nothing boots from it",
        Err(_) => "do not use this disk: even its first MiB could not be made zeroes again",
    }
}

/// A whole disk, or what `--partition` said is none.
fn check_kind(device: &Device, partition: bool) -> Result<()> {
    let path = device.path.display();
    let whole = matches!(device.kind, Kind::Disk | Kind::Loop | Kind::Raid(_));
    match (whole, partition) {
        (false, false) => Err(refused(format!(
            "refusing to write to {path}: it is no whole disk; say --partition if SOURCE is the image of a file system"
        ))),
        (true, true) => {
            Err(refused(format!("refusing to write to {path}: it is a whole disk, and --partition was said")))
        }
        _ => Ok(()),
    }
}

/// `a.img.xz (xz, 412.0 MiB, for 2.6 GiB) to /dev/vda (Model, 8.0 GiB; holds: …)`
fn describe(report: &Report<'_>) -> String {
    let mut text = format!("{} ({}", report.source, report.packed);
    for (words, size) in [(", ", report.source_size), (", a disk of ", report.image_size)] {
        if let Some(size) = size {
            let _ = write!(text, "{words}{}", human(size));
        }
    }
    let device = report.device;
    let model = device.model.as_ref().map(|model| format!("{model}, ")).unwrap_or_default();
    let _ = write!(text, ") to {} ({model}{}", device.path.display(), human(device.size));
    let contents: Vec<String> = device.subtree().into_iter().filter_map(content).collect();
    let held = if contents.is_empty() { "nothing that is known".into() } else { contents.join(", ") };
    let _ = write!(text, "; on it now: {held})");
    text
}

/// `vda2 ext4 "root"`
fn content(device: &Device) -> Option<String> {
    let content = device.content.as_ref()?;
    let label = content.label.as_ref().map(|label| format!(" {label:?}")).unwrap_or_default();
    Some(format!("{} {}{label}", device.name, content.kind))
}

fn summary(report: &Report<'_>) -> String {
    let Some(done) = &report.done else { return String::new() };
    let time = Duration::from_secs_f64(done.seconds).as_secs();
    let rate = (done.written as f64 / done.seconds.max(0.001)) as u64;
    let mut text = format!(
        "{}: {} written in {}:{:02} ({}/s), {} of it zeroes\n{} read; {}",
        report.device.path.display(),
        human(done.written),
        time / 60,
        time % 60,
        human(rate),
        human(done.zeroes),
        human(done.verified.bytes()),
        done.verified.text()
    );
    if done.resumed > 0 {
        let _ = write!(text, "\nthe download broke and went on {} times", done.resumed);
    }
    if done.read_back {
        text += "\nread back: the same";
    }
    if let Some(grown) = &done.grown {
        let _ = write!(text, "\n{}", grown.text());
    }
    text
}

/// Prints to standard output, if anybody is left who reads it.
fn print(options: &Options, report: &Report<'_>, text: &str) -> Result<()> {
    let mut line = if options.json {
        serde_json::to_string(report).context("writing the report as JSON")?
    } else {
        text.into()
    };
    line.push('\n');
    let _ = std::io::stdout().write_all(line.as_bytes());
    Ok(())
}

fn parse(arguments: Vec<OsString>) -> Result<Options> {
    let (mut words, mut wanted) = (Vec::new(), Vec::new());
    let mut keys = Keys::Folder(init::config::KEYS_DIR.into());
    let mut retries = RETRIES;
    let [mut partition, mut read_back, mut grow, mut yes, mut dry_run, mut json] = [false; 6];
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("sha256") => wanted.push(Wanted::Sha256(parse_sha256(&parser.value()?.string()?)?)),
            Long("minisign") => {
                wanted.push(Wanted::Minisign(Some(Place::parse(&parser.value()?.string()?)?)))
            }
            Long("insecure-no-verify") => wanted.push(Wanted::Unchecked),
            Long("key") => keys = Keys::One(parser.value()?.string()?),
            Long("retries") => retries = parser.value()?.parse()?,
            Long("partition") => partition = true,
            Long("verify") => read_back = true,
            Long("grow") => grow = true,
            Long("yes") => yes = true,
            Long("dry-run") => dry_run = true,
            Long("json") => json = true,
            Value(word) => words.push(word.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let [source, device] = <[String; 2]>::try_from(words)
        .map_err(|words| Usage(format!("rescue write takes SOURCE and DEV, not {} words", words.len())))?;
    if wanted.len() > 1 {
        return Err(Usage("one of --sha256, --minisign and --insecure-no-verify is enough".into()).into());
    }
    let wanted = wanted.pop().unwrap_or(Wanted::Minisign(None));
    let order = Order {
        source: Place::parse(&source)?,
        wanted,
        keys,
        init: init::answer::PROGRAM.into(),
        retries,
        spare: memory::available(),
    };
    Ok(Options { order, device, partition, read_back, grow, yes, dry_run, json })
}
