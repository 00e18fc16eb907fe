//! btrfs, whose manual warns of `btrfs check --repair` (btrfs-check(8)): it may make things worse. What is safe is done
//! first and by default: a good superblock over bad ones (`btrfs rescue super-recover`), and good copies of metadata over
//! bad ones (`btrfs scrub`). The rest takes a word of its own, `--btrfs-repair`.

use std::path::Path;

use anyhow::{Result, anyhow, bail};

use super::look::{Health, Look, Permissions, transcript};
use super::words::{Word, findings, last_lines};
use crate::disk::filesystem::FileSystem;
use crate::disk::inventory::Device;
use crate::disk::traces;
use crate::mount::private::{Access, with_mounted};
use crate::tool::Tool;

/// What `btrfs check` says of a copy that it did not use.
const BAD_COPY: [&str; 3] = ["checksum verify failed", "bad tree block", "parent transid verify failed"];
/// `btrfs rescue super-recover` ends so where it repaired something.
const RECOVERED: i32 = 2;

const WORDS: &[Word] = &[
    // The steps themselves: "[2/8] checking root items".
    ("] checking", None),
    ("checksum verify failed", Some("a checksum does not match")),
    ("bad tree block", Some("a block of metadata is damaged")),
    (
        "parent transid verify failed",
        Some("a block of metadata is older than it should be: a write was lost"),
    ),
    ("root item", Some("a tree's root is damaged")),
    ("backpointer mismatch", Some("an extent's owners are wrong")),
    ("ref mismatch", Some("an extent's owners are wrong")),
    ("errors 200", Some("a directory has an entry that leads nowhere")),
    ("unresolved ref", Some("a directory has an entry that leads nowhere")),
    ("free space", None),
    ("mirror ", Some("data does not match its checksum")),
    ("errors ", Some("an inode is damaged")),
];

/// What is wrong, by what repairs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    None,
    /// A superblock: by a good one.
    Superblock,
    /// Copies of metadata: by the good ones.
    Copies,
    /// More than that.
    Structure,
}

/// Looks without changing anything.
pub fn look(device: &Device, permissions: Permissions) -> Result<Look> {
    let beheaded = is_beheaded(device);
    let copy: &[&str] = if beheaded { &["--super", "1"] } else { &[] };
    let tool = Tool::new("btrfs")?.args(["check", "--readonly"]).args(copy).arg(&device.path);
    let output = tool.output()?;
    let command = format!("btrfs check --readonly {} {}", copy.join(" "), device.path.display());
    let said = transcript(&command, &output);
    let text = output.text();
    let damage = match (output.status.success(), beheaded) {
        (false, _) => Damage::Structure,
        (true, true) => Damage::Superblock,
        (true, false) if BAD_COPY.iter().any(|part| text.contains(part)) => Damage::Copies,
        (true, false) => Damage::None,
    };
    if damage == Damage::Structure && !text.contains("Checking filesystem") {
        bail!("btrfs check could not look at it: {}", output.last_line());
    }
    Ok(judged(damage, beheaded, &text, said, permissions))
}

fn judged(damage: Damage, beheaded: bool, text: &str, said: String, permissions: Permissions) -> Look {
    let mut findings = findings(text, WORDS);
    if findings.is_empty() && damage == Damage::Structure {
        findings = last_lines(text, 3);
    }
    if damage == Damage::Copies {
        findings.push("each damaged block has a good copy".into());
    }
    if beheaded {
        findings.insert(0, "the superblock is damaged; a backup of it is used".into());
    }
    let (health, repair) = match (damage, permissions.btrfs_repair) {
        (Damage::None, _) => return Look::clean(said),
        (Damage::Superblock, _) => (Health::Damaged, "copies the good superblock over the bad one"),
        (Damage::Copies, _) => {
            (Health::Damaged, "mounts it for a moment and lets the kernel replace bad copies (btrfs scrub)")
        }
        (Damage::Structure, true) => (
            Health::Damaged,
            "runs btrfs check --repair (--btrfs-repair), which CAN MAKE IT WORSE: have a copy of what you need",
        ),
        (Damage::Structure, false) => (
            Health::NeedsDecision,
            "btrfs's own repair can make it worse, so it is not tried by itself. First copy what can be read: \
             `rescue mount` it and copy, or `btrfs restore`, or `rescue save` the disk; then \
             `rescue fsck --btrfs-repair`, or make it anew",
        ),
    };
    Look { health, findings, repair: repair.into(), said }
}

fn is_beheaded(device: &Device) -> bool {
    device.content_kind() != Some(FileSystem::Btrfs.name())
        && traces::find(&device.path, device.size).is_some_and(|trace| trace.kind == FileSystem::Btrfs.name())
}

/// Repairs by what is safe, and by `btrfs check --repair` where that was permitted.
pub fn repair(device: &Device, look: &Look, permissions: Permissions) -> Result<String> {
    let mut said = String::new();
    let beheaded = is_beheaded(device);
    if beheaded {
        said.push_str(&super_recover(&device.path)?);
    }
    if look.findings.iter().any(|finding| finding.contains("good copy")) {
        said.push_str(&scrub(&device.path)?);
    } else if !beheaded && permissions.btrfs_repair {
        // With --force it does not count down for ten seconds: the question was asked.
        let tool = Tool::new("btrfs")?.args(["check", "--repair", "--force"]).arg(&device.path);
        let output = tool.unbroken()?;
        said.push_str(&transcript(
            &format!("btrfs check --repair --force {}", device.path.display()),
            &output,
        ));
    }
    Ok(said)
}

fn super_recover(device: &Path) -> Result<String> {
    let output = Tool::new("btrfs")?.args(["rescue", "super-recover", "-v", "-y"]).arg(device).unbroken()?;
    if !matches!(output.status.code(), Some(0 | RECOVERED)) {
        bail!("btrfs rescue super-recover failed ({}): {}", output.status, output.last_line());
    }
    Ok(transcript(&format!("btrfs rescue super-recover -v -y {}", device.display()), &output))
}

/// Reads everything, and replaces what is bad where there is a good copy.
fn scrub(device: &Path) -> Result<String> {
    let output = with_mounted(device, FileSystem::Btrfs, Access::Replay, |at| {
        Tool::new("btrfs")?.args(["scrub", "start", "-B"]).arg(at).unbroken()
    })??;
    // 3: errors that have no good copy; the look that follows says which.
    match output.status.code() {
        Some(0 | 3) => Ok(transcript(&format!("btrfs scrub start -B (of {})", device.display()), &output)),
        _ => Err(anyhow!("btrfs scrub failed ({}): {}", output.status, output.last_line())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(damage: Damage, text: &str, btrfs_repair: bool) -> Look {
        let permissions = Permissions { btrfs_repair, ..Permissions::default() };
        judged(damage, damage == Damage::Superblock, text, String::new(), permissions)
    }

    #[test]
    fn the_dangerous_repair_takes_a_word() {
        let text = "ERROR: errors found in fs roots\nroot 5 inode 257 errors 200, dir isize wrong\n";
        let look = judge(Damage::Structure, text, false);
        assert_eq!(look.health, Health::NeedsDecision);
        assert!(look.repair.contains("--btrfs-repair") && look.repair.contains("rescue save"));
        let look = judge(Damage::Structure, text, true);
        assert!(look.health == Health::Damaged && look.repair.contains("CAN MAKE IT WORSE"));
    }

    #[test]
    fn what_has_a_good_copy_is_repaired_by_it() {
        let text = "checksum verify failed on 30769152 wanted 0x00000000 found 0xb6bde3e4\n[2/8] checking root items\n";
        let look = judge(Damage::Copies, text, false);
        assert_eq!(look.findings, ["a checksum does not match", "each damaged block has a good copy"]);
        assert!(look.health == Health::Damaged && look.repair.contains("scrub"));
        assert_eq!(judge(Damage::None, "no error found", false).health, Health::Clean);
    }
}
