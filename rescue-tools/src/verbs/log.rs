//! `rescue log`: the kernel's log and ours.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lexopt::prelude::*;

use super::{Exit, Usage};
use crate::kernel_log::KMSG_PATH;
use crate::log::reader::Reader;
use crate::log::record::{Level, Record};
use crate::log::{pstore, text};
use crate::replace_file::replace_file;
use crate::run_dir::RunDir;

/// What `rescue log --help` prints.
pub const HELP: &str = "\
rescue log: what the kernel and the boot have said, from the start

Usage: rescue log [OPTIONS]

One log has it all: the kernel's messages, and those of PID 1, the boot,
the network and the SSH server (`lifeboat…: `). Each line: seconds since
the kernel's start, level, message.

Options:
  -f, --follow      then go on with what comes, until Ctrl-C
      --boot        only what programs said: the boot, the SSH server, …
      --kernel      only what the kernel itself said
  -l, --level LEVEL only this level and worse: emerg, alert, crit, err,
                    warn, notice, info, debug
      --json        one JSON object in a line for each message, with
                    `format`: 1, `sequence`, `time_us`, `level`,
                    `facility`, `program`, `device`, `message`
      --crash       what an earlier crash left instead of this boot's log
  -o, --output FILE into a file instead of standard output
      --kmsg PATH   another log [default: /dev/kmsg]
      --run-dir RUN where the boot leaves its state
                    [default: /run/lifeboat]
  -h, --help        this text

The kernel keeps the last part of a long log; standard error says how
many messages are lost, and whether an earlier crash left something.

Examples:
  rescue log -l warn               what went wrong
  ssh root@PI rescue log > pi.log  the whole log, on your own machine

Exit codes: 0 done; 1 the log could not be read or written; 2 wrong
usage.
";

#[derive(Debug, Default)]
struct Options {
    follow: bool,
    json: bool,
    boot: bool,
    kernel: bool,
    crash: bool,
    run: RunDir,
    level: Option<Level>,
    output: Option<PathBuf>,
    kmsg: Option<PathBuf>,
}

/// Prints the log.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let options = parse(arguments)?;
    if options.crash {
        return show_crash(&options);
    }
    let mut reader = Reader::open(options.kmsg.as_deref().unwrap_or(Path::new(KMSG_PATH)))?;
    match &options.output {
        Some(path) => {
            let mut bytes = Vec::new();
            print(&mut reader, &options, false, &mut bytes)?;
            replace_file(path, &bytes, 0o644)?;
        }
        None => {
            let colour = std::io::stdout().is_terminal()
                && !options.json
                && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
            let printed = print(&mut reader, &options, colour, &mut std::io::stdout().lock());
            if !is_broken_pipe(&printed) {
                printed?;
            }
        }
    }
    if reader.lost() > 0 {
        eprintln!("rescue log: {} messages are lost: the kernel had no room for them", reader.lost());
    }
    if let Some(hint) = pstore::hint(&options.run.pstore()) {
        eprintln!("rescue log: {hint}");
    }
    Ok(Exit::Done)
}

fn show_crash(options: &Options) -> Result<Exit> {
    let folder = options.run.pstore();
    let found = match &options.output {
        Some(path) => {
            let mut bytes = Vec::new();
            let found = pstore::print(&folder, &mut bytes)?;
            replace_file(path, &bytes, 0o644)?;
            found
        }
        None => {
            let printed = pstore::print(&folder, &mut std::io::stdout().lock());
            if is_broken_pipe(&printed) { true } else { printed? }
        }
    };
    if !found {
        eprintln!("rescue log: no earlier crash left anything, or this machine has no place for it");
    }
    Ok(Exit::Done)
}

fn parse(arguments: Vec<OsString>) -> Result<Options> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('f') | Long("follow") => options.follow = true,
            Long("json") => options.json = true,
            Long("boot") => options.boot = true,
            Long("kernel") => options.kernel = true,
            Long("crash") => options.crash = true,
            Long("run-dir") => options.run = RunDir::new(parser.value()?),
            Short('l') | Long("level") => options.level = Some(parser.value()?.parse()?),
            Short('o') | Long("output") => options.output = Some(parser.value()?.into()),
            Long("kmsg") => options.kmsg = Some(parser.value()?.into()),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if options.boot && options.kernel {
        return Err(Usage("--boot and --kernel together leave nothing out: give one or none".into()).into());
    }
    if options.crash
        && (options.follow || options.json || options.boot || options.kernel || options.level.is_some())
    {
        return Err(Usage(
            "--crash shows another boot's words, as they are: only --output goes with it".into(),
        )
        .into());
    }
    if options.follow && options.output.is_some() {
        return Err(Usage("--follow has no end, so that the file would never be complete".into()).into());
    }
    Ok(options)
}

fn print(reader: &mut Reader, options: &Options, colour: bool, out: &mut impl Write) -> Result<()> {
    loop {
        while let Some(record) = reader.next_record()? {
            if wanted(&record, options) {
                let mut line = if options.json {
                    serde_json::to_string(&record).context("writing a message as JSON")?
                } else {
                    text::line(&record, colour)
                };
                if options.json {
                    line.push('\n');
                }
                out.write_all(line.as_bytes()).context("writing the log")?;
            }
        }
        out.flush().context("writing the log")?;
        if !options.follow {
            return Ok(());
        }
        reader.wait()?;
    }
}

fn wanted(record: &Record, options: &Options) -> bool {
    let source = if record.is_kernel() { !options.boot } else { !options.kernel };
    source && options.level.is_none_or(|level| record.level <= level)
}

/// Whoever reads has had enough: no failure.
fn is_broken_pipe<T>(printed: &Result<T>) -> bool {
    let kind = |error: &anyhow::Error| error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    printed.as_ref().is_err_and(|error| kind(error) == Some(std::io::ErrorKind::BrokenPipe))
}
