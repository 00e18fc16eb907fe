//! The order of an end: options, where to, what stands in the way, a yes, the word to PID 1. The same for `rescue reboot`
//! and `rescue poweroff`.

use std::ffi::OsString;

use anyhow::{Result, anyhow};
use lexopt::prelude::*;
use serde_json::json;

use super::in_the_way::{self, Obstacle};
use super::into::{Board, Into};
use super::pid1::{self, End};
use crate::confirm::confirm;
use crate::replace_file::replace_file;
use crate::run_dir::RunDir;
use crate::verbs::{Exit, Usage};

#[derive(Debug, Default)]
struct Options {
    into: Option<Into>,
    yes: bool,
    dry_run: bool,
    json: bool,
    run: RunDir,
}

/// Ends the machine.
///
/// # Errors
/// Where `--into` is not possible, nobody said yes, or PID 1 cannot be told.
pub fn run(how: End, arguments: Vec<OsString>) -> Result<Exit> {
    let options = parse(how, arguments)?;
    let argument = options.into.map(|into| Board::here().argument(into)).transpose()?;
    let obstacles = in_the_way::find(&options.run);
    if !obstacles.is_empty() {
        eprintln!("In the way:");
        obstacles.iter().for_each(|obstacle| eprintln!("  {obstacle}"));
    }
    let done = match how {
        _ if options.dry_run => "Nothing is done (--dry-run).",
        End::Reboot => "The machine starts anew. This session ends.",
        End::PowerOff => "The machine switches itself off. This session ends.",
    };
    if !options.dry_run {
        if !obstacles.is_empty() {
            confirm(&question(how, &obstacles), options.yes)?;
        }
        if let Some(argument) = &argument {
            replace_file(&options.run.reboot_argument(), format!("{argument}\n").as_bytes(), 0o644)?;
        }
        pid1::end(how)?;
    }
    if options.json {
        let told = !options.dry_run;
        println!("{}", json!({ "format": 1, "in_the_way": obstacles, "argument": argument, "told": told }));
    } else {
        println!("{done}");
    }
    Ok(Exit::Done)
}

fn question(how: End, obstacles: &[Obstacle]) -> String {
    let what = if how == End::Reboot { "Reboot" } else { "Power off" };
    let writes = obstacles.iter().any(|obstacle| matches!(obstacle, Obstacle::Write { .. }));
    let warning = if writes { " A write that is cut off leaves half of it on the disk." } else { "" };
    format!("{what} all the same?{warning}")
}

fn parse(how: End, arguments: Vec<OsString>) -> Result<Options> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("into") if how == End::Reboot => {
                let text = parser.value()?.string()?;
                options.into = Some(text.parse().map_err(|error| anyhow!(Usage(error)))?);
            }
            Long("yes") => options.yes = true,
            Long("dry-run") => options.dry_run = true,
            Long("json") => options.json = true,
            Long("run-dir") => options.run = RunDir::new(parser.value()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}
