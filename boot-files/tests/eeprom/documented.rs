//! docs/eeprom.md has every command and every option, and no option that does not exist.

use crate::said;
use std::collections::BTreeSet;

const REFERENCE: &str = include_str!("../../../docs/eeprom.md");
const COMMANDS: [&str; 5] = ["show", "check", "edit", "digest", "plan"];

/// The words of a text that are long options.
fn options(text: &str) -> BTreeSet<String> {
    let letter = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    let words = text.split(|it: char| !letter(it)).filter(|word| word.starts_with("--") && word.len() > 3);
    words.map(str::to_owned).collect()
}

#[test]
fn the_reference_has_every_option_and_no_other() {
    let mut known = BTreeSet::new();
    for command in COMMANDS {
        let help = said(&[command, "--help"]);
        let listed: String = help.lines().filter(|line| line.trim_start().starts_with('-')).collect();
        known.extend(options(&listed));
        let section = REFERENCE.split(&format!("\n## {command}\n")).nth(1).expect(command);
        let section = section.split("\n## ").next().unwrap();
        for option in options(&listed).iter().filter(|option| *option != "--help") {
            assert!(section.contains(&format!("`{option}")), "docs/eeprom.md, {command}, lacks {option}");
        }
    }
    assert!(known.len() > 12, "{known:?}");
    let others = ["--kind"];
    for option in options(REFERENCE).iter().filter(|option| !others.contains(&option.as_str())) {
        assert!(known.contains(option), "docs/eeprom.md has {option}, which does not exist");
    }
}
