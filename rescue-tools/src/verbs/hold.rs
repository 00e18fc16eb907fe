//! `rescue hold`: keeps the boot from going on.

use std::ffi::OsString;

use anyhow::Result;
use lexopt::prelude::*;
use serde_json::json;

use super::Exit;
use crate::hold::hold;
use crate::people::{myself, people};
use crate::run_dir::RunDir;
use crate::status::gather::boot_status;

/// What `rescue hold --help` prints.
pub const HELP: &str = "\
rescue hold: keep the boot from going on to the OS

Usage: rescue hold [--json] [--run-dir RUN]

The boot goes through its steps, and then waits before the hand-over
until `rescue continue`. It waits also when you log out or the line
drops, and the machine does not start anew by itself meanwhile. The
console, `rescue status` and the boot server say who holds it.

A boot that is meant to be held from the start has `rd.break` on its
kernel command line.

Options:
  --json         one JSON object with `format`: 1, `held`, `by`, `boot`
  --run-dir RUN  where the boot leaves its state
                 [default: /run/lifeboat]
  -h, --help     this text

Exit codes: 0 done; 1 failed; 2 wrong usage.
";

/// Sets the mark.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let mut json = false;
    let mut run = RunDir::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("json") => json = true,
            Long("run-dir") => run = RunDir::new(parser.value()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let by = hold(&run, &myself(&people(&run)))?;
    let boot = boot_status(&run);
    if json {
        println!("{}", json!({ "format": 1, "held": true, "by": by, "boot": boot }));
        return Ok(Exit::Done);
    }
    println!("Held by {by}.");
    match boot {
        Some(boot) if boot.step == init::steps::RESCUE => {
            println!("This boot stays in the rescue anyway; the hold counts should it go on.");
        }
        Some(boot) => {
            println!("Goal: {}. Step {}/{}: {}.", boot.goal, boot.number, boot.total, boot.step);
            println!("`rescue continue` lets it go on.");
        }
        None => println!("`rescue continue` lets it go on."),
    }
    Ok(Exit::Done)
}
