//! What bash completes for a program of this workspace, asked of bash itself. For the tests of every crate that has one.

use std::process::Command;

/// What bash offers for these words after the program's name, the last of them unfinished, by the script that the program prints.
pub(crate) fn completes(program: &str, words: &[&str]) -> String {
    let name = program.rsplit('/').next().unwrap();
    let list: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    let last = words.last().unwrap();
    let before = words.iter().rev().nth(1).unwrap_or(&name);
    // `complete -p` says which function completes it; bash calls that with the program, the word and the word before.
    let line = format!(
        "{}\nCOMP_WORDS=({name} {}); COMP_CWORD={}; \
         set -- $(complete -p {name}); while [ \"$1\" != -F ]; do shift; done; $2 {name} '{last}' '{before}'; echo \"${{COMPREPLY[@]}}\"",
        script(program, "bash"),
        list.join(" "),
        words.len()
    );
    let output = Command::new("bash").args(["--norc", "-c", &line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What the program prints for this shell.
pub(crate) fn script(program: &str, shell: &str) -> String {
    let output = Command::new(program).args(["completions", shell]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
