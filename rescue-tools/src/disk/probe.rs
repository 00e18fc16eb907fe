//! What is written on a device, by blkid's low-level probing: no cache, nothing but reads.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::inventory::{Content, Partition, Table};
use crate::tool::Tool;

/// A sector of `ID_PART_ENTRY_OFFSET`.
const SECTOR: u64 = 512;
/// What blkid says when several signatures contradict each other.
const AMBIVALENT: &str = "ambivalent";

/// What was found on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// Its partition table.
    pub table: Option<Table>,
    /// Its own entry in its disk's table.
    pub partition: Option<Partition>,
    /// Its file system or what else it holds.
    pub content: Option<Content>,
}

/// Looks into `device`. One that cannot be read has nothing on it: that is not the place to report it.
pub fn probe(device: &Path) -> Result<Probed> {
    let output = Tool::new("blkid")?.args(["--probe", "--output", "udev"]).arg(device).output()?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// The lines of `blkid --output udev`.
pub fn parse(text: &str) -> Probed {
    let values: BTreeMap<&str, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), decode(value)))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let get = |key: &str| values.get(key).cloned();
    let number = |key: &str| values.get(key).and_then(|value| value.parse::<u64>().ok());
    let table = get("ID_PART_TABLE_TYPE").map(|kind| Table { kind, uuid: get("ID_PART_TABLE_UUID") });
    let partition = number("ID_PART_ENTRY_NUMBER").and_then(|index| {
        Some(Partition {
            number: u32::try_from(index).ok()?,
            start: number("ID_PART_ENTRY_OFFSET")?.checked_mul(SECTOR)?,
            uuid: get("ID_PART_ENTRY_UUID"),
            label: get("ID_PART_ENTRY_NAME"),
            kind: get("ID_PART_ENTRY_TYPE"),
        })
    });
    let ambivalent = get("ID_FS_AMBIVALENT").map(|_| AMBIVALENT.to_string());
    let content = get("ID_FS_TYPE").or(ambivalent).map(|kind| Content {
        kind,
        version: get("ID_FS_VERSION"),
        // The plain ones have blanks and other characters replaced.
        label: get("ID_FS_LABEL_ENC").or_else(|| get("ID_FS_LABEL")),
        uuid: get("ID_FS_UUID_ENC").or_else(|| get("ID_FS_UUID")),
    });
    Probed { table, partition, content }
}

/// `boot\x20fs` is "boot fs": libblkid's `blkid_encode_string`. Control characters, which a label may have, become `?`.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let escape = after.strip_prefix(b"x").and_then(|hex| hex.split_at_checked(2));
        let coded = escape.filter(|_| *first == b'\\').and_then(|(hex, after)| {
            Some((u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?, after))
        });
        match coded {
            Some((byte, after)) => {
                bytes.push(byte);
                rest = after;
            }
            None => bytes.push(*first),
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.trim().chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FAT: &str = "ID_FS_LABEL=A__B\nID_FS_LABEL_ENC=A\\x20\\xc3\\x96\\x0aB\nID_FS_UUID=CAAA-6135\n\
        ID_FS_VERSION=FAT16\nID_FS_TYPE=vfat\nID_PART_ENTRY_SCHEME=gpt\nID_PART_ENTRY_NAME=boot\\x20fs\n\
        ID_PART_ENTRY_UUID=19895e4a-201c-4564-b6e2-6bd528640834\n\
        ID_PART_ENTRY_TYPE=c12a7328-f81f-11d2-ba4b-00a0c93ec93b\nID_PART_ENTRY_NUMBER=1\nID_PART_ENTRY_OFFSET=2048\n";

    #[test]
    fn a_partition_with_a_file_system() {
        let probed = parse(FAT);
        let (content, partition) = (probed.content.unwrap(), probed.partition.unwrap());
        assert_eq!((content.kind.as_str(), content.label.as_deref()), ("vfat", Some("A Ö?B")));
        assert_eq!(content.uuid.as_deref(), Some("CAAA-6135"));
        assert_eq!((partition.number, partition.start), (1, 1 << 20));
        assert_eq!(partition.label.as_deref(), Some("boot fs"));
        assert_eq!(probed.table, None);
    }

    #[test]
    fn a_disk_with_a_table_and_one_with_contradictions() {
        let table = parse("ID_PART_TABLE_UUID=78ecdbec\nID_PART_TABLE_TYPE=dos\n").table.unwrap();
        assert_eq!((table.kind.as_str(), table.uuid.as_deref()), ("dos", Some("78ecdbec")));
        let probed = parse("ID_FS_AMBIVALENT=filesystem:ext4:1.0 filesystem:xfs:\n");
        assert_eq!(probed.content.unwrap().kind, AMBIVALENT);
        assert_eq!(parse(""), Probed::default());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(ID_[A-Z_]{1,20}=?[\\\\x0-9a-fé]{0,20}\n?){0,8}", any in "(?s).{0,80}") {
            parse(&text);
            parse(&any);
        }

        #[test]
        fn every_label_comes_back(label in "[^\\\\\\p{C}]{0,20}") {
            let coded: String = label.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
            prop_assert_eq!(decode(&coded), label.trim());
            prop_assert_eq!(decode(&label), label.trim());
        }
    }
}
