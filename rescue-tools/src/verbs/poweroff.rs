//! `rescue poweroff`: switches the machine off.

use std::ffi::OsString;

use anyhow::Result;

use super::Exit;
use crate::ending::pid1::End;
use crate::ending::run;

/// What `rescue poweroff --help` prints.
pub const HELP: &str = "\
rescue poweroff: switch the machine off

Usage: rescue poweroff [OPTIONS]

Names what stands in the way, and asks: other people's sessions,
programs that write to a disk, disks that are mounted for writing. Then
PID 1 ends every process, writes everything out, unmounts the disks and
switches off. A Pi then stays off until its power is cut and given
again: from far away, `rescue reboot` is most often what you want.

Options:
  --yes          do not ask
  --dry-run      only say what stands in the way
  --json         one JSON object with `format`: 1, `in_the_way`, `told`
  --run-dir RUN  where the boot leaves its state
                 [default: /run/lifeboat]
  -h, --help     this text

Exit codes: 0 it switches off; 1 failed; 2 wrong usage; 3 refused,
nothing was changed.
";

/// Powers off.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    run::run(End::PowerOff, arguments)
}
