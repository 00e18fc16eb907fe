//! F2FS by fsck.f2fs(8). Its exit code says little: it is 0 where it used the second superblock or checkpoint, and
//! versions differ in the rest. What it says counts.

use std::path::Path;

use anyhow::{Result, bail};

use super::look::{Health, Look, transcript};
use super::words::{Word, findings, last_lines};
use crate::disk::filesystem::FileSystem;
use crate::mount::private::{Access, with_mounted};
use crate::tool::Tool;

const WORDS: &[Word] = &[
    ("Can't find a valid F2FS superblock", Some("a superblock is damaged")),
    ("SB CRC", Some("a superblock is damaged")),
    ("Invalid CP CRC", Some("a checkpoint is damaged")),
    ("Can't find valid F2FS checkpoint", Some("no checkpoint is good")),
    ("Unreachable nat entries                        [Fail]", Some("files have lost their names")),
    ("is unreachable", None),
    ("SIT valid block bitmap checking                [Fail]", Some("the map of used blocks is wrong")),
    ("Hard link checking", None),
    ("[Fail]", Some("a count does not match")),
    ("[ASSERT]", Some("a node, a file or a directory is damaged")),
    ("[FIX]", Some("a node, a file or a directory is damaged")),
];
/// fsck.f2fs asks whether to put lost files into a folder of the running system. No.
const NO: &[u8] = b"n\nn\nn\n";

/// Looks without changing anything.
pub fn look(device: &Path) -> Result<Look> {
    let output = Tool::new("fsck.f2fs")?.args(["-f", "--dry-run"]).arg(device).output_with_input(NO)?;
    let said = transcript(&format!("fsck.f2fs -f --dry-run {}", device.display()), &output);
    let text = output.text();
    let mut findings = findings(&text, WORDS);
    if text.contains("Hard link checking for regular file            [Fail]") {
        findings.push("a file's count of names is wrong".into());
    }
    // Only a look that got so far says how all of it is.
    if !text.contains("[FSCK]") {
        bail!("fsck.f2fs could not look at it: {}", output.last_line());
    }
    if findings.is_empty() && output.status.success() {
        return Ok(Look::clean(said));
    }
    if findings.is_empty() {
        findings = last_lines(&text, 3);
    }
    let repair = if needs_kernel(&text) {
        "lets fsck.f2fs repair all that it can (fsck.f2fs -f -y), then mounts it for a moment, by which the kernel writes \
         superblock and checkpoint anew"
    } else {
        "lets fsck.f2fs repair all that it can (fsck.f2fs -f -y)"
    };
    Ok(Look { health: Health::Damaged, findings, repair: repair.into(), said })
}

/// Whether one of the two superblocks or checkpoints is bad: where the other is good, fsck.f2fs leaves it so, and the
/// kernel does not.
fn needs_kernel(text: &str) -> bool {
    text.contains("Can't find a valid F2FS superblock") || text.contains("Invalid CP CRC")
}

/// Repairs all that fsck.f2fs and the kernel can. Whether they did is for the next look to say.
pub fn repair(device: &Path) -> Result<String> {
    let output = Tool::new("fsck.f2fs")?.args(["-f", "-y"]).arg(device).unbroken_with_input(NO)?;
    let mut said = transcript(&format!("fsck.f2fs -f -y {}", device.display()), &output);
    if output.status.success() && needs_kernel(&output.text()) {
        with_mounted(device, FileSystem::F2fs, Access::Replay, |_| ())?;
        said.push_str("mounted and unmounted: the kernel wrote superblock and checkpoint anew\n");
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fsck_f2fs_says_in_words() {
        let text = "Magic Mismatch, valid(0xf2f52010) - read(0x0)\n\tCan't find a valid F2FS superblock at 0x0\n\
            \tInvalid CP CRC offset: 0\nNID[0x1] is unreachable, blkaddr:0x0\n\
            [FSCK] Unreachable nat entries                        [Fail] [0x2]\n\
            [FSCK] SIT valid block bitmap checking                [Fail]\n\
            [FSCK] Hard link checking for regular file            [Ok..] [0x0]\n\
            [FSCK] valid_block_count matching with CP             [Fail] [0x0]\n";
        assert_eq!(
            findings(text, WORDS),
            [
                "a superblock is damaged",
                "a checkpoint is damaged",
                "files have lost their names",
                "the map of used blocks is wrong",
                "a count does not match"
            ]
        );
        let clean =
            "[FSCK] free segment_count matched with CP             [Ok..] [0xba]\n[FSCK] fixing SIT types\n";
        assert_eq!(findings(clean, WORDS), [""; 0]);
    }
}
