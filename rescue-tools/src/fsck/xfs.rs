//! XFS by xfs_repair(8): with -n 0 clean, 1 damaged; without, 2: the log has to be played back first.
//!
//! Only the kernel can play a log back, by mounting. Throwing it away (-L) loses what was being written and may damage
//! more: that takes a word of its own, `--zero-log`.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::look::{Health, Look, Permissions, transcript};
use super::words::{Word, findings, last_lines};
use crate::disk::filesystem::FileSystem;
use crate::mount::private::{Access, with_mounted};
use crate::tool::Tool;

/// What xfs_repair says of a log that was not played back.
const DIRTY_LOG: &str = "valuable metadata changes in a log";

const WORDS: &[Word] = &[
    ("bad primary superblock", Some("the superblock is damaged; a backup of it is used")),
    ("would reset bad agf", Some("a group's map of free space is damaged")),
    ("would reset bad agi", Some("a group's map of inodes is damaged")),
    ("would reset bad sb", Some("a copy of the superblock is damaged")),
    ("found inodes not in the inode allocation tree", Some("inodes are missing in their map")),
    ("bad CRC", Some("a checksum does not match")),
    ("CRC error", Some("a checksum does not match")),
    ("disconnected inode", Some("a file has lost its name (the repair puts it into lost+found)")),
    ("disconnected dir", Some("a directory has lost its name (the repair puts it into lost+found)")),
    ("would clear inode", Some("an inode is damaged beyond repair (the repair removes it)")),
    ("would have cleared inode", Some("an inode is damaged beyond repair (the repair removes it)")),
    ("would clear entry", Some("a directory has an entry that leads nowhere")),
    ("would junk entry", Some("a directory has an entry that leads nowhere")),
    ("would rebuild directory", Some("a directory is damaged")),
    ("would reset nlinks", Some("a file's count of names is wrong")),
    ("would correct", Some("a number in an inode is wrong")),
    ("would write modified primary superblock", None),
    (", counted ", Some("a count does not match")),
];

/// Looks without changing anything.
pub fn look(device: &Path, permissions: Permissions) -> Result<Look> {
    let output = Tool::new("xfs_repair")?.arg("-n").arg(device).output()?;
    let said = transcript(&format!("xfs_repair -n {}", device.display()), &output);
    let text = output.text();
    match output.status.code() {
        Some(0) if !text.contains(DIRTY_LOG) => Ok(Look::clean(said)),
        Some(0 | 1)
            if text.contains("Phase 1") && !text.contains("Sorry, could not find valid secondary") =>
        {
            Ok(damaged(&text, said, permissions))
        }
        _ => bail!("xfs_repair could not look at it: {}", output.last_line()),
    }
}

fn damaged(text: &str, said: String, permissions: Permissions) -> Look {
    let dirty = text.contains(DIRTY_LOG);
    let mut findings = findings(text, WORDS);
    if findings.is_empty() && !dirty {
        findings = last_lines(text, 3);
    }
    if dirty {
        let log = "the log was not played back yet: it was not unmounted cleanly";
        findings.insert(0, log.into());
    }
    let repair = match (dirty, permissions.zero_log) {
        (false, _) => "runs xfs_repair",
        (true, false) => {
            "mounts it for a moment, by which the kernel plays the log back, then runs xfs_repair"
        }
        (true, true) => {
            "THROWS THE LOG AWAY (--zero-log): what was being written when it stopped is lost, and more may be \
             damaged; then runs xfs_repair"
        }
    };
    Look { health: Health::Damaged, findings, repair: repair.into(), said }
}

/// Plays the log back where that is needed, then repairs.
pub fn repair(device: &Path, look: &Look, permissions: Permissions) -> Result<String> {
    let mut said = String::new();
    let dirty = look.said.contains(DIRTY_LOG);
    if dirty && !permissions.zero_log {
        with_mounted(device, FileSystem::Xfs, Access::Replay, |_| ()).context(
            "playing the log back (if the kernel cannot, `rescue fsck --zero-log` throws the log away: save the disk \
             first, with `rescue save`)",
        )?;
        said.push_str("mounted and unmounted: the kernel played the log back\n");
    }
    let options: &[&str] = if dirty && permissions.zero_log { &["-L"] } else { &[] };
    let output = Tool::new("xfs_repair")?.args(options).arg(device).unbroken()?;
    said.push_str(&transcript(&format!("xfs_repair {} {}", options.join(" "), device.display()), &output));
    match output.status.code() {
        Some(0) => Ok(said),
        Some(2) => bail!(
            "xfs_repair wants the log played back, and mounting did not do it; `--zero-log` throws the log away (save \
             the disk first, with `rescue save`)"
        ),
        _ => bail!("xfs_repair failed ({}): {}", output.status, output.last_line()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xfs_repair_says_in_words() {
        let text = "Phase 1 - find and verify superblock...\nbad primary superblock - bad magic number !!!\n\
            agf has bad CRC for ag 1\nwould reset bad agf for ag 1\nwould reset bad agi for ag 1\n\
            sb_icount 384, counted 320\nsb_ifree 221, counted 158\n";
        let look = damaged(text, String::new(), Permissions::default());
        assert_eq!(
            look.findings,
            [
                "the superblock is damaged; a backup of it is used",
                "a checksum does not match",
                "a group's map of free space is damaged",
                "a group's map of inodes is damaged",
                "a count does not match (2 times)"
            ]
        );
        assert_eq!(look.repair, "runs xfs_repair");
    }

    #[test]
    fn a_log_is_played_back_unless_it_was_said_to_throw_it_away() {
        let text = "ALERT: The filesystem has valuable metadata changes in a log which is being\n";
        let look = damaged(text, String::new(), Permissions::default());
        assert!(look.findings[0].contains("not played back") && look.repair.contains("mounts it"));
        let permissions = Permissions { zero_log: true, ..Permissions::default() };
        assert!(damaged(text, String::new(), permissions).repair.contains("THROWS THE LOG AWAY"));
    }
}
