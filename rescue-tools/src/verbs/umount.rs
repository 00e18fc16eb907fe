//! `rescue umount`: unmounts a device or a folder, with all that is mounted below.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lexopt::prelude::*;
use serde::Serialize;

use super::{Exit, Usage};
use crate::disk::inventory::Inventory;
use crate::mount::attach::FOLDER;
use crate::mount::{detach, table};
use crate::refusal::refused;

/// What `rescue umount --help` prints.
pub const HELP: &str = "\
rescue umount: unmount a device or a folder, and all that is below

Usage: rescue umount [--json] DEVICE|DIR...
       rescue umount [--json] --all

What is mounted below a folder goes first. One that is in use is not
forced: the programs in the way are named.

Options:
  --all       everything below /mnt
  --json      one JSON object with `format`: 1
  -h, --help  this text

Exit codes: 0 unmounted; 1 failed; 2 wrong usage; 3 refused: it is in
use, or it is not mounted.
";

const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Output {
    format: u32,
    unmounted: Vec<PathBuf>,
}

/// Unmounts what was asked for.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let (mut all, mut json, mut words) = (false, false, Vec::new());
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("all") => all = true,
            Long("json") => json = true,
            Value(word) => words.push(word.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if all != words.is_empty() {
        return Err(Usage("what? A device or a folder, or --all".into()).into());
    }
    let mut unmounted = if all { below_folder(Path::new(FOLDER))? } else { Vec::new() };
    for word in &words {
        unmounted.extend(named(word)?);
    }
    let mut output = String::new();
    if json {
        output = serde_json::to_string(&Output { format: FORMAT, unmounted }).context("writing JSON")? + "\n";
    } else {
        for at in unmounted {
            output.push_str(&format!("unmounted {}\n", at.display()));
        }
    }
    std::io::stdout().write_all(output.as_bytes()).context("writing to standard output")?;
    Ok(Exit::Done)
}

/// What is mounted below `folder`, but not the folder itself.
fn below_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let mounts = table::read()?;
    let below = mounts.iter().map(|mount| &mount.at).filter(|at| at.starts_with(folder) && *at != folder);
    let mut tops: Vec<PathBuf> = Vec::new();
    for at in below {
        if !tops.iter().any(|top| at.starts_with(top)) {
            tops.push(at.clone());
        }
    }
    let mut unmounted = Vec::new();
    for top in tops.iter().rev() {
        unmounted.extend(detach::below(top)?);
    }
    Ok(unmounted)
}

/// The mounts of a device, or those of a folder.
fn named(word: &str) -> Result<Vec<PathBuf>> {
    let mounts = table::read()?;
    if let Ok(folder) = Path::new(word).canonicalize()
        && mounts.iter().any(|mount| mount.at == folder)
    {
        if folder == Path::new("/") {
            return Err(refused("/ is what runs here: it stays"));
        }
        return detach::below(&folder);
    }
    let inventory = Inventory::read()?;
    let device = inventory.named(word)?;
    if device.mounts.is_empty() {
        return Err(refused(format!("{word} is not mounted")));
    }
    let mut unmounted = Vec::new();
    for at in device.mounts.iter().rev().filter(|at| *at != Path::new("/")) {
        unmounted.extend(detach::below(at)?);
    }
    Ok(unmounted)
}
