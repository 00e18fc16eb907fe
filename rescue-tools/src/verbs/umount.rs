//! `rescue umount`: unmounts a device or a folder, with all that is mounted below.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lexopt::prelude::*;
use serde::Serialize;

use super::{Exit, Usage};
use crate::disk::inventory::Inventory;
use crate::mount::{detach, record, table};
use crate::refusal::refused;
use crate::run_dir::RunDir;

/// What `rescue umount --help` prints.
pub const HELP: &str = "\
rescue umount: unmount a device or a folder, and all that is below

Usage: rescue umount [OPTIONS] DEVICE|DIR...
       rescue umount [OPTIONS] --all

What is mounted below a folder goes first. One that is in use is not
forced: the programs in the way are named.

Options:
  --all       everything that `rescue mount` mounted
  --dry-run   say what would be unmounted
  --json      one JSON object with `format`: 1
  --run-dir RUN  where it is kept what that is
              [default: /run/lifeboat]
  -h, --help  this text

Exit codes: 0 unmounted; 1 failed; 2 wrong usage; 3 refused: it is in
use, or it is not mounted.
";

const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Output {
    format: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    unmounted: Vec<PathBuf>,
}

#[derive(Default)]
struct Arguments {
    all: bool,
    dry_run: bool,
    json: bool,
    words: Vec<String>,
    run: RunDir,
}

/// Unmounts what was asked for.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let Arguments { all, dry_run, json, words, run } = parse(arguments)?;
    let mut folders = if all { record::ours(&run, &table::read()?) } else { Vec::new() };
    for word in &words {
        folders.extend(named(word)?);
    }
    let mut unmounted: Vec<PathBuf> = Vec::new();
    for folder in &folders {
        let places = if dry_run { detach::places(folder)? } else { detach::below(folder)? };
        // One below another was named twice.
        unmounted.extend(places.into_iter().filter(|at| !unmounted.contains(at)).collect::<Vec<_>>());
    }
    let mut output = String::new();
    if json {
        output = serde_json::to_string(&Output { format: FORMAT, dry_run, unmounted })
            .context("writing JSON")?
            + "\n";
    } else {
        for at in unmounted {
            let at = at.display();
            output +=
                &if dry_run { format!("{at} would be unmounted\n") } else { format!("unmounted {at}\n") };
        }
    }
    std::io::stdout().write_all(output.as_bytes()).context("writing to standard output")?;
    Ok(Exit::Done)
}

fn parse(arguments: Vec<OsString>) -> Result<Arguments> {
    let mut parsed = Arguments::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("all") => parsed.all = true,
            Long("dry-run") => parsed.dry_run = true,
            Long("json") => parsed.json = true,
            Long("run-dir") => parsed.run = RunDir::new(parser.value()?),
            Value(word) => parsed.words.push(word.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if parsed.all != parsed.words.is_empty() {
        return Err(Usage("what? A device or a folder, or --all".into()).into());
    }
    Ok(parsed)
}

/// The folders that a device is mounted on, or that folder.
fn named(word: &str) -> Result<Vec<PathBuf>> {
    let mounts = table::read()?;
    if let Ok(folder) = Path::new(word).canonicalize()
        && mounts.iter().any(|mount| mount.at == folder)
    {
        if folder == Path::new("/") {
            return Err(refused("/ is what runs here: it stays"));
        }
        return Ok(vec![folder]);
    }
    let inventory = Inventory::read()?;
    let device = inventory.named(word)?;
    if device.mounts.is_empty() {
        return Err(refused(format!("{word} is not mounted")));
    }
    Ok(device.mounts.iter().rev().filter(|at| *at != Path::new("/")).cloned().collect())
}
