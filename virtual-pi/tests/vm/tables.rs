//! What a person wants to see of tests that passed: a line each, shown when all are over.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// By the head of a table, its lines.
static TABLES: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

/// Adds a line to the table with this head.
pub fn add(head: &str, line: String) {
    TABLES.lock().unwrap().entry(head.into()).or_default().push(line);
}

/// Shows all that has lines.
pub fn print() {
    for (head, mut lines) in std::mem::take(&mut *TABLES.lock().unwrap()) {
        lines.sort();
        println!("{head}\n{}\n", lines.join("\n"));
    }
}
