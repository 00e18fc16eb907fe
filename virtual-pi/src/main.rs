//! `virtual-pi`: the command line.

use std::process::ExitCode;

use clap::Parser;
use virtual_pi::cli::Arguments;
use virtual_pi::commands;

fn main() -> ExitCode {
    match commands::run(&Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("virtual-pi: {error:#}");
            ExitCode::FAILURE
        }
    }
}
