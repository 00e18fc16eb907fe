//! `boot-files`: makes what a Pi loads, looks inside it, signs it.

use boot_files::build;
use boot_files::eeprom;
use boot_files::inspect::{cat, ls, unpack};
use boot_files::keys::{keygen, sign, verify};
use boot_files::os;
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Make what a Raspberry Pi loads from the network, look inside it, sign it.
#[derive(Parser)]
#[command(name = "boot-files", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build an image.
    Build(build::Args),
    /// List what is in an image.
    Ls(ls::Args),
    /// Print a file of an image.
    Cat(cat::Args),
    /// Unpack an image.
    Unpack(unpack::Args),
    /// Make an OS image that Pis boot into RAM.
    Os(os::Args),
    /// Read, change and check bootloader EEPROM images.
    Eeprom(eeprom::Args),
    /// Make a key pair.
    Keygen(keygen::Args),
    /// Sign a file.
    Sign(sign::Args),
    /// Check a file's signature.
    Verify(verify::Args),
    /// Print the shell's completion script.
    Completions {
        /// The shell to complete for.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("boot-files: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Build(args) => build::run(args),
        Command::Ls(args) => ls::run(args),
        Command::Cat(args) => cat::run(args),
        Command::Unpack(args) => unpack::run(args),
        Command::Os(args) => os::run(args),
        Command::Eeprom(args) => eeprom::run(args),
        Command::Keygen(args) => keygen::run(args),
        Command::Sign(args) => sign::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Completions { shell } => {
            print_completions(shell);
            Ok(())
        }
    }
}

/// Prints what a shell completes. clap_complete 4.6 makes two names of a program's with a hyphen, so that bash finds no flag
/// behind a command (`tests/completions.rs`).
fn print_completions(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "boot-files", &mut script);
    print!("{}", String::from_utf8_lossy(&script).replace("boot__subcmd__files", "boot__files"));
}
