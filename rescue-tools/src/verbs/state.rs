//! `rescue state`: the file that boots leave each other on a disk (`lifeboat.state=`).

use std::ffi::OsString;
use std::io::Read;

use anyhow::{Context, Result, anyhow};
use init::disk_file::DiskFile;
use init::state::{STATE_LIMIT, State};
use lexopt::prelude::*;

use super::{Exit, Usage};
use crate::mount::disk_file::{patiently, with_file_system};
use crate::mount::private::Access;
use crate::state_file::{self, Found};

/// What `rescue state --help` prints.
pub const HELP: &str = "\
rescue state: what boots leave each other on a disk

Usage: rescue state get|put DEVICE:/PATH

Not for people: the boot runs it where lifeboat.state= is on the
kernel command line. `get` prints the state; `put` reads one from
standard input and writes it over the old one. The file system is
mounted out of sight, for that moment.
";

/// Reads or writes the file.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let mut words: Vec<String> = Vec::new();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(word) => words.push(word.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["get", file] => get(&parse(file)?),
        ["put", file] => put(&parse(file)?),
        _ => Err(Usage("`get DEVICE:/PATH` or `put DEVICE:/PATH` is needed".into()).into()),
    }
}

fn parse(file: &str) -> Result<DiskFile> {
    DiskFile::parse(file).map_err(|reason| Usage(reason).into())
}

fn get(file: &DiskFile) -> Result<Exit> {
    let read =
        |access| with_file_system(file, access, |folder| state_file::read(folder, &file.path)).flatten();
    // After a power cut the newest file may be in the journal alone, which only a mount to write plays back. A disk that is
    // read-only is looked at as it is.
    let found = patiently(|| read(Access::Replay).or_else(|_| read(Access::Look)));
    let state = match found.with_context(|| format!("reading {file}"))? {
        Found::State(state) => state,
        Found::Missing => {
            eprintln!("rescue state: {file} is not there yet: no earlier boot is known");
            State::default()
        }
        Found::Damaged(reason) => {
            eprintln!("rescue state: {file} is damaged ({reason}): no earlier boot is known");
            State::default()
        }
    };
    println!("{}", serde_json::to_string(&state)?);
    Ok(Exit::Done)
}

fn put(file: &DiskFile) -> Result<Exit> {
    let mut json = Vec::new();
    let limit = u64::try_from(STATE_LIMIT)?.saturating_add(1);
    std::io::stdin().take(limit).read_to_end(&mut json).context("reading standard input")?;
    let state = State::parse(&json).map_err(|reason| anyhow!("standard input: {reason}"))?;
    let written =
        with_file_system(file, Access::Replay, |folder| state_file::update(folder, &file.path, &state))
            .flatten();
    written.with_context(|| format!("writing {file}"))?;
    Ok(Exit::Done)
}
