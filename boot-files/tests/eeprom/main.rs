//! `boot-files eeprom` as a person runs it, and against what the reference made (tests/data/eeprom).

// A panic is how a test fails; clippy knows that of test functions, and not of what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod documented;
mod golden;
mod looks;
mod plans;
mod refusals;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The real image.
const IMAGE: &str = "pieeprom-2711-2026-05-17.bin";

/// A file of the golden data.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/eeprom").join(name)
}

/// Runs `boot-files eeprom` in the folder of the golden data.
fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_boot-files"))
        .arg("eeprom")
        .args(arguments)
        .current_dir(data(""))
        .env("SOURCE_DATE_EPOCH", "1790000000")
        .output()
        .unwrap()
}

/// The same; its standard output, if it succeeds.
fn said(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The same; its standard error, if it fails.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} has to be refused");
    String::from_utf8(output.stderr).unwrap()
}

/// The same of a refusal that is one line.
fn refused_in_a_line(arguments: &[&str]) -> String {
    let line = refused(arguments);
    assert_eq!(line.trim_end().lines().count(), 1, "a refusal is one line: {line}");
    line
}
