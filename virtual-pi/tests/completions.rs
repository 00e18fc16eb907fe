//! What a shell completes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "../../boot-files/tests/bash/mod.rs"]
mod bash;

const PROGRAM: &str = env!("CARGO_BIN_EXE_virtual-pi");

#[test]
fn commands_and_their_flags() {
    let bash = |words: &[&str]| bash::completes(PROGRAM, words);
    assert_eq!(bash(&["ru"]), "run");
    assert_eq!(bash(&["run", "--http-p"]), "--http-port --http-path");
}

#[test]
fn other_shells_have_a_script() {
    for (shell, begins) in [("zsh", "#compdef virtual-pi"), ("fish", "# Print an optspec")] {
        let script = bash::script(PROGRAM, shell);
        assert!(script.starts_with(begins) && script.contains("check"), "{shell}: {script:.200}");
    }
}
