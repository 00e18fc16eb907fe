//! `rescue console`: shells on the console.

use std::ffi::OsString;

use anyhow::Result;
use init::cmdline::CommandLine;
use init::config::AUTHORIZED_KEYS_PATH;
use init::plan::Plan;
use lexopt::prelude::*;

use super::Exit;
use crate::console::keeper::{Settings, run as keep};
use crate::kernel_log::KMSG_PATH;
use crate::run_dir::RunDir;

/// What `rescue console --help` prints.
pub const HELP: &str = "\
rescue console: shells on the console, for who has no network

Usage: rescue console [OPTIONS]

PID 1 starts it. It stays on every console of the kernel (a serial line,
a screen). `lifeboat.console=` on the kernel command line says who gets
a shell:

  key   (the default) who presses Enter, signs the line that is shown
        with an SSH key that may log in (`ssh-keygen -Y sign`, on their
        own machine), and pastes the signature. No secret goes over the
        line, and no network is needed
  open  who types \"rescue\" and Enter: whoever has the cable
  off   nobody

A shell here counts as a login: the hand-over and the reboot timer wait
for it, until it ends or nothing is typed and nothing written there for
15 minutes.

Options:
  --terminal PATH         this terminal; may be given again
                          [default: the kernel's consoles]
  --authorized-keys PATH  the keys that may log in
                          [default: /root/.ssh/authorized_keys]
  --shell PATH            the shell [default: /bin/sh]
  --run-dir RUN           where sessions are [default: /run/lifeboat]
  --kmsg PATH             the kernel's log [default: /dev/kmsg]
  -h, --help              this text
";

/// Serves the console for ever.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let mut settings = Settings {
        policy: Plan::parse(&CommandLine::parse(&line)).console,
        terminals: Vec::new(),
        authorized_keys: AUTHORIZED_KEYS_PATH.into(),
        shell: "/bin/sh".into(),
        run: RunDir::default(),
        kmsg: KMSG_PATH.into(),
    };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("terminal") => settings.terminals.push(parser.value()?.into()),
            Long("authorized-keys") => settings.authorized_keys = parser.value()?.into(),
            Long("shell") => settings.shell = parser.value()?.into(),
            Long("run-dir") => settings.run = RunDir::new(parser.value()?),
            Long("kmsg") => settings.kmsg = parser.value()?.into(),
            _ => return Err(argument.unexpected().into()),
        }
    }
    keep(&settings)?;
    Ok(Exit::Done)
}
