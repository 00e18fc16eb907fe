//! The documents name what the code has, and nothing else.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::path::Path;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_parameter_is_in_the_book_and_the_other_way_round() {
    let text = document("kernel-parameters.md");
    for (name, form, _) in init::plan::parameters() {
        let form = form.replace('|', "\\|");
        let row = if form.is_empty() { format!("`{name}`") } else { format!("`{name}={form}`") };
        assert!(text.contains(&row), "{row} is missing in kernel-parameters.md");
    }
    let known: Vec<&str> = init::plan::parameters().map(|(name, ..)| name).collect();
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_'));
    for word in words.filter(|word| word.starts_with("lifeboat.") && word.len() > "lifeboat.".len()) {
        assert!(known.contains(&word), "kernel-parameters.md names {word}, which init does not know");
    }
}

#[test]
fn every_step_is_in_the_book_in_its_order() {
    let text = document("boot-path.md");
    let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    // The last step is the same for all.
    let disk_boot = init::steps::DISK_BOOT.iter().filter(|step| !init::steps::RAM_BOOT.contains(step));
    let steps: Vec<&str> =
        init::steps::COMMON.iter().chain(disk_boot).chain(&init::steps::RAM_BOOT).copied().collect();
    let described: Vec<&str> = headings.into_iter().filter(|heading| init::steps::is_step(heading)).collect();
    assert_eq!(described, steps);
}
