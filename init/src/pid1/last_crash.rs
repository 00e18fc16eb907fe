//! What an earlier crash left (Documentation/admin-guide/ramoops.rst, Documentation/ABI/testing/pstore): files in the pstore
//! file system, where the machine has a place that outlives a reset. They are saved to `/run/lifeboat/pstore`, which the OS
//! finds after a hand-over, and what they say is told.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use sys_mount::MountFlags;

use super::{file, mounts};
use crate::status::{LAST_CRASH_PATH, LastCrash, PSTORE_DIR};

/// Where the kernel has a place for the mount, and says who keeps the files: `(null)` is nobody.
const MOUNT_POINT: &str = "/sys/fs/pstore";
const BACKEND: &str = "/sys/module/pstore/parameters/backend";
/// No more files are saved, none of them further than this, in bytes: a Pi's place has some hundred KiB in all.
const FILES: usize = 32;
const FILE_LIMIT: u64 = 512 << 10;
const LIMIT: u64 = 2 << 20;
/// A line that is told is cut there, in characters.
const LINE: usize = 200;

/// Looks, saves and gives what is to be told. With `is_the_end` nobody comes after us who would want the files: they are
/// taken out of their place, so that they are told once. Else the OS finds them there (systemd-pstore(8)).
///
/// # Errors
/// When they cannot be read or saved.
pub fn look(is_the_end: bool) -> Result<Option<LastCrash>> {
    if let Some(known) = file::read_json(Path::new(LAST_CRASH_PATH)) {
        // This worker is not the first one.
        return Ok(Some(known));
    }
    let backend = std::fs::read_to_string(BACKEND).unwrap_or_default();
    if ["", "(null)"].contains(&backend.trim()) || !Path::new(MOUNT_POINT).is_dir() {
        return Ok(None);
    }
    let flags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);
    let is_ours = !mounts::is_mounted(MOUNT_POINT);
    if is_ours {
        mounts::mount("pstore", Path::new(MOUNT_POINT), "pstore", flags, "")?;
    }
    let found = save(Path::new(MOUNT_POINT), Path::new(PSTORE_DIR), is_the_end);
    if is_ours {
        umount2(MOUNT_POINT, MntFlags::MNT_DETACH).context("unmounting pstore")?;
    }
    let crash = found?;
    if let Some(crash) = &crash {
        file::replace_json(Path::new(LAST_CRASH_PATH), crash)?;
    }
    Ok(crash)
}

/// Copies the files, the newest records first as far as their names tell, and reads what they say.
fn save(from: &Path, to: &Path, is_the_end: bool) -> Result<Option<LastCrash>> {
    let entries = std::fs::read_dir(from).with_context(|| format!("listing {}", from.display()))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    if !names.is_empty() {
        std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    }
    let mut room = LIMIT;
    let mut texts: Vec<(String, String)> = Vec::new();
    for name in names.iter().take(FILES) {
        let path = from.join(name);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(FILE_LIMIT.min(room)).read_to_end(&mut bytes));
        read.with_context(|| format!("reading {}", path.display()))?;
        room -= bytes.len() as u64;
        std::fs::write(to.join(name), &bytes).with_context(|| format!("saving {name}"))?;
        texts.push((name.clone(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    if is_the_end {
        names.iter().for_each(|name| _ = std::fs::remove_file(from.join(name)));
    }
    Ok(told(&texts))
}

/// What the files, as names and texts, tell; nothing where the last boot ended in order.
pub fn told(files: &[(String, String)]) -> Option<LastCrash> {
    let texts = |kind: &'static str| {
        files.iter().filter(move |(name, _)| name.starts_with(kind)).map(|(_, text)| text.as_str())
    };
    let names = || files.iter().map(|(name, _)| name.clone()).collect();
    if texts("dmesg-").next().is_some() {
        let line = texts("dmesg-").find_map(cause).or_else(|| texts("dmesg-").find_map(last_line));
        return Some(LastCrash { is_panic: true, line: shown(line.unwrap_or("")), files: names() });
    }
    // A console's log is there after every reset.
    let cut_off = texts("console-").find(|text| !ended_in_order(text))?;
    Some(LastCrash { is_panic: false, line: shown(last_line(cut_off).unwrap_or("")), files: names() })
}

/// The line that says why: of the kernel's reasons the first that is no mere consequence, of its lines the last.
fn cause(text: &str) -> Option<&str> {
    const REASONS: [&str; 5] =
        ["Kernel panic - not syncing: ", "Unable to handle kernel", "Internal error: ", "BUG: ", "Oops"];
    let is_consequence = |line: &str| line.contains("Fatal exception") || line.contains("end Kernel panic");
    let lines = || text.lines().rev().filter(|line| !is_consequence(line));
    REASONS.iter().find_map(|reason| lines().find(|line| line.contains(reason)))
}

/// The kernel's last words before a restart, a power-off, a halt or a kexec (`kernel/reboot.c`, `kernel/kexec_core.c`).
fn ended_in_order(text: &str) -> bool {
    const LAST_WORDS: [&str; 5] = [
        "reboot: Restarting system",
        "reboot: Power down",
        "reboot: System halted",
        "reboot: Power off not available",
        "kexec_core: Starting new kernel",
    ];
    let mut last = text.lines().rev().filter(|line| !line.trim().is_empty()).take(5);
    last.any(|line| LAST_WORDS.iter().any(|words| line.contains(words)))
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().find(|line| !line.trim().is_empty())
}

/// A line of the kernel's log without `<4>` and without control characters: what was in RAM at a reset may be anything.
fn shown(line: &str) -> String {
    let line = match line.split_once('>') {
        Some((level, rest)) if level.starts_with('<') && level.len() <= 4 => rest,
        _ => line,
    };
    let clean =
        line.chars().map(|c| if c.is_control() || c == char::REPLACEMENT_CHARACTER { ' ' } else { c });
    clean.collect::<String>().trim().chars().take(LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PANIC: &str = "Panic#1 Part1\n<6>[    9.1] sysrq: Trigger a crash\n\
        <0>[    9.2] Kernel panic - not syncing: sysrq triggered crash\n<4>[    9.3] CPU: 0 PID: 9\n\
        <2>[    9.4] SMP: stopping secondary CPUs\n";
    const OOPS: &str = "Oops#1 Part1\n<1>[    1.0] Unable to handle kernel NULL pointer dereference\n\
        <0>[    1.1] Internal error: Oops: 0000000096000004\n\
        <0>[    1.2] Kernel panic - not syncing: Oops: Fatal exception\n";

    fn files(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect()
    }

    #[test]
    fn the_cause_is_told() {
        let both = files(&[("console-ramoops-0", "reboot: Restarting system\n"), ("dmesg-ramoops-0", PANIC)]);
        let crash = told(&both).unwrap();
        assert!(crash.is_panic && crash.files.len() == 2, "{crash:?}");
        assert_eq!(crash.line, "[    9.2] Kernel panic - not syncing: sysrq triggered crash");
        let oops = told(&files(&[("dmesg-ramoops-0", OOPS)])).unwrap();
        assert_eq!(oops.line, "[    1.0] Unable to handle kernel NULL pointer dereference");
        let other = told(&files(&[("dmesg-efi-1", "Emergency#1\nlast\x01 words\n\n")])).unwrap();
        assert_eq!(other.line, "last  words");
    }

    #[test]
    fn an_end_in_order_is_no_crash() {
        assert_eq!(told(&[]), None);
        assert_eq!(told(&files(&[("pmsg-ramoops-0", "x")])), None);
        let hang = "[  1.0] lifeboat: x\n[  2.0] reboot: not really\n[  3.0] lifeboat: 3/7 plan: done\n\n";
        let crash = told(&files(&[("console-ramoops-0", hang)])).unwrap();
        assert_eq!((crash.is_panic, crash.line.as_str()), (false, "[  3.0] lifeboat: 3/7 plan: done"));
        for end in ["reboot: Restarting system", "reboot: Power down", "kexec_core: Starting new kernel"] {
            assert_eq!(told(&files(&[("console-ramoops-0", &format!("{hang}[4.0] {end}\n"))])), None);
        }
    }

    #[test]
    fn files_are_saved_within_bounds_and_taken_out_once() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let saved = to.path().join("pstore");
        assert_eq!(save(from.path(), &saved, true).unwrap(), None);
        assert!(!saved.exists());
        for number in 0..40 {
            std::fs::write(from.path().join(format!("dmesg-{number:02}")), vec![b'x'; 600 << 10]).unwrap();
        }
        assert!(save(from.path(), &saved, false).unwrap().is_some());
        let sizes = std::fs::read_dir(&saved).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        let sizes: Vec<u64> = sizes.collect();
        assert_eq!((sizes.len(), sizes.iter().sum::<u64>()), (FILES, LIMIT));
        assert_eq!(std::fs::read_dir(from.path()).unwrap().count(), 40);
        save(from.path(), &saved, true).unwrap();
        assert_eq!(std::fs::read_dir(from.path()).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in "(dmesg|console)-x") {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some(crash) = told(&[(kind, text)]) {
                prop_assert!(!crash.line.contains(char::is_control) && crash.line.chars().count() <= LINE);
            }
        }
    }
}
