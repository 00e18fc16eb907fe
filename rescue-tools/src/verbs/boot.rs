//! `rescue boot`: goes on into the OS on a disk.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};
use init::cmdline::CommandLine;
use init::control::{self, Destination, Message};
use init::watchdog::is_fed_by;
use lexopt::prelude::*;
use serde_json::json;

use super::{Exit, Usage};
use crate::boot::prepare::{self, ROOT, Wish};
use crate::boot::{kernel, kexec, root};
use crate::confirm::confirm;
use crate::disk::inventory::Inventory;
use crate::people::{myself, people};
use crate::run_dir::RunDir;
use crate::unlock::keyring;

/// What `rescue boot --help` prints.
pub const HELP: &str = "\
rescue boot: go on into the OS on a disk

Usage: rescue boot [OPTIONS] [DEV]

DEV has the root: a path, UUID=, LABEL=, PARTUUID= or PARTLABEL= with a
value. A logical volume (/dev/GROUP/NAME) or RAID (/dev/md...) that it
names is brought up. Without it the only Linux that there is on a disk
is taken. An encrypted one has to be open: `rescue unlock` first.

The root is checked as at every boot (e2fsck -p and its like) and mounted
read-only; then the running kernel goes on with the OS on it: its init
becomes PID 1, and every session here ends. The OS sees the kernel
modules of this image beside its own; nothing of that is written to the
disk. Devices that are open get the names of the OS' /etc/crypttab, so
that it does not ask for the passphrase again.

When that fails, this system goes on, and says why.

With --kexec the disk's own kernel is started instead, with its own
initramfs and command line (/etc/kernel/cmdline, cmdline.txt, or one made
from the root): the OS runs as it was installed, with its own modules. It
takes the program kexec (profile \"full\") and a kernel that can stop its
processors, which that of a Pi 4 cannot unless this image was started
with nr_cpus=1. A passphrase that `rescue unlock` took in the last
quarter of an hour is passed on in memory; an older one is asked for.
What is loaded, the passphrase in it, stays so with --prepare until a boot,
or `kexec --unload`.

Options:
  --flags OPTIONS  options of the mount, such as subvol=@ for btrfs
  --init PATH      what becomes PID 1 [default: /sbin/init]
  --no-fsck        do not check the file system
  --prepare        stop with the root mounted on /sysroot, or with --kexec
                   with the kernel loaded
  --kexec          start the disk's own kernel
  --kernel PATH    that kernel, as the OS sees it; with --kexec
  --initramfs PATH its initramfs
  --command-line TEXT
                   its command line
  --no-keys        pass no passphrase on: the disk's own system asks
  --dry-run        say what would be booted
  --yes            no question
  --json           one JSON object with `format`: 1, `device`, `system`,
                   `done`
  -h, --help       this text

Exit codes: 0 on its way; 1 failed; 2 wrong usage; 3 refused: no such
root, or several, in use, or no \"yes\".
";

struct Arguments {
    word: Option<String>,
    wish: Wish,
    prepare: bool,
    kexec: bool,
    kernel: kernel::Wish,
    pass_keys: bool,
    dry_run: bool,
    yes: bool,
    json: bool,
}

/// Boots it.
pub fn run(arguments: Vec<OsString>) -> Result<Exit> {
    let arguments = parse(arguments)?;
    if arguments.kexec {
        kexec::possible()?;
    }
    if let Some(word) = arguments.word.as_deref().filter(|_| !arguments.dry_run) {
        root::bring_up(word);
    }
    let inventory = Inventory::read()?;
    let root = root::find(&inventory, arguments.word.as_deref())?;
    let device = root.device.path.clone();
    let system = root.system.as_ref().map_or("an OS", |system| &system.name).to_owned();
    if arguments.dry_run {
        say(&arguments, &device, &system, &[format!("{} ({system}) would be booted", device.display())]);
        return Ok(Exit::Done);
    }
    if !arguments.prepare {
        let everyone = people(&RunDir::default());
        let me = myself(&everyone);
        let others = everyone.len().saturating_sub(1);
        let also = if others > 0 { format!(", {others} of other people") } else { String::new() };
        confirm(
            &format!("Boot {system} on {} ({me})? Every session ends{also}.", device.display()),
            arguments.yes,
        )?;
    }
    let done = if arguments.kexec {
        kexec::prepare(&inventory, &root, &arguments.wish, &arguments.kernel, arguments.pass_keys)?
    } else {
        let done = prepare::prepare(&inventory, &root, &arguments.wish)?;
        // Whoever comes next needs none of them, and would start what is loaded at its first reboot (systemctl(1)).
        keyring::forget();
        kexec::unload();
        done
    };
    say(&arguments, &device, &system, &done);
    if !arguments.prepare {
        control::send(&message(&arguments)).context("asking PID 1 to hand over (is this a Pi Lifeboat?)")?;
    }
    Ok(Exit::Done)
}

fn message(arguments: &Arguments) -> Message {
    if arguments.kexec {
        return Message::Kexec;
    }
    let init = arguments.wish.init.clone();
    let feeds_watchdog = is_fed_by(Path::new(ROOT), &init, &CommandLine::running());
    Message::HandOver(Destination { root: ROOT.into(), init, arguments: Vec::new(), feeds_watchdog })
}

fn parse(arguments: Vec<OsString>) -> Result<Arguments> {
    let wish = Wish { init: "/sbin/init".into(), flags: None, check: true };
    let mut parsed = Arguments {
        word: None,
        wish,
        prepare: false,
        kexec: false,
        kernel: kernel::Wish::default(),
        pass_keys: true,
        dry_run: false,
        yes: false,
        json: false,
    };
    let mut init = None;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("flags") => parsed.wish.flags = Some(parser.value()?.string()?),
            Long("init") => init = Some(parser.value()?.string()?),
            Long("no-fsck") => parsed.wish.check = false,
            Long("prepare") => parsed.prepare = true,
            Long("kexec") => parsed.kexec = true,
            Long("kernel") => parsed.kernel.kernel = Some(parser.value()?.string()?),
            Long("initramfs") => parsed.kernel.initramfs = Some(parser.value()?.string()?),
            Long("command-line") => parsed.kernel.command_line = Some(parser.value()?.string()?),
            Long("no-keys") => parsed.pass_keys = false,
            Long("dry-run") => parsed.dry_run = true,
            Long("yes") => parsed.yes = true,
            Long("json") => parsed.json = true,
            Value(word) if parsed.word.is_none() => parsed.word = Some(word.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if init.is_some() && parsed.kexec {
        return Err(Usage("--init goes without --kexec; --command-line has an init= for that".into()).into());
    }
    parsed.wish.init = init.unwrap_or(parsed.wish.init);
    parsed.kernel.flags.clone_from(&parsed.wish.flags);
    if !parsed.wish.init.starts_with('/') {
        return Err(Usage(format!("--init {}: the path must be absolute", parsed.wish.init)).into());
    }
    let kernel = &parsed.kernel;
    let named = [&kernel.kernel, &kernel.initramfs, &kernel.command_line].iter().any(|wish| wish.is_some());
    if !parsed.kexec && (named || !parsed.pass_keys) {
        return Err(
            Usage("--kernel, --initramfs, --command-line and --no-keys go with --kexec".into()).into()
        );
    }
    Ok(parsed)
}

fn say(arguments: &Arguments, device: &std::path::Path, system: &str, done: &[String]) {
    if arguments.json {
        println!(
            "{}",
            json!({ "format": 1, "device": device, "system": system, "dry_run": arguments.dry_run, "done": done })
        );
    } else {
        // Some of it stands on the disk.
        done.iter().for_each(|line| println!("{}", line.replace(char::is_control, "?")));
        if !arguments.prepare && !arguments.dry_run {
            println!(
                "{} {system}",
                if arguments.kexec { "starting the kernel of" } else { "handing over to" }
            );
        }
    }
}
