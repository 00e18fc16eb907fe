//! `rescue`: the thin program over the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    rescue_tools::verbs::run(std::env::args_os().skip(1).collect())
}
