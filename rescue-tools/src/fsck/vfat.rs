//! FAT by fsck.fat(8): 0 clean, 1 something is (or was) wrong, or it could not look at all.
//!
//! A FAT32 keeps a copy of its first sector in sector 6, which fsck.fat does not use where the first is lost: that is
//! done here.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};

use super::look::{Health, Look, transcript};
use super::words::{Word, findings, last_lines};
use crate::disk::filesystem::FileSystem;
use crate::disk::inventory::Device;
use crate::disk::traces;
use crate::tool::Tool;

const WORDS: &[Word] = &[
    ("Cannot initialize conversion", None),
    ("internal CP850", None),
    ("FATs differ", Some("the two copies of the file allocation table differ")),
    ("Dirty bit is set", Some("it was not unmounted cleanly")),
    ("differences between boot sector and its backup", Some("the boot sector and its backup differ")),
    ("Orphaned long file name", Some("a long name has lost its file")),
    ("Unable to create unique name", Some("two files have one name")),
    ("Duplicate directory entry", Some("two files have one name")),
    ("bad name", Some("a file's name is damaged")),
    ("Bad file name", Some("a file's name is damaged")),
    ("shared clusters", Some("files share clusters that only one may have")),
    ("share clusters", Some("files share clusters that only one may have")),
    ("File size is", Some("a file's size is wrong (the repair cuts it)")),
    ("Cluster chain", Some("a file's chain of clusters is damaged")),
    ("Contains a free cluster", Some("a file's chain of clusters is damaged")),
    ("Contains a bad cluster", Some("a file's chain of clusters is damaged")),
    ("Reclaimed", Some("space belongs to no file (the repair makes FSCK*.REC of it)")),
    ("unused cluster", Some("space belongs to no file (the repair makes FSCK*.REC of it)")),
    ("Free cluster summary", Some("the count of free space is wrong")),
    ("Wrong checksum for long file name", Some("a long name is damaged")),
    ("bad start cluster", Some("a file begins nowhere")),
];

/// Looks without changing anything.
pub fn look(device: &Device) -> Result<Look> {
    if let Some(at) = lost_boot_sector(device) {
        return Ok(Look {
            health: Health::Damaged,
            findings: vec!["the boot sector is lost; its backup is there".into()],
            repair:
                "copies the backup of the boot sector to its place, then answers fsck.fat's questions (-a)"
                    .into(),
            said: format!("boot sector: no FAT; a backup at byte {at}\n"),
        });
    }
    let output = Tool::new("fsck.vfat")?.arg("-n").arg(&device.path).output()?;
    let said = transcript(&format!("fsck.vfat -n {}", device.path.display()), &output);
    let text = output.text();
    match output.status.code() {
        Some(0) => Ok(Look::clean(said)),
        // Only a look that came to its end counts files.
        Some(1) if text.contains("clusters") => {
            let mut findings = findings(&text, WORDS);
            if findings.is_empty() {
                findings = last_lines(&text, 3);
            }
            let repair = "answers fsck.fat's questions (fsck.fat -a -w)".into();
            Ok(Look { health: Health::Damaged, findings, repair, said })
        }
        _ => bail!("fsck.fat could not look at it: {}", reason(&text)),
    }
}

/// What fsck.fat could not read; its own version is not it.
fn reason(text: &str) -> String {
    let noise = ["Cannot initialize conversion", "internal CP850", "fsck.fat "];
    let mut lines = text.lines().rev().filter(|line| !noise.iter().any(|part| line.contains(part)));
    lines.next().unwrap_or("it said nothing").trim().into()
}

/// The place of the backup of a boot sector that is lost.
fn lost_boot_sector(device: &Device) -> Option<u64> {
    if device.content_kind() == Some(FileSystem::Vfat.name()) {
        return None;
    }
    let trace = traces::find(&device.path, device.size)?;
    (trace.kind == FileSystem::Vfat.name()).then_some(trace.at)
}

/// Repairs all that fsck.fat can, the boot sector before.
pub fn repair(device: &Device) -> Result<String> {
    let mut said = String::new();
    if let Some(at) = lost_boot_sector(device) {
        let file = OpenOptions::new().read(true).write(true).open(&device.path)?;
        let mut sector = vec![0; usize::try_from(at / 6).context("the size of a sector")?];
        file.read_exact_at(&mut sector, at).context("reading the backup of the boot sector")?;
        file.write_all_at(&sector, 0).context("writing the boot sector")?;
        file.sync_all().context("writing the boot sector")?;
        said.push_str("copied the backup of the boot sector to its place\n");
    }
    let output = Tool::new("fsck.vfat")?.args(["-a", "-w"]).arg(&device.path).unbroken()?;
    if output.status.code().is_none_or(|code| code > 1) {
        bail!("fsck.fat failed ({}): {}", output.status, reason(&output.text()));
    }
    said.push_str(&transcript(&format!("fsck.vfat -a -w {}", device.path.display()), &output));
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRTY: &str = "Cannot initialize conversion from codepage 850 to ANSI_X3.4-1968: Invalid argument\n\
        Using internal CP850 conversion table\nfsck.fat 4.2 (2021-01-31)\n\
        There are differences between boot sector and its backup.\n\
        Dirty bit is set. Fs was not properly unmounted and some data may be corrupt.\n Automatically removing dirty bit.\n";

    #[test]
    fn what_fsck_fat_says_in_words() {
        assert_eq!(
            findings(DIRTY, WORDS),
            ["the boot sector and its backup differ", "it was not unmounted cleanly"]
        );
        assert_eq!(
            reason("Logical sector size is zero.\nfsck.fat 4.2 (2021-01-31)\n"),
            "Logical sector size is zero."
        );
    }
}
