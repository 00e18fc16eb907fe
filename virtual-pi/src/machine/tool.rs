//! Programs that are run to their end.

use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program and gives what it said.
///
/// # Errors
/// When it cannot be started; names the Debian package that has it.
pub(crate) fn output(command: &mut Command, package: &str) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).output() {
        Ok(output) => Ok(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{name} is not installed (Debian package: {package})")
        }
        Err(error) => Err(error).with_context(|| format!("running {name}")),
    }
}

/// Runs a program that has to succeed.
///
/// # Errors
/// When it cannot be started, or fails: with what it said.
pub(crate) fn run(command: &mut Command, package: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = output(command, package)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, text.trim());
    }
    Ok(())
}
