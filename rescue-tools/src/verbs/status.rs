//! `rescue status`: what this machine is and where its boot stands.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use lexopt::prelude::*;

use super::Exit;
use crate::run_dir::RunDir;
use crate::status::{gather, text};

/// What `rescue status --help` prints.
pub const HELP: &str = "\
rescue status: what this machine is and where its boot stands

Usage: rescue status [--json] [--run-dir RUN]

Shows machine, addresses, disks, the boot's goal and step, its last
error, what happens next, and the SSH host key's fingerprint.

Options:
  --json         one JSON object with `format`: 1
  --run-dir RUN  where the boot leaves its state
                 [default: /run/lifeboat]
  -h, --help     this text

NO_COLOR in the environment, or an output that is no terminal: plain
text.
";

/// Prints the status.
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
    let status = gather::gather(&gather::Sources { run, ..gather::Sources::default() });
    let output = if json {
        let mut line = serde_json::to_string(&status).context("writing the status as JSON")?;
        line.push('\n');
        line
    } else {
        let colour =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        text::render(&status, colour)
    };
    std::io::stdout().write_all(output.as_bytes()).context("writing to standard output")?;
    Ok(Exit::Done)
}
