//! `rescue continue`: lets the boot go on.

use std::ffi::OsString;

use anyhow::Result;
use lexopt::prelude::*;
use serde_json::json;

use super::Exit;
use crate::confirm::confirm;
use crate::hold::go_on;
use crate::people::{Person, people};
use crate::run_dir::RunDir;
use crate::status::gather::boot_status;

/// What `rescue continue --help` prints.
pub const HELP: &str = "\
rescue continue: let the boot go on

Usage: rescue continue [--now] [OPTIONS]

Takes a hold away (`rescue hold`, `rd.break`). A hand-over to the OS ends
every session, so it waits for whoever is logged in: yours does not
count any more from here on, others still do. A hand-over that failed is
tried again.

Options:
  --now          do not wait for the others either: their work is cut
                 off. They are named, and you are asked
  --yes          do not ask
  --dry-run      only say for whom the boot would wait
  --json         one JSON object with `format`: 1, `was_held`,
                 `had_failed`, `waits_for`, `boot`
  --run-dir RUN  where the boot leaves its state
                 [default: /run/lifeboat]
  -h, --help     this text

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 refused, nothing was
changed.
";

#[derive(Debug, Default)]
struct Options {
    now: bool,
    yes: bool,
    dry_run: bool,
    json: bool,
    run: RunDir,
}

/// Sets the mark.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let options = parse(arguments)?;
    let all: Vec<Person> = people(&options.run).into_iter().filter(|person| !person.is_hold()).collect();
    // Under a multiplexer nothing leads from here to the session; whoever is alone is meant.
    let is_own = |person: &Person| person.own || all.len() == 1;
    let (own, others): (Vec<&Person>, Vec<&Person>) = all.iter().partition(|person| is_own(person));
    let waits_for: &[&Person] = if options.now { &[] } else { &others };
    if options.dry_run {
        return Ok(report(&options, None, waits_for));
    }
    let mut excepted = own;
    if options.now {
        if !others.is_empty() {
            let list: Vec<String> = others.iter().map(|person| person.describe()).collect();
            confirm(&format!("This ends what others do here: {}. Go on?", list.join("; ")), options.yes)?;
        }
        excepted.extend(&others);
    }
    let went_on = go_on(&options.run, &excepted)?;
    Ok(report(&options, Some(went_on), waits_for))
}

fn parse(arguments: Vec<OsString>) -> Result<Options> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("now") => options.now = true,
            Long("yes") => options.yes = true,
            Long("dry-run") => options.dry_run = true,
            Long("json") => options.json = true,
            Long("run-dir") => options.run = RunDir::new(parser.value()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

/// Says what was done, or would be where nothing `went_on`.
fn report(options: &Options, went_on: Option<crate::hold::WentOn>, waits_for: &[&Person]) -> Exit {
    let boot = boot_status(&options.run);
    let was_held = went_on.map_or_else(|| options.run.hold().exists(), |went_on| went_on.was_held);
    let had_failed =
        went_on.map_or_else(|| options.run.hand_over_failed().exists(), |went_on| went_on.had_failed);
    if options.json {
        let object = json!({
            "format": 1,
            "was_held": was_held,
            "had_failed": had_failed,
            "waits_for": waits_for,
            "boot": boot,
        });
        println!("{object}");
        return Exit::Done;
    }
    if went_on.is_none() {
        println!("Nothing is changed (--dry-run).");
    }
    if was_held {
        println!("The hold {}.", if went_on.is_some() { "is gone" } else { "would go" });
    }
    if had_failed {
        println!("The hand-over that failed is tried again.");
    }
    match boot {
        Some(boot) if boot.step == init::steps::RESCUE => {
            println!("This boot has no OS to go on to: it stays in the rescue.");
        }
        Some(boot) => {
            println!("Goal: {}. Step {}/{}: {}.", boot.goal, boot.number, boot.total, boot.step);
            println!("This session ends when the OS takes over.");
        }
        None => {}
    }
    for person in waits_for {
        println!("Still waiting for {}", person.describe());
    }
    if !waits_for.is_empty() {
        println!("until they log out (`rescue continue --now` does not wait).");
    }
    Exit::Done
}
