//! Edges between the crates go one way: builder and server know the device's contract, never its machinery.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::process::Command;

/// Who may depend on whom, of our own crates, outside of tests.
const EDGES: [(&str, &[&str]); 5] = [
    ("boot-files", &["init"]),
    ("http-boot", &["init"]),
    ("virtual-pi", &["boot-files", "init"]),
    ("init", &[]),
    ("rescue-tools", &["init"]),
];

#[test]
fn edges_go_one_way() {
    let cargo = std::env::var_os("CARGO").expect("cargo runs this test");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), EDGES.len(), "a new crate belongs into this table");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = EDGES.iter().find(|(crate_, _)| *crate_ == name).unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let ours = EDGES.iter().any(|(crate_, _)| *crate_ == on);
            if !ours || dependency["kind"] == "dev" {
                continue;
            }
            assert!(allowed.contains(&on), "{name} must not depend on {on}");
            let features = dependency["features"].as_array().unwrap();
            assert!(
                !features.iter().any(|feature| feature == "pid1"),
                "{name} must know init's contract only"
            );
        }
    }
}
