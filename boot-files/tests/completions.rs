//! What bash completes, asked of bash itself.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::process::Command;

/// What it offers for these words, the last of them unfinished.
fn bash(words: &[&str]) -> String {
    let script =
        Command::new(env!("CARGO_BIN_EXE_boot-files")).args(["completions", "bash"]).output().unwrap();
    assert!(script.status.success(), "{script:?}");
    let list: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    let line = format!(
        "{}\nCOMP_WORDS=(boot-files {}); COMP_CWORD={}; set -- $(complete -p boot-files); \
         while [ \"$1\" != -F ]; do shift; done; $2 boot-files '{}' '{}'; echo \"${{COMPREPLY[@]}}\"",
        String::from_utf8(script.stdout).unwrap(),
        list.join(" "),
        words.len(),
        words.last().unwrap(),
        words.iter().rev().nth(1).unwrap_or(&"boot-files")
    );
    let output = Command::new("bash").args(["--norc", "-c", &line]).output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn commands_and_their_flags() {
    assert_eq!(bash(&["bu"]), "build");
    assert_eq!(bash(&["eeprom", "e"]), "edit");
    assert_eq!(bash(&["eeprom", "edit", "--cac"]), "--cacertder");
}
