//! `init`: PID 1 of a Pi Lifeboat image, and the children that do its work.

use std::process::ExitCode;

use init::cmdline::CommandLine;
use init::pid1::network::Places;
use init::pid1::{boot, devices, flush, get, kernel_log, kmsg, network, supervisor, sweep};
use init::plan::Plan;
use init::status::NETWORK_STATUS_PATH;

const HELP: &str = "\
init: PID 1 of a Pi Lifeboat image

On the device, PID 1 runs it; by hand, on any host:
  init --explain 'CMDLINE'   say what a boot with this kernel command line would do
                             (exit code 1: some word was not understood)
  init --help | --version
Started by PID 1 only: boot, devices, log, network, flush, sweep; by `rescue write`: get.
";

fn main() -> ExitCode {
    if std::process::id() == 1 {
        supervisor::run();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--explain", line] => explain(line),
        ["--version"] => say(concat!("init ", env!("CARGO_PKG_VERSION"), "\n")),
        [] | ["--help" | "-h"] => say(HELP),
        ["boot"] => child("lifeboat", || boot::run()),
        ["devices"] => child("lifeboat-devices", devices::run),
        ["log"] => log(),
        ["network"] => child("lifeboat-network", || network::run(&command_line(), places())),
        ["get", more @ ..] => fetch(more),
        ["flush"] => child("lifeboat-flush", || flush::run(&command_line())),
        ["sweep"] => child("lifeboat-sweep", sweep::run),
        other => {
            eprintln!("init: {:?} is not understood; see init --help", other.join(" "));
            ExitCode::from(2)
        }
    }
}

/// A child's whole life: where its messages go, its work, and the one line on why it ended.
fn child(name: &'static str, work: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    kmsg::start(name);
    init::pid1::become_service();
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// It has nothing (more) to do where the command line asks for no log, or only for what the kernel sends by itself.
fn log() -> ExitCode {
    let log = Plan::parse(&CommandLine::parse(&command_line())).kernel_log;
    match child("lifeboat-log", || kernel_log::run(log)) {
        ExitCode::SUCCESS => ExitCode::from(supervisor::NOTHING_TO_DO),
        failure => failure,
    }
}

/// For another program, which has our standard output and error.
fn fetch(arguments: &[&str]) -> ExitCode {
    // Warnings go to the kernel's log: standard error is for the one line on why it failed.
    kmsg::start("lifeboat-get");
    match get::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("init: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command_line() -> String {
    std::fs::read_to_string("/proc/cmdline").unwrap_or_default()
}

fn places() -> Places {
    Places { status: NETWORK_STATUS_PATH.into(), resolv_conf: "/etc/resolv.conf".into() }
}

fn explain(line: &str) -> ExitCode {
    let (text, understood) = init::explain::explain(line);
    print!("{text}");
    if understood { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}
