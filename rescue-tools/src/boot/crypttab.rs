//! `/etc/crypttab` of the OS (crypttab(5)): an open device gets the name that stands there, so that the OS finds it open
//! and asks for no passphrase again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::disk::inventory::{Device, Inventory, Kind};
use crate::mount::inside::Inside;
use crate::tool::Tool;

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the open device is called.
    pub name: String,
    /// The encrypted device.
    pub source: String,
    /// The options, with commas between them.
    pub options: String,
}

/// The lines of the crypttab of the OS at `root`; none where it has none.
pub fn read(root: &Path) -> Vec<Entry> {
    let text = Inside::new(root).ok().and_then(|inside| inside.text("etc/crypttab"));
    parse(&text.unwrap_or_default())
}

/// The lines of `text` that are of the format.
pub fn parse(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().filter(|word| !word.starts_with('#'))?;
        let source = words.next()?.replace('"', "");
        Some(Entry { name: name.into(), source, options: words.nth(1).unwrap_or_default().into() })
    };
    text.lines().filter_map(entry).collect()
}

/// A device with another name than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// What it was called.
    pub old: PathBuf,
    /// What it is called now.
    pub new: PathBuf,
}

/// Renames the open LUKS devices as the OS calls them.
///
/// # Errors
/// When the device-mapper refuses.
pub fn rename(inventory: &Inventory, root: &Path) -> Result<Vec<Renamed>> {
    let mut renamed = Vec::new();
    for entry in read(root) {
        let Ok(device) = inventory.named(&entry.source) else { continue };
        let Some(open) = device.holders().find(|one| one.kind == Kind::Crypt) else { continue };
        let Some(old) = mapper_name(open).filter(|old| *old != entry.name) else { continue };
        // A name that the device-mapper would refuse is none that the OS can use.
        Tool::new("dmsetup")?
            .args(["rename", "--noudevsync", "--", &old, &entry.name])
            .stdout()
            .with_context(|| format!("calling {old} {}, as the OS does", entry.name))?;
        renamed.push(Renamed { old: open.path.clone(), new: Path::new("/dev/mapper").join(&entry.name) });
    }
    Ok(renamed)
}

fn mapper_name(device: &Device) -> Option<String> {
    let name = device.path.strip_prefix("/dev/mapper").ok()?;
    Some(name.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_sources_are_read() {
        let text = "# <target name> <source device> <key file> <options>\n\nvda2_crypt UUID=\"ab-12\" none luks,discard\n\
            swap\t/dev/vda3 /dev/urandom swap\nlonely\n";
        let entries = parse(text);
        assert_eq!(entries.len(), 2);
        let words = (entries[0].name.as_str(), entries[0].source.as_str(), entries[0].options.as_str());
        assert_eq!(words, ("vda2_crypt", "UUID=ab-12", "luks,discard"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            parse(&text);
        }
    }
}
