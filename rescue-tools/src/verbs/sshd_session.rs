//! `rescue sshd-session`: one connection of `rescue sshd`, in a process of its own.

use std::ffi::OsString;

use anyhow::Result;

use super::Exit;
use crate::sshd::{session, settings};

/// What `rescue sshd-session --help` prints.
pub const HELP: &str = "\
rescue sshd-session: one connection of `rescue sshd`

Not for people: `rescue sshd` starts it, with the TCP connection as
standard input and a socket to itself as standard output.
";

/// Serves the connection until it ends.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    session::run(settings::parse(arguments)?)?;
    Ok(Exit::Done)
}
