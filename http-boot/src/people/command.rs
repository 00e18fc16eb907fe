//! `http-boot user` and `http-boot token`: people and tokens from the command line, beside a running server or not.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Name, Role, password, secret};
use crate::store::audit::{self, Entry};
use crate::store::{Store, from_millis, people, tokens};

/// Where the database is.
#[derive(clap::Args)]
pub struct State {
    /// The folder of the server's database, as in `serve --state`.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
}

/// People.
#[derive(clap::Subcommand)]
pub enum UserCommand {
    /// Add somebody. Asks for the password, or reads it from standard input where that is no terminal.
    Add {
        /// The name to log in with.
        name: Name,
        /// What they may do.
        #[arg(long)]
        role: Role,
        /// Where the database is.
        #[command(flatten)]
        state: State,
    },
    /// Show who there is.
    List {
        /// Where the database is.
        #[command(flatten)]
        state: State,
    },
    /// Remove somebody, and end their sessions.
    Remove {
        /// Who.
        name: Name,
        /// Where the database is.
        #[command(flatten)]
        state: State,
    },
    /// Set another password, and end the person's sessions.
    Password {
        /// Whose.
        name: Name,
        /// Where the database is.
        #[command(flatten)]
        state: State,
    },
}

/// API tokens.
#[derive(clap::Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it. It is shown only this once.
    Add {
        /// What to call it.
        name: Name,
        /// What its holder may do.
        #[arg(long)]
        role: Role,
        /// Where the database is.
        #[command(flatten)]
        state: State,
    },
    /// Show which there are.
    List {
        /// Where the database is.
        #[command(flatten)]
        state: State,
    },
    /// Remove a token: it is refused from now on.
    Remove {
        /// Which.
        name: Name,
        /// Where the database is.
        #[command(flatten)]
        state: State,
    },
}

/// Runs `http-boot user …`.
///
/// # Errors
/// When the database or the terminal cannot be used, or the name is taken or unknown.
pub fn user(command: UserCommand) -> Result<()> {
    match command {
        UserCommand::Add { name, role, state } => {
            let store = Store::open(&state.state)?;
            let hash = password::hash(&read_password(&name)?)?;
            store.change(|t| {
                people::add(t, &name, role, &hash)?;
                log(t, "user add", &name, role.as_str())
            })?;
            print(format_args!("{name} may {} now", role.as_str()))
        }
        UserCommand::List { state } => {
            for person in existing(&state.state)?.read(|t| people::list(t))? {
                let since = humantime::format_rfc3339_seconds(from_millis(person.created));
                print(format_args!("{:32} {:8} since {since}", person.name, person.role.as_str()))?;
            }
            Ok(())
        }
        UserCommand::Remove { name, state } => {
            existing(&state.state)?.change(|t| {
                people::remove(t, &name)?;
                log(t, "user remove", &name, "")
            })?;
            print(format_args!("{name} is removed"))
        }
        UserCommand::Password { name, state } => {
            let store = existing(&state.state)?;
            if store.read(|t| people::find(t, &name))?.is_none() {
                bail!("there is nobody named {name}: `http-boot user list` shows who there is");
            }
            let hash = password::hash(&read_password(&name)?)?;
            store.change(|t| {
                people::set_password(t, &name, &hash)?;
                log(t, "user password", &name, "")
            })?;
            print(format_args!("{name} has another password; their sessions have ended"))
        }
    }
}

/// Runs `http-boot token …`.
///
/// # Errors
/// When the database cannot be used, or the name is taken or unknown.
pub fn token(command: TokenCommand) -> Result<()> {
    match command {
        TokenCommand::Add { name, role, state } => {
            let token = secret::new_token()?;
            Store::open(&state.state)?.change(|t| {
                tokens::add(t, &name, role, &secret::hash(&token))?;
                log(t, "token add", &name, role.as_str())
            })?;
            print(token)
        }
        TokenCommand::List { state } => {
            for token in existing(&state.state)?.read(|t| tokens::list(t))? {
                let used = token.last_used.map_or("never used".into(), |at| {
                    format!("last used {}", humantime::format_rfc3339_seconds(from_millis(at)))
                });
                print(format_args!("{:32} {:8} {used}", token.name, token.role.as_str()))?;
            }
            Ok(())
        }
        TokenCommand::Remove { name, state } => {
            existing(&state.state)?.change(|t| {
                tokens::remove(t, &name)?;
                log(t, "token remove", &name, "")
            })?;
            print(format_args!("the token {name} is removed"))
        }
    }
}

/// Opens a state folder that is there: a mistyped one shall not be made.
fn existing(folder: &Path) -> Result<Store> {
    if !folder.is_dir() {
        bail!("{} is no folder: name the one of `http-boot serve --state`", folder.display());
    }
    Store::open(folder)
}

fn log(connection: &rusqlite::Connection, action: &str, name: &Name, detail: &str) -> Result<()> {
    let who = format!("command line (uid {})", rustix::process::getuid().as_raw());
    audit::add(connection, &Entry { who: &who, address: "", action, subject: name.as_str(), detail })
}

fn print(line: impl std::fmt::Display) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("writing to standard output")
}

/// Asks twice on a terminal; takes one line from anything else. Never an argument: other users of the machine see those.
fn read_password(name: &Name) -> Result<String> {
    let input = std::io::stdin();
    if input.is_terminal() {
        let ask = |prompt: String| rpassword::prompt_password(prompt).context("reading the password");
        let first = ask(format!("Password for {name}: "))?;
        if first != ask("The same again: ".into())? {
            bail!("the two are not the same; nothing was changed");
        }
        return Ok(first);
    }
    let mut line = String::new();
    let limit = password::LONGEST as u64 + 2;
    input.lock().take(limit).read_line(&mut line).context("reading the password from standard input")?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
