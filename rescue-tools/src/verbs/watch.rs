//! `rescue watch`: one screen, live.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use lexopt::prelude::*;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Usage};
use crate::kernel_log::KMSG_PATH;
use crate::log::reader::Reader;
use crate::log::record::Record;
use crate::run_dir::RunDir;
use crate::status::gather::Sources;
use crate::watch::rates::{self, Rates};
use crate::watch::sample::{Sample, look};
use crate::watch::terminal::Terminal;
use crate::watch::{json, line, screen};

/// What `rescue watch --help` prints.
pub const HELP: &str = "\
rescue watch: one screen, live

Usage: rescue watch [OPTIONS]

The boot's step with the progress of a transfer, load, memory and
temperature, what disks and network carry, who is at work and on what,
the log's last lines. It follows the window's size. q or Ctrl-C ends it.

A dumb terminal, a pipe or a file gets one line for each look.

Options:
  -n, --interval SECONDS  look so often [default: 1; 5 for lines]
      --count N           end after N looks
      --lines             lines, also on a terminal
      --json              lines of JSON with `format`: 1; rates are
                          bytes a second
      --run-dir RUN       where the boot leaves its state
                          [default: /run/lifeboat]
  -h, --help              this text

NO_COLOR in the environment: no colours.

Examples:
  ssh -t root@PI rescue watch
  ssh root@PI rescue watch --lines -n 60 >> pi.log

Exit codes: 0 done; 1 failed; 2 wrong usage.
";

/// The log's lines that a screen may need.
const LOG: usize = 200;
/// No look is so far from the next.
const LONGEST: u64 = 86_400;

#[derive(Debug, Default)]
struct Options {
    interval: Option<Duration>,
    count: Option<u64>,
    lines: bool,
    json: bool,
    run: RunDir,
}

/// Shows it until somebody has seen enough.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let options = parse(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting to watch")?;
    let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb")
        || !std::io::stdout().is_terminal()
        || !std::io::stdin().is_terminal();
    if options.json || options.lines || is_dumb {
        runtime.block_on(lines(&options))?;
    } else {
        runtime.block_on(live(&options))?;
    }
    Ok(Exit::Done)
}

fn parse(arguments: Vec<OsString>) -> Result<Options> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('n') | Long("interval") => {
                let seconds: u64 = parser.value()?.parse()?;
                if !(1..=LONGEST).contains(&seconds) {
                    return Err(Usage(format!("an interval is from 1 to {LONGEST} seconds")).into());
                }
                options.interval = Some(Duration::from_secs(seconds));
            }
            Long("count") => options.count = Some(parser.value()?.parse()?),
            Long("lines") => options.lines = true,
            Long("json") => options.json = true,
            Long("run-dir") => options.run = RunDir::new(parser.value()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

/// The looks, each with the rates since the one before.
struct Looks {
    sources: Sources,
    before: Option<Sample>,
    left: Option<u64>,
}

impl Looks {
    fn new(options: &Options) -> Self {
        let sources = Sources { run: options.run.clone(), ..Sources::default() };
        Looks { sources, before: None, left: options.count }
    }

    fn next(&mut self) -> (&Sample, Rates) {
        self.left = self.left.map(|left| left.saturating_sub(1));
        let now = look(&self.sources);
        let rates = self.before.as_ref().map(|before| rates::between(before, &now)).unwrap_or_default();
        (self.before.insert(now), rates)
    }

    /// Whether there were as many as were asked for.
    fn are_over(&self) -> bool {
        self.left == Some(0)
    }
}

async fn lines(options: &Options) -> Result<()> {
    let mut looks = Looks::new(options);
    let mut tick = tokio::time::interval(options.interval.unwrap_or(Duration::from_secs(5)));
    while !looks.are_over() {
        tick.tick().await;
        let (sample, rates) = looks.next();
        let mut text =
            if options.json { json::object(sample, &rates).to_string() } else { line::line(sample, &rates) };
        text.push('\n');
        let written = std::io::stdout().write_all(text.as_bytes());
        match written {
            // Whoever reads has had enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("writing to standard output")?,
        }
    }
    Ok(())
}

async fn live(options: &Options) -> Result<()> {
    let colour = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let mut terminal = Terminal::open()?;
    let mut resized = signal(SignalKind::window_change()).context("watching the window's size")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    let mut terminated = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut hung_up = signal(SignalKind::hangup()).context("watching for SIGHUP")?;
    let mut tick = tokio::time::interval(options.interval.unwrap_or(Duration::from_secs(1)));
    let mut looks = Looks::new(options);
    let mut log = Log::open();
    while !looks.are_over() {
        tokio::select! {
            _ = tick.tick() => {
                let (sample, rates) = looks.next();
                log.follow();
                let size = terminal.size();
                let rows = screen::draw(sample, &rates, log.records.make_contiguous(), size, colour);
                terminal.draw(&rows, size).context("writing to the terminal")?;
            }
            _ = resized.recv() => tick.reset_immediately(),
            key = terminal.key() => if matches!(key, None | Some(b'q' | b'Q')) {
                return Ok(());
            },
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
        }
    }
    Ok(())
}

/// The log's last lines; none where it cannot be read.
struct Log {
    reader: Option<Reader>,
    records: VecDeque<Record>,
}

impl Log {
    fn open() -> Self {
        Log { reader: Reader::open(Path::new(KMSG_PATH)).ok(), records: VecDeque::new() }
    }

    fn follow(&mut self) {
        while let Some(Ok(Some(record))) = self.reader.as_mut().map(Reader::next_record) {
            self.records.push_back(record);
            if self.records.len() > LOG {
                self.records.pop_front();
            }
        }
    }
}
