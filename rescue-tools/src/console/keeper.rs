//! Stays on each terminal of the console: says how to get a shell to whoever presses Enter, and gives one to whom the
//! policy allows. It answers; it never asks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use init::plan::Console as Policy;

use super::challenge::{BEGIN, Challenge, END, SIGNATURE_LIMIT};
use super::shell;
use super::terminal::{Terminal, consoles};
use crate::kernel_log::KernelLog;
use crate::people::CONSOLE_PREFIX;
use crate::run_dir::RunDir;
use crate::sshd::authorized_keys::AuthorizedKeys;
use crate::sshd::oom;
use crate::status::{gather, text};

/// A terminal that is gone is looked for again after so long.
const AGAIN: Duration = Duration::from_secs(2);
/// What opens a console of the policy `open`. A word and not just Enter: a serial line that ends in the air types, too.
const WORD: &str = "rescue";

/// What the service is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who gets a shell.
    pub policy: Policy,
    /// The terminals below `/dev`; empty: the kernel's consoles.
    pub terminals: Vec<PathBuf>,
    /// The keys that may log in.
    pub authorized_keys: PathBuf,
    /// The shell.
    pub shell: PathBuf,
    /// `/run/lifeboat`.
    pub run: RunDir,
    /// The kernel's log.
    pub kmsg: PathBuf,
}

/// Serves the terminals for ever.
///
/// # Errors
/// When no thread can be started.
pub fn run(settings: &Settings) -> Result<()> {
    oom::inherit_less(oom::SERVICE);
    let log = KernelLog::new(settings.kmsg.clone(), "lifeboat-console");
    sweep(&settings.run);
    let mut terminals = settings.terminals.clone();
    if terminals.is_empty() {
        terminals.extend(consoles().iter().map(|name| Path::new("/dev").join(name)));
    }
    let names: Vec<String> = terminals.iter().map(|path| path.display().to_string()).collect();
    let names = names.join(", ");
    match settings.policy {
        Policy::Off => log.say("no shell on the console (lifeboat.console=off)"),
        Policy::Open => log.say(format!("{names}: type \"{WORD}\" and Enter for a shell")),
        Policy::Key => {
            log.say(format!("{names}: press Enter for a shell, with a key that may log in by SSH"))
        }
    }
    if settings.policy != Policy::Off {
        for path in terminals {
            let (settings, log) = (settings.clone(), log.clone());
            let keep = move || keep(&settings, &log, &path);
            std::thread::Builder::new().spawn(keep).context("starting a thread for a terminal")?;
        }
    }
    // PID 1 would start again what ends.
    loop {
        std::thread::park();
    }
}

/// Marks of shells that a service before this one left.
fn sweep(run: &RunDir) {
    for entry in std::fs::read_dir(run.sessions()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(CONSOLE_PREFIX) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn keep(settings: &Settings, log: &KernelLog, path: &Path) {
    loop {
        if let Ok(mut terminal) = Terminal::open(path)
            && let Some(by) = wait_for_someone(settings, &mut terminal)
        {
            log.say(format!("{}: a shell {by}", path.display()));
            terminal.say(&greeting(settings));
            if let Err(error) = shell::run(&settings.shell, &terminal, &settings.run) {
                log.say(format!("{}: {error:#}", path.display()));
            }
            log.say(format!("{}: the shell has ended", path.display()));
        } else {
            std::thread::sleep(AGAIN);
        }
    }
}

/// Gives the reason for which somebody gets a shell. None: the terminal is gone.
fn wait_for_someone(settings: &Settings, terminal: &mut Terminal) -> Option<String> {
    let mut said = Said::default();
    match settings.policy {
        Policy::Off => None,
        Policy::Open => loop {
            let line = terminal.line()?;
            if line == WORD {
                return Some("(lifeboat.console=open)".into());
            }
            said.at_most_now_and_then(|| {
                terminal.say(&format!("Pi Lifeboat: type \"{WORD}\" and Enter for a shell.\n"))
            });
        },
        Policy::Key => {
            let mut challenge = None;
            loop {
                let line = terminal.line()?;
                if line != BEGIN {
                    said.at_most_now_and_then(|| challenge = offer(terminal));
                    continue;
                }
                let signature = rest_of_signature(terminal)?;
                let keys = AuthorizedKeys::read(&settings.authorized_keys).unwrap_or_default();
                let checked = match challenge.take() {
                    Some(challenge) => Challenge::check(challenge, &signature, &keys),
                    None => Err("nothing was to be signed: press Enter first".into()),
                };
                match checked {
                    Ok(fingerprint) => return Some(format!("for the key {fingerprint}")),
                    Err(reason) => terminal.say(&format!("This signature opens nothing: {reason}.\n")),
                }
                said = Said::default();
            }
        }
    }
}

/// Says what to sign.
fn offer(terminal: &Terminal) -> Option<Challenge> {
    let machine = gather::gather(&gather::Sources::default()).machine;
    let challenge = Challenge::new(&machine.serial).ok()?;
    terminal.say(&format!(
        "Pi Lifeboat: for a shell, sign this on your own machine with a key that may log in,\n\
         and paste here what it prints:\n\n  {}\n\n",
        challenge.command()
    ));
    Some(challenge)
}

fn rest_of_signature(terminal: &mut Terminal) -> Option<String> {
    let mut signature = format!("{BEGIN}\n");
    while signature.len() < SIGNATURE_LIMIT {
        let line = terminal.line()?;
        signature.push_str(&line);
        signature.push('\n');
        if line == END {
            break;
        }
    }
    Some(signature)
}

/// As a login by SSH sees it.
fn greeting(settings: &Settings) -> String {
    let sources = gather::Sources { run: settings.run.clone(), ..gather::Sources::default() };
    text::render(&gather::gather(&sources), false)
}

/// Noise on a line must not fill the console.
#[derive(Default)]
struct Said(Option<Instant>);

impl Said {
    fn at_most_now_and_then(&mut self, say: impl FnOnce()) {
        if self.0.is_none_or(|last| last.elapsed() > AGAIN) {
            self.0 = Some(Instant::now());
            say();
        }
    }
}
