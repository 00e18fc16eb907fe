//! What bash completes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod bash;

#[test]
fn commands_and_their_flags() {
    let bash = |words: &[&str]| bash::completes(env!("CARGO_BIN_EXE_boot-files"), words);
    assert_eq!(bash(&["bu"]), "build");
    assert_eq!(bash(&["eeprom", "e"]), "edit");
    assert_eq!(bash(&["eeprom", "edit", "--cac"]), "--cacertder");
}

#[test]
fn other_shells_have_a_script() {
    for (shell, begins) in [("zsh", "#compdef boot-files"), ("fish", "# Print an optspec")] {
        let script = bash::script(env!("CARGO_BIN_EXE_boot-files"), shell);
        assert!(script.starts_with(begins) && script.contains("eeprom"), "{shell}: {script:.200}");
    }
}
