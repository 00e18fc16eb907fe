//! What a shell completes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "../../boot-files/tests/bash/mod.rs"]
mod bash;

const PROGRAM: &str = env!("CARGO_BIN_EXE_http-boot");

#[test]
fn bash_completes_commands_and_flags() {
    let bash = |words: &[&str]| bash::completes(PROGRAM, words);
    assert_eq!(bash(&["do"]), "doctor");
    assert_eq!(bash(&["serve", "--dhcp-r"]), "--dhcp-range --dhcp-router --dhcp-reserve");
    assert_eq!(bash(&["serve", "--dhcp", ""]), "proxy full");
    assert_eq!(bash(&["user", "a"]), "add");
}

#[test]
fn other_shells_have_a_script() {
    for (shell, begins) in [("zsh", "#compdef http-boot"), ("fish", "# Print an optspec")] {
        let script = bash::script(PROGRAM, shell);
        assert!(script.starts_with(begins) && script.contains("doctor"), "{shell}: {script:.200}");
    }
}
