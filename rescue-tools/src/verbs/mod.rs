//! The verbs of `rescue`, one file for each.

pub mod boot;
pub mod console;
pub mod r#continue;
pub mod disks;
pub mod fsck;
pub mod hold;
pub mod log;
pub mod mount;
pub mod poweroff;
pub mod reboot;
pub mod save;
pub mod sshd;
pub mod sshd_session;
pub mod state;
pub mod status;
pub mod umount;
pub mod unlock;
pub mod watch;
pub mod write;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::disk::target::ClaimError;
use crate::refusal::Refused;

/// One verb.
struct Verb {
    name: &'static str,
    /// One line for the list in `rescue help`; none: not for people.
    purpose: Option<&'static str>,
    /// What `rescue help VERB` and `rescue VERB --help` print.
    help: &'static str,
    run: fn(Vec<OsString>) -> Result<Exit>,
}

/// How a verb ended: the exit codes, the same for all verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It is done, or there was nothing to do.
    Done = 0,
    /// It failed; one line on standard error says why. Something may have been changed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Refused; nothing was changed: in use, too small, no "yes".
    Refused = 3,
    /// It is done, and problems were found and left.
    Problems = 4,
}

/// The table for help texts and docs.
pub const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 wrong usage; 3 refused, nothing was
changed; 4 problems were found and left.
";

impl Exit {
    /// The code of a verb that ended with `error`: an error in the chain may decide it.
    pub fn of(error: &anyhow::Error) -> Self {
        let is_usage = error.is::<Usage>() || error.is::<lexopt::Error>();
        let is_refusal =
            error.is::<Refused>() || error.downcast_ref::<ClaimError>().is_some_and(ClaimError::is_refusal);
        match (is_usage, is_refusal) {
            (true, _) => Exit::Usage,
            (_, true) => Exit::Refused,
            _ => Exit::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

const VERBS: &[Verb] = &[
    Verb {
        name: "status",
        purpose: Some("what this machine is and where its boot stands"),
        help: status::HELP,
        run: status::run,
    },
    Verb {
        name: "watch",
        purpose: Some("one screen, live: boot, disks, load, people, log"),
        help: watch::HELP,
        run: watch::run,
    },
    Verb {
        name: "log",
        purpose: Some("what the kernel and the boot have said"),
        help: log::HELP,
        run: log::run,
    },
    Verb {
        name: "disks",
        purpose: Some("what disks there are, and what is on them"),
        help: disks::HELP,
        run: disks::run,
    },
    Verb {
        name: "fsck",
        purpose: Some("look at file systems, and repair them after a yes"),
        help: fsck::HELP,
        run: fsck::run,
    },
    Verb {
        name: "mount",
        purpose: Some("mount a file system, read-only unless told otherwise"),
        help: mount::HELP,
        run: mount::run,
    },
    Verb {
        name: "umount",
        purpose: Some("unmount a device or a folder, and all that is below"),
        help: umount::HELP,
        run: umount::run,
    },
    Verb {
        name: "unlock",
        purpose: Some("open encrypted disks (LUKS)"),
        help: unlock::HELP,
        run: unlock::run,
    },
    Verb { name: "boot", purpose: Some("go on into the OS on a disk"), help: boot::HELP, run: boot::run },
    Verb {
        name: "write",
        purpose: Some("write a disk anew from an image"),
        help: write::HELP,
        run: write::run,
    },
    Verb { name: "save", purpose: Some("image a disk, failing or not"), help: save::HELP, run: save::run },
    Verb {
        name: "hold",
        purpose: Some("keep the boot from going on to the OS"),
        help: hold::HELP,
        run: hold::run,
    },
    Verb {
        name: "continue",
        purpose: Some("let the boot go on"),
        help: r#continue::HELP,
        run: r#continue::run,
    },
    Verb { name: "reboot", purpose: Some("start the machine anew"), help: reboot::HELP, run: reboot::run },
    Verb {
        name: "poweroff",
        purpose: Some("switch the machine off"),
        help: poweroff::HELP,
        run: poweroff::run,
    },
    Verb {
        name: "sshd",
        purpose: Some("the SSH server (PID 1 starts it)"),
        help: sshd::HELP,
        run: sshd::run,
    },
    Verb {
        name: "console",
        purpose: Some("shells on the console (PID 1 starts it)"),
        help: console::HELP,
        run: console::run,
    },
    Verb { name: "sshd-session", purpose: None, help: sshd_session::HELP, run: sshd_session::run },
    Verb { name: "state", purpose: None, help: state::HELP, run: state::run },
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
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("rescue {}: {error:#}", verb.name);
            Exit::of(&error).into()
        }
    }
}

/// The book's page of all verbs.
fn print_markdown() {
    println!("# All verbs of `rescue`\n");
    println!(
        "Made by `rescue help --markdown`; a test compares. [rescue.md](rescue.md) tells more of some.\n"
    );
    println!("```text\n{}```\n", EXIT_CODES);
    for verb in VERBS {
        if let Some(purpose) = verb.purpose {
            println!("* [`rescue {0}`](#rescue-{0}): {purpose}", verb.name);
        }
    }
    for verb in VERBS.iter().filter(|verb| verb.purpose.is_some()) {
        println!("\n## rescue {}\n\n```text\n{}```", verb.name, verb.help);
    }
}

fn help(arguments: &[OsString]) -> ExitCode {
    if let Some(name) = arguments.first() {
        let name = name.to_string_lossy();
        if name == "--markdown" {
            print_markdown();
            return ExitCode::SUCCESS;
        }
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

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::refusal::refused;

    #[test]
    fn the_error_decides_the_exit_code_however_deep_it_is() {
        let usage = anyhow::Error::from(Usage("no device".into()));
        let claim = ClaimError::ReadOnly { purpose: "repair".into(), path: "/dev/sda".into() };
        for (error, exit) in [
            (usage, Exit::Usage),
            (refused("no"), Exit::Refused),
            (claim.into(), Exit::Refused),
            (ClaimError::Look { word: "sda".into(), reason: "x".into() }.into(), Exit::Failed),
            (anyhow::anyhow!("lost"), Exit::Failed),
        ] {
            let error = Err::<(), _>(error).context("one").context("two").unwrap_err();
            assert_eq!(Exit::of(&error), exit, "{error:#}");
        }
    }
}
