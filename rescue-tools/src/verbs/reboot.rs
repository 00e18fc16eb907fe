//! `rescue reboot`: starts the machine anew.

use std::ffi::OsString;

use anyhow::Result;

use super::Exit;
use crate::ending::pid1::End;
use crate::ending::run;

/// What `rescue reboot --help` prints.
pub const HELP: &str = "\
rescue reboot: start the machine anew

Usage: rescue reboot [--into WHERE] [OPTIONS]

Names what stands in the way, and asks: other people's sessions,
programs that write to a disk, disks that are mounted for writing. Then
PID 1 ends every process, writes everything out, unmounts the disks and
restarts.

Options:
  --into WHERE   tryboot: with tryboot.txt in place of config.txt, once;
                 a NUMBER: from that partition of the disk that the
                 firmware finds. Both need a Raspberry Pi and its own
                 kernel (not Debian's). For rescue and disk the firmware
                 has no word: refused, with what does lead there
  --yes          do not ask
  --dry-run      only say what stands in the way
  --json         one JSON object with `format`: 1, `in_the_way`,
                 `argument` (what the firmware is told), `told`
  --run-dir RUN  where the boot leaves its state
                 [default: /run/lifeboat]
  -h, --help     this text

Exit codes: 0 it restarts; 1 failed; 2 wrong usage; 3 refused, nothing
was changed.
";

/// Reboots.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    run::run(End::Reboot, arguments)
}
