//! What a shell completes, asked of a real one.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::process::Command;

fn script(shell: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_http-boot")).args(["completions", shell]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What bash offers for these words, the last of them unfinished.
fn bash(words: &[&str]) -> String {
    let list: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    let last = words.last().unwrap();
    let before = words.iter().rev().nth(1).unwrap_or(&"http-boot");
    let line = format!(
        "{}\nCOMP_WORDS=(http-boot {}); COMP_CWORD={}; \
         set -- $(complete -p http-boot); while [ \"$1\" != -F ]; do shift; done; $2 http-boot '{last}' '{before}'; echo \"${{COMPREPLY[@]}}\"",
        script("bash"),
        list.join(" "),
        words.len()
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
fn bash_completes_commands_and_flags() {
    assert_eq!(bash(&["do"]), "doctor");
    assert_eq!(bash(&["serve", "--dhcp-r"]), "--dhcp-range --dhcp-router --dhcp-reserve");
    assert_eq!(bash(&["serve", "--dhcp", ""]), "proxy full");
    assert_eq!(bash(&["user", "a"]), "add");
}

#[test]
fn other_shells_have_a_script() {
    for (shell, begins) in [("zsh", "#compdef http-boot"), ("fish", "# Print an optspec")] {
        let script = script(shell);
        assert!(script.starts_with(begins) && script.contains("doctor"), "{shell}: {script:.200}");
    }
}
