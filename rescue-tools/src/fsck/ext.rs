//! ext2, ext3, ext4 by e2fsck(8). Its exit code is a sum: 1 corrected, 2 reboot, 4 left, 8 and more: it failed.

use std::path::Path;

use anyhow::{Result, bail};

use super::look::{Health, Look, transcript};
use super::words::{Word, findings, last_lines};
use crate::tool::Tool;

const WORDS: &[Word] = &[
    ("Superblock invalid, trying backup", Some("the superblock is damaged; a backup of it is used")),
    ("skipping journal recovery", Some("the journal was not played back yet: it was not unmounted cleanly")),
    ("Journal superblock", Some("the journal is damaged")),
    ("journal inode", Some("the journal is damaged")),
    ("checksum does not match", Some("a checksum does not match")),
    ("checksum for group", Some("a checksum does not match")),
    ("fails checksum", Some("a checksum does not match")),
    ("Block bitmap differences", Some("the map of used blocks is wrong")),
    ("Inode bitmap differences", Some("the map of used inodes is wrong")),
    ("blocks count wrong", Some("a count of free blocks is wrong")),
    ("inodes count wrong", Some("a count of free inodes is wrong")),
    ("Directories count wrong", Some("a count of directories is wrong")),
    ("ref count is", Some("a file's count of names is wrong")),
    ("Unattached inode", Some("a file has lost its name (the repair puts it into lost+found)")),
    ("Unconnected directory", Some("a directory has lost its name (the repair puts it into lost+found)")),
    ("deleted/unused inode", Some("a directory has an entry that leads nowhere")),
    ("ultiply-claimed block", Some("files share blocks that only one may have (the repair copies them)")),
    ("Illegal block", Some("a file has a block that is not there")),
    ("illegal block", Some("a file has a block that is not there")),
    ("irectory corrupted", Some("a directory is damaged")),
    ("Root inode", Some("the root directory is damaged")),
    ("orphaned inode", Some("files were being deleted when it stopped")),
    ("Entry '", Some("a directory entry is damaged")),
    ("Inode ", Some("an inode is damaged")),
];

/// Looks without changing anything.
pub fn look(device: &Path) -> Result<Look> {
    let output = Tool::new("e2fsck")?.args(["-f", "-n"]).arg(device).output()?;
    let said = transcript(&format!("e2fsck -f -n {}", device.display()), &output);
    match output.status.code() {
        Some(0) => Ok(Look::clean(said)),
        Some(code) if code & !0b111 == 0 => Ok(damaged(&output.text(), said)),
        _ => bail!("e2fsck could not look at it: {}", output.last_line()),
    }
}

fn damaged(text: &str, said: String) -> Look {
    let mut findings = findings(text, WORDS);
    if findings.is_empty() {
        findings = last_lines(text, 3);
    }
    let repair = "answers every question of e2fsck with yes (e2fsck -f -y)".into();
    Look { health: Health::Damaged, findings, repair, said }
}

/// Repairs all that e2fsck can.
pub fn repair(device: &Path) -> Result<String> {
    let tool = Tool::new("e2fsck")?.args(["-f", "-y"]).arg(device);
    let output = tool.unbroken()?;
    if output.status.code().is_none_or(|code| code & !0b111 != 0) {
        bail!("e2fsck failed ({}): {}", output.status, output.last_line());
    }
    Ok(transcript(&format!("e2fsck -f -y {}", device.display()), &output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_e2fsck_says_in_words() {
        let text = "ext2fs_open2: Bad magic number in super-block\n\
            e2fsck: Superblock invalid, trying backup blocks...\nPass 1: Checking inodes, blocks, and sizes\n\
            Pass 2: Checking directory structure\nBlock bitmap differences:  +(1--263) +265\nFix? no\n\n\
            Free blocks count wrong for group #17 (8160, counted=8008).\nFix? no\n\n\
            Free blocks count wrong (373244, counted=370105).\nFix? no\n";
        assert_eq!(
            damaged(text, String::new()).findings,
            [
                "the superblock is damaged; a backup of it is used",
                "the map of used blocks is wrong",
                "a count of free blocks is wrong (2 times)"
            ]
        );
        assert_eq!(damaged("odd\n", String::new()).findings, ["odd"]);
    }
}
