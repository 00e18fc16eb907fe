//! `boot.img` and `boot.sig` below the root, for bootloaders that ask over HTTP.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{Level, Line};

const CHECK: &str = "boot.img";
/// What the documentation names, and what a Pi 4's bootloader takes since 2022-03-10 (facts, section 4).
const DOCUMENTED: u64 = 96_000_000;
const LARGEST: u64 = 128 << 20;
/// How deep images are looked for, and how many entries are looked at.
const DEPTH: usize = 3;
const MOST_ENTRIES: usize = 20_000;
/// No boot.sig is longer.
const SIGNATURE_LIMIT: u64 = 4096;

pub(super) fn check(root: &Path) -> Vec<Line> {
    let mut found = Vec::new();
    let mut left = MOST_ENTRIES;
    find(root, DEPTH, &mut left, &mut found);
    found.sort();
    if found.is_empty() {
        let what = format!("there is none below {}", root.display());
        let advice =
            "a bootloader that boots over HTTP asks for HTTP_PATH/boot.img: `boot-files build` makes it";
        return vec![Line::new(CHECK, Level::Warning, what, advice)];
    }
    let mut lines: Vec<Line> = found.iter().flat_map(|image| one(image)).collect();
    if left == 0 {
        let what = format!("{} has more than {MOST_ENTRIES} entries: not all were looked at", root.display());
        lines.push(Line::new(CHECK, Level::Unknown, what, "name a smaller --root"));
    }
    lines
}

fn find(folder: &Path, depth: usize, left: &mut usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        *left = left.saturating_sub(1);
        let name = entry.file_name();
        if *left == 0 || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth > 0 {
            find(&entry.path(), depth - 1, left, found);
        } else if name == "boot.img" {
            found.push(entry.path());
        }
    }
}

fn one(image: &Path) -> Vec<Line> {
    let name = image.display().to_string();
    match look(image) {
        Ok(lines) if lines.is_empty() => vec![Line::ok(CHECK, format!("{name} is what its boot.sig says"))],
        Ok(lines) => lines,
        Err(error) => {
            vec![Line::new(
                CHECK,
                Level::Problem,
                format!("{name}: {error:#}"),
                "the server cannot read it either",
            )]
        }
    }
}

fn look(image: &Path) -> Result<Vec<Line>> {
    let name = image.display();
    let mut lines = Vec::new();
    let size = image.metadata().context("looking at it")?.len();
    if size > LARGEST {
        let what = format!("{name} has {size} bytes; a Pi 4's bootloader takes {LARGEST}");
        lines.push(Line::new(
            CHECK,
            Level::Problem,
            what,
            "leave packages out: `boot-files ls` shows what is large",
        ));
        // Reading it for its hash would say nothing more.
        return Ok(lines);
    }
    if size > DOCUMENTED {
        let what = format!("{name} has {size} bytes; the documentation names 96 MB as the most");
        let advice = "only bootloaders since 2022-03-10 take more: update the EEPROMs, or leave packages out";
        lines.push(Line::new(CHECK, Level::Warning, what, advice));
    }
    let path = image.with_file_name("boot.sig");
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(SIGNATURE_LIMIT).read_to_string(&mut text));
    if let Err(error) = read {
        let advice = "a bootloader asks for boot.sig first and boots nothing without it: `boot-files sign`";
        lines.push(Line::new(CHECK, Level::Problem, format!("{}: {error}", path.display()), advice));
        return Ok(lines);
    }
    let mut file = File::open(image).context("opening it")?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut piece).context("reading it")?;
        if length == 0 {
            break;
        }
        hash.update(piece.get(..length).unwrap_or_default());
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    lines.extend(signature(&name.to_string(), &text, &hash));
    Ok(lines)
}

/// Whether a boot.sig is this image's. By which key it was made, only a bootloader can say.
fn signature(name: &str, text: &str, hash: &str) -> Vec<Line> {
    let mut rest = text.lines();
    let says = rest.next().unwrap_or_default().trim();
    if !says.eq_ignore_ascii_case(hash) {
        let what = format!(
            "{name}: its boot.sig is another image's: it says SHA-256 {says:.16}…, and it is {hash:.16}…"
        );
        let advice = "copy boot.img and boot.sig together, or sign it anew: `boot-files sign`";
        return vec![Line::new(CHECK, Level::Problem, what, advice)];
    }
    let is_signature = |line: &str| {
        let digits = line.trim_end().strip_prefix("rsa2048: ");
        digits.is_some_and(|digits| digits.len() == 512 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if rest.any(is_signature) {
        return Vec::new();
    }
    let what = format!("{name}: its boot.sig has a hash and no signature");
    let advice = "what comes over HTTP has to be signed with the key in the EEPROM: `boot-files sign`";
    vec![Line::new(CHECK, Level::Problem, what, advice)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(image: &[u8], signature: Option<&str>) -> (tempfile::TempDir, Vec<Line>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pi");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("boot.img"), image).unwrap();
        if let Some(signature) = signature {
            std::fs::write(path.join("boot.sig"), signature).unwrap();
        }
        let lines = check(folder.path());
        (folder, lines)
    }

    #[test]
    fn an_image_and_its_signature() {
        let hash: String = Sha256::digest(b"image").iter().map(|byte| format!("{byte:02x}")).collect();
        let good = format!("{hash}\nts: 1700000000\nrsa2048: {}\n", "ab".repeat(256));
        assert_eq!(site(b"image", Some(&good)).1[0].level, Level::Ok);
        for (text, said) in [
            (Some(good.replace("rsa2048", "rsa")), "no signature"),
            (Some(good.replace("abab", "ab")), "no signature"),
            (Some(format!("{}\n", "0".repeat(64))), "another image's"),
            (Some(String::new()), "another image's"),
            (None, "No such file"),
        ] {
            let (_folder, lines) = site(b"image", text.as_deref());
            assert_eq!(lines.len(), 1);
            assert!(lines[0].level == Level::Problem && lines[0].found.contains(said), "{lines:?}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(check(empty.path())[0].level, Level::Warning);
    }

    #[test]
    fn too_large() {
        let (folder, _) = site(b"", None);
        let image = folder.path().join("pi/boot.img");
        let size = |bytes| File::create(&image).unwrap().set_len(bytes).unwrap();
        size(LARGEST + 1);
        let lines = check(folder.path());
        assert!(lines[0].level == Level::Problem && lines[0].found.contains("134217728"), "{lines:?}");
        size(DOCUMENTED + 1);
        assert_eq!(check(folder.path())[0].level, Level::Warning);
    }
}
