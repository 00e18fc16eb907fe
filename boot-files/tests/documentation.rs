//! docs/image-toml.md and image.example.toml have every key that `image.toml` may have.

// A panic is how a test fails; clippy knows that of test functions, and not of what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use boot_files::config::{ImageToml, parse};

const REFERENCE: &str = include_str!("../../docs/image-toml.md");
const EXAMPLE: &str = include_str!("../image.example.toml");

/// The keys of a table, as the parser names them when it meets an unknown one.
fn keys(table: &str) -> Vec<String> {
    let header = match table {
        "" => String::new(),
        "repository" | "tools" => format!("[[{table}]]\n"),
        table => format!("[{table}]\n"),
    };
    let text = format!("format = 1\nname = \"x\"\n{header}no-such-key = 1\n");
    let error = parse::<ImageToml>("x", &text).unwrap_err().to_string();
    let names = error.split("expected ").nth(1).unwrap_or_else(|| panic!("{error}"));
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// All keys, with their table before a dot.
fn all_keys() -> Vec<String> {
    let tables = ["repository", "kernel", "firmware", "tools", "boot", "device", "access", "sign"];
    let top = keys("");
    for table in tables {
        assert!(top.iter().any(|key| key == table), "there is no table {table}");
    }
    let plain = top.iter().filter(|key| !tables.contains(&key.as_str())).cloned();
    let nested =
        tables.iter().flat_map(|table| keys(table).into_iter().map(move |key| format!("{table}.{key}")));
    plain.chain(nested).collect()
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let documented: Vec<_> = REFERENCE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|key| !key.contains('/'))
        .collect();
    let keys = all_keys();
    assert!(keys.len() > 20, "{keys:?}");
    for key in &keys {
        assert!(documented.contains(&key.as_str()), "docs/image-toml.md lacks {key}");
    }
    for key in documented.iter().filter(|key| !["boot.img", "boot.sig", "manifest.json"].contains(key)) {
        assert!(keys.iter().any(|known| known == key), "docs/image-toml.md has {key}, which does not exist");
    }
}

/// The example with its commented keys made real.
fn uncommented() -> String {
    let real =
        |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
    EXAMPLE.lines().map(|line| real(line) + "\n").collect()
}

#[test]
fn the_example_has_every_key_and_parses() {
    parse::<ImageToml>("image.example.toml", EXAMPLE).unwrap();
    parse::<ImageToml>("image.example.toml", &uncommented()).unwrap();
    let example: toml::Table = toml::from_str(&uncommented()).unwrap();
    for key in all_keys() {
        let found = match key.split_once('.') {
            None => example.contains_key(&key),
            Some((table, key)) => match &example[table] {
                toml::Value::Array(entries) => entries[0].as_table().unwrap().contains_key(key),
                other => other.as_table().unwrap().contains_key(key),
            },
        };
        assert!(found, "image.example.toml lacks {key}");
    }
}
