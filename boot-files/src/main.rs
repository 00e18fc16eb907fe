//! `boot-files`: makes what a Pi loads, looks inside it, signs it.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
