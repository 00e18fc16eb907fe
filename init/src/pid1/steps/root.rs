//! Step `root`: finds the root on a disk, has it checked and mounts it, or loads its kernel (`lifeboat.kexec`). `rescue boot --prepare` does the work, which is that of
//! a person's `rescue boot`.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::control;
use crate::pid1::boot::Boot;

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let disk_boot = boot.disk_boot()?;
    let mut command = Command::new("/rescue");
    command.args(["boot", "--prepare"]);
    if !disk_boot.kexec {
        command.args(["--init", &disk_boot.init]);
    } else if control::is_kernel_loaded() {
        // By this step, before this process was started again; the passphrase may be forgotten by now.
        return Ok(());
    } else {
        command.arg("--kexec");
    }
    if let Some(flags) = &disk_boot.flags {
        command.args(["--flags", flags]);
    }
    command.args(disk_boot.root.as_deref());
    // A check of a large disk takes as long as it takes.
    boot.announcer.pulse.rest();
    let output = command.stdin(Stdio::null()).output();
    boot.announcer.pulse.open("root");
    let output = output.context("running rescue boot")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let mut lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if output.status.success() {
        lines.iter().for_each(|line| tracing::info!("{line}"));
        return Ok(());
    }
    let last = lines.pop().unwrap_or("it said nothing");
    lines.iter().for_each(|line| tracing::warn!("{line}"));
    bail!("{}", last.trim_start_matches("rescue boot: "))
}
