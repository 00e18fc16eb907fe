//! `rescue save`: an image of a disk.

use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use init::size::human;
use lexopt::prelude::*;
use serde::Serialize;

use super::{Exit, Usage};
use crate::disk::inventory::{Device, Inventory};
use crate::image::medium::DiskFile;
use crate::image::progress::Progress;
use crate::image::verify::hex;
use crate::save::file::Image;
use crate::save::ranges::Ranges;
use crate::save::{room, stream};

/// What `rescue save --help` prints.
pub const HELP: &str = "\
rescue save: an image of a disk, failing or not

Usage: rescue save [OPTIONS] DEV [-o FILE]
       ssh pi rescue save DEV > disk.img.zst

Without -o, or with -o -, the image goes to standard output, packed with
zstd: what can be read, and zeroes for what cannot. A disk that gives
up while it is read gives up for good: where there is room, prefer
-o FILE. It reads what is easy first (GNU ddrescue) and keeps a map in
FILE.map: the same command goes on where the last one ended, and tries
again what could not be read.

FILE may be on another disk that is mounted, or on a network file
system. In RAM it is refused where it does not fit, on the disk that is
read always. Nothing is written to DEV.

What could not be read is listed on standard error, and the exit code
is 4. The image's SHA-256 comes at the end, and for a stream that of
the stream: `rescue write --sha256` takes it.

Options:
  -o, --output FILE  into this file, not packed, with holes for zeroes
  --retries N        with -o: try what cannot be read so often again
                     [default: 1]
  --level N          of zstd, 1 to 19 [default: 3]
  --raw              do not pack the stream
  --dry-run          say what would be done
  --json             one JSON object with `format`: 1; without -o it is
                     on standard error
  -h, --help         this text

Memory: 8 MiB, and what zstd takes (some 10 MiB for each core at the
default level).

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 refused, nothing was
changed; 4 done, and some of the disk could not be read.
";

/// What was asked for.
struct Options {
    device: String,
    output: Option<PathBuf>,
    retries: u32,
    level: Option<u8>,
    dry_run: bool,
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    format: u32,
    device: Device,
    output: Option<PathBuf>,
    dry_run: bool,
    resumed: bool,
    warning: Option<String>,
    #[serde(flatten)]
    saved: Option<Saved>,
}

#[derive(Serialize)]
struct Saved {
    /// SHA-256 of the image.
    sha256: String,
    /// SHA-256 and bytes of the stream.
    stream_sha256: Option<String>,
    stream_bytes: Option<u64>,
    unread: Ranges,
}

/// Makes the image.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let options = parse(arguments)?;
    let inventory = Inventory::read()?;
    let device = inventory.named(&options.device)?.clone();
    let mut report = Report {
        format: 1,
        output: options.output.clone(),
        dry_run: options.dry_run,
        resumed: false,
        warning: in_use(&device),
        saved: None,
        device,
    };
    match &options.output {
        Some(path) => to_file(&options, path, &inventory, &mut report)?,
        None => to_stream(&options, &mut report)?,
    }
    print(&options, &report)?;
    let whole = report.saved.as_ref().is_none_or(|saved| saved.unread.is_empty());
    Ok(if whole { Exit::Done } else { Exit::Problems })
}

fn to_file(options: &Options, path: &Path, inventory: &Inventory, report: &mut Report) -> Result<()> {
    let device = &report.device;
    let image = Image::at(path, device)?;
    report.resumed = image.resumed;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let needed = device.size.saturating_sub(image.present);
    let short = room::check(inventory, device, folder, needed)?;
    for warning in short.iter().chain(&report.warning) {
        eprintln!("rescue save: {warning}");
    }
    report.warning = short.or(report.warning.take());
    if options.dry_run {
        return Ok(());
    }
    let map = image.rescue(device, options.retries, options.json)?;
    let hash = image.finish(device.size, &Progress::new(options.json))?;
    report.saved =
        Some(Saved { sha256: hex(&hash), stream_sha256: None, stream_bytes: None, unread: map.unread });
    Ok(())
}

fn to_stream(options: &Options, report: &mut Report) -> Result<()> {
    if std::io::stdout().is_terminal() {
        return Err(Usage("standard output is a terminal; an image goes into a file by: ssh pi rescue save DEV > FILE, or by -o FILE".into()).into());
    }
    if let Some(warning) = &report.warning {
        eprintln!("rescue save: {warning}");
    }
    if options.dry_run {
        return Ok(());
    }
    let device = &report.device;
    let file = File::open(&device.path).with_context(|| format!("opening {}", device.path.display()))?;
    let mut medium = DiskFile::new(&file, device.size, device.logical_sector);
    // Past the standard library's buffer, which looks for lines.
    let mut out =
        File::from(std::io::stdout().as_fd().try_clone_to_owned().context("taking standard output")?);
    let progress = Progress::new(options.json);
    let sent = stream::send(&mut medium, device.logical_sector, options.level, &mut out, &progress)?;
    report.saved = Some(Saved {
        sha256: hex(&sent.image),
        stream_sha256: Some(hex(&sent.stream)),
        stream_bytes: Some(sent.bytes),
        unread: sent.unread,
    });
    Ok(())
}

/// An image of what changes meanwhile is one of no moment.
fn in_use(device: &Device) -> Option<String> {
    let mounted: Vec<String> = device
        .subtree()
        .into_iter()
        .filter(|one| !one.mounts.is_empty() || one.swap)
        .map(|one| one.path.display().to_string())
        .collect();
    let what = mounted.join(", ");
    (!mounted.is_empty())
        .then(|| format!("{what} is in use: if it is written to, the image is of no one moment"))
}

/// Tells what was done: to standard output, unless that is the image.
fn print(options: &Options, report: &Report) -> Result<()> {
    let text = if options.json {
        serde_json::to_string(report).context("writing the report as JSON")? + "\n"
    } else {
        text(report)
    };
    let _ = match options.output {
        Some(_) => std::io::stdout().write_all(text.as_bytes()),
        None => std::io::stderr().write_all(text.as_bytes()),
    };
    Ok(())
}

fn text(report: &Report) -> String {
    let device = &report.device;
    let to = report.output.as_ref().map_or("standard output".into(), |path| path.display().to_string());
    let from = format!("{} ({})", device.path.display(), human(device.size));
    let Some(saved) = &report.saved else {
        let how = if report.resumed { "would go on to save" } else { "would save" };
        return format!("{how} {from} to {to}: nothing was changed\n");
    };
    let mut text = format!("{from} saved to {to}\nSHA-256 of the image:  {}\n", saved.sha256);
    if let Some((hash, bytes)) = saved.stream_sha256.as_ref().zip(saved.stream_bytes) {
        text += &format!("SHA-256 of the stream: {hash}\n({} were sent)\n", human(bytes));
    }
    if !saved.unread.is_empty() {
        text += &saved.unread.text(device.logical_sector);
        if report.output.is_some() {
            text += "the same command tries again what could not be read\n";
        }
    }
    text
}

fn parse(arguments: Vec<OsString>) -> Result<Options> {
    let (mut words, mut output, mut retries, mut level) = (Vec::new(), None, 1, Some(3));
    let [mut dry_run, mut json] = [false; 2];
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('o') | Long("output") => output = Some(PathBuf::from(parser.value()?)),
            Long("retries") => retries = parser.value()?.parse()?,
            Long("level") => level = Some(parser.value()?.parse()?),
            Long("raw") => level = None,
            Long("dry-run") => dry_run = true,
            Long("json") => json = true,
            Value(word) => words.push(word.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let [device] = <[String; 1]>::try_from(words)
        .map_err(|words| Usage(format!("rescue save takes one DEV, not {} words", words.len())))?;
    if level.is_some_and(|level| !(1..=19).contains(&level)) {
        return Err(Usage("--level is 1 to 19".into()).into());
    }
    let output = output.filter(|path| path.as_os_str() != "-");
    Ok(Options { device, output, retries, level, dry_run, json })
}
