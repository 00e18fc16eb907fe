//! What an earlier crash left: the boot has saved it from the pstore file system (`init/src/pid1/last_crash.rs`).

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// No file is shown further, in bytes; the boot saves no more.
const LIMIT: u64 = 512 << 10;

/// The names of the files that there are.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// A sentence on what is there; none where there is nothing.
pub fn hint(folder: &Path) -> Option<String> {
    let names = names(folder);
    let list = names.join(", ");
    (!names.is_empty())
        .then(|| format!("an earlier crash left its last words: {list} (`rescue log --crash`)"))
}

/// Writes all of it: each file with its name above it, and without control characters, since it may be any bytes. Whether
/// there was something.
///
/// # Errors
/// When a file cannot be read, or nobody reads on.
pub fn print(folder: &Path, out: &mut impl Write) -> Result<bool> {
    let names = names(folder);
    for name in &names {
        let path = folder.join(name);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
        read.with_context(|| format!("reading {}", path.display()))?;
        let clean: String = String::from_utf8_lossy(&bytes)
            .chars()
            .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
            .collect();
        writeln!(out, "== {name}\n{}", clean.trim_end()).context("writing the log")?;
    }
    Ok(!names.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_is_named_and_shown() {
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("pstore");
        assert_eq!(hint(&saved), None);
        let mut text = Vec::new();
        assert!(!print(&saved, &mut text).unwrap() && text.is_empty());
        std::fs::create_dir(&saved).unwrap();
        std::fs::write(saved.join("dmesg-ramoops-0"), "Panic#1 Part1\n<0>\x1b[31mKernel panic\n").unwrap();
        std::fs::write(saved.join("console-ramoops-0"), b"\xff\x00end").unwrap();
        assert!(hint(&saved).unwrap().contains("console-ramoops-0, dmesg-ramoops-0"));
        assert!(print(&saved, &mut text).unwrap());
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "== console-ramoops-0\n\u{fffd} end\n== dmesg-ramoops-0\nPanic#1 Part1\n<0> [31mKernel panic\n"
        );
    }
}
