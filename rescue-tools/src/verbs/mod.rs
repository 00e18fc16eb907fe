//! The verbs of `rescue`, one file for each.

pub mod log;
pub mod sshd;
pub mod sshd_session;
pub mod status;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

/// One verb.
struct Verb {
    name: &'static str,
    /// One line for the list in `rescue help`; none: not for people.
    purpose: Option<&'static str>,
    /// What `rescue help VERB` and `rescue VERB --help` print.
    help: &'static str,
    run: fn(Vec<OsString>) -> Result<ExitCode>,
}

const VERBS: &[Verb] = &[
    Verb {
        name: "status",
        purpose: Some("what this machine is and where its boot stands"),
        help: status::HELP,
        run: status::run,
    },
    Verb {
        name: "log",
        purpose: Some("what the kernel and the boot have said"),
        help: log::HELP,
        run: log::run,
    },
    Verb {
        name: "sshd",
        purpose: Some("the SSH server (PID 1 starts it)"),
        help: sshd::HELP,
        run: sshd::run,
    },
    Verb { name: "sshd-session", purpose: None, help: sshd_session::HELP, run: sshd_session::run },
];

/// Wrong usage, as opposed to a verb that failed: the exit code is 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Usage {}

/// Runs `rescue ARGUMENTS`.
pub fn run(mut arguments: Vec<OsString>) -> ExitCode {
    let word = if arguments.is_empty() { "help".into() } else { arguments.remove(0) };
    let word = word.to_string_lossy();
    match word.as_ref() {
        "help" | "--help" | "-h" => help(&arguments),
        "--version" | "-V" => {
            println!("rescue {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        name => match VERBS.iter().find(|verb| verb.name == name) {
            Some(verb) => run_verb(verb, arguments),
            None => unknown(name),
        },
    }
}

fn run_verb(verb: &Verb, arguments: Vec<OsString>) -> ExitCode {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{}", verb.help);
        return ExitCode::SUCCESS;
    }
    match (verb.run)(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rescue {}: {error:#}", verb.name);
            ExitCode::from(if error.is::<Usage>() || error.is::<lexopt::Error>() { 2 } else { 1 })
        }
    }
}

fn help(arguments: &[OsString]) -> ExitCode {
    if let Some(name) = arguments.first() {
        let name = name.to_string_lossy();
        return match VERBS.iter().find(|verb| verb.name == name) {
            Some(verb) => {
                print!("{}", verb.help);
                ExitCode::SUCCESS
            }
            None => unknown(&name),
        };
    }
    println!("rescue: look at, repair and start this machine\n\nUsage: rescue VERB [OPTIONS]\n\nVerbs:");
    for verb in VERBS {
        if let Some(purpose) = verb.purpose {
            println!("  {:<8} {purpose}", verb.name);
        }
    }
    println!("  {:<8} this text; with a verb: its options\n\n`rescue --version` prints the version.", "help");
    ExitCode::SUCCESS
}

fn unknown(name: &str) -> ExitCode {
    let verbs: Vec<&str> =
        VERBS.iter().filter(|verb| verb.purpose.is_some()).map(|verb| verb.name).chain(["help"]).collect();
    eprintln!("rescue: there is no verb {name:?}; there are: {}", verbs.join(", "));
    ExitCode::from(2)
}
