//! exFAT by fsck.exfat(8) of exfatprogs: 0 clean, 1 corrected, 4 left, 8 and more: it failed.

use std::path::Path;

use anyhow::{Result, bail};

use super::look::{Health, Look, transcript};
use super::words::{Word, findings, last_lines};
use crate::disk::filesystem::FileSystem;
use crate::disk::inventory::Device;
use crate::disk::traces;
use crate::tool::{Output, Tool};

const WORDS: &[Word] = &[
    ("boot region is corrupted", Some("the boot region is damaged; its backup is there")),
    ("checksum of boot region", Some("the boot region is damaged")),
    ("bitmap", Some("the map of used clusters is wrong")),
    ("volume was not unmounted cleanly", Some("it was not unmounted cleanly")),
    ("dirty", Some("it was not unmounted cleanly")),
    ("cluster", Some("a file's chain of clusters is damaged")),
    ("ERROR:", Some("a file or directory is damaged")),
    ("invalid", Some("a file or directory is damaged")),
    ("corrupted", Some("a file or directory is damaged")),
];

/// Looks without changing anything.
pub fn look(device: &Device) -> Result<Look> {
    if is_beheaded(device) {
        return Ok(Look {
            health: Health::Damaged,
            findings: vec!["the boot region is lost; its backup is there".into()],
            repair: "copies the backup of the boot region to its place, and answers every question with yes \
                (fsck.exfat -y -b)"
                .into(),
            said: "boot region: no exFAT; a backup at sector 12\n".into(),
        });
    }
    let output = Tool::new("fsck.exfat")?.arg("-n").arg(&device.path).output()?;
    let said = transcript(&format!("fsck.exfat -n {}", device.path.display()), &output);
    let text = output.text();
    match output.status.code() {
        Some(0) => Ok(Look::clean(said)),
        Some(code) if code & !0b111 == 0 => {
            let mut findings = findings(&text, WORDS);
            if findings.is_empty() {
                findings = last_lines(&text, 3);
            }
            let repair = "answers every question of fsck.exfat with yes (fsck.exfat -y)".into();
            Ok(Look { health: Health::Damaged, findings, repair, said })
        }
        _ => bail!("fsck.exfat could not look at it: {}", output.last_line()),
    }
}

/// Whether its first sectors do not say what it is, and their backup does.
fn is_beheaded(device: &Device) -> bool {
    device.content_kind() != Some(FileSystem::Exfat.name())
        && traces::find(&device.path, device.size).is_some_and(|trace| trace.kind == FileSystem::Exfat.name())
}

/// Repairs all that fsck.exfat can.
pub fn repair(device: &Device) -> Result<String> {
    let options: &[&str] = if is_beheaded(device) { &["-y", "-b"] } else { &["-y"] };
    let (said, output) = run(options, &device.path)?;
    if output.status.code().is_none_or(|code| code & !0b111 != 0) {
        bail!("fsck.exfat failed ({}): {}", output.status, output.last_line());
    }
    Ok(said)
}

fn run(options: &[&str], device: &Path) -> Result<(String, Output)> {
    let output = Tool::new("fsck.exfat")?.args(options).arg(device).unbroken()?;
    let said = transcript(&format!("fsck.exfat {} {}", options.join(" "), device.display()), &output);
    Ok((said, output))
}
