//! `rescue sshd`: the SSH server.

use std::ffi::OsString;

use anyhow::Result;

use super::Exit;
use crate::sshd::{listener, settings};

/// What `rescue sshd --help` prints.
pub const HELP: &str = "\
rescue sshd: the SSH server of a rescue system

Usage: rescue sshd [OPTIONS]

Serves shells, commands and sftp to root, by public key alone. PID 1
starts it before there is a network; it needs none to start.

Options:
  --listen ADDR:PORT      listen here; may be given again
                          [default: [::]:22, which also takes IPv4]
  --authorized-keys PATH  the keys that may log in
                          [default: /root/.ssh/authorized_keys]
  --host-key PATH         the host key, made when it is missing
                          [default: RUN/ssh_host_ed25519_key]
  --shell PATH            the shell of logins and commands
                          [default: /bin/sh]
  --run-dir RUN           where status and sessions are
                          [default: /run/lifeboat]
  --kmsg PATH             the kernel's log [default: /dev/kmsg]
  --client-alive-interval SECONDS
                          ask a silent client this often whether it
                          lives, and close after four questions
                          without an answer [default: 30]
  -h, --help              this text

Signals: TERM and INT say goodbye to those who are logged in, close
all connections and end the server within two seconds. HUP does
nothing.
";

/// Runs the server until a signal ends it.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    listener::run(settings::parse(arguments)?)?;
    Ok(Exit::Done)
}
