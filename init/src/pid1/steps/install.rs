//! Step `install`: writes a signed disk image to a disk of this machine (`lifeboat.install=`), by `rescue write`, where that loses
//! nothing or somebody signed for this very boot.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::install::Install;
use crate::pid1::boot::Boot;
use crate::status::RUN_DIR;

/// The kernel tells this process of no new disk; so often it is looked.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Of a disk's beginning, so many bytes are looked at, all of them: tables, superblocks, a boot partition's start.
const BEGINNING: u64 = 16 << 20;
/// Of the rest, this many places, evenly spread, and the end.
const PLACES: u64 = 1024;
const PLACE: u64 = 4096;

/// What this boot has done already, should its worker be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Begun,
    Done,
}

impl Mark {
    fn path(self) -> String {
        match self {
            Mark::Begun => format!("{RUN_DIR}/install-begun"),
            Mark::Done => format!("{RUN_DIR}/install-done"),
        }
    }

    /// For this image and disk.
    fn is_set(self, install: &Install) -> bool {
        std::fs::read_to_string(self.path()).is_ok_and(|text| text == words(install))
    }

    fn set(self, install: &Install) -> Result<()> {
        let path = self.path();
        std::fs::write(&path, words(install)).with_context(|| format!("writing {path}"))
    }
}

fn words(install: &Install) -> String {
    format!("{} {}", install.url, install.to)
}

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let Some(install) = boot.disk_boot()?.install else { return Ok(()) };
    if Mark::Done.is_set(&install) {
        return Ok(());
    }
    while !Path::new(&install.to).exists() {
        boot.announcer.waiting(&format!("waiting for the disk {} to appear", install.to));
        std::thread::sleep(LOOK_AGAIN);
    }
    if !may_write(&install)? {
        tracing::info!(
            "{} is not empty, and this is not the boot to overwrite it: nothing is installed",
            install.to
        );
        return Ok(());
    }
    Mark::Begun.set(&install)?;
    boot.announcer.pulse.rest();
    let written = write(boot, &install);
    boot.announcer.pulse.open("install");
    written?;
    Mark::Done.set(&install)
}

/// Whether what is on the disk may be lost.
fn may_write(install: &Install) -> Result<bool> {
    if Mark::Begun.is_set(install) {
        return Ok(true);
    }
    if let Some(wanted) = &install.boot {
        let path = "/proc/sys/kernel/random/boot_id";
        let running = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        if running.trim() == wanted {
            return Ok(true);
        }
    }
    let looking = || format!("looking whether {} is empty", install.to);
    let mut disk = File::open(&install.to).with_context(looking)?;
    is_empty(&mut disk).with_context(looking)
}

/// Whether a disk has nothing but zeroes, or nothing but ones, as a new one or one that was discarded has: at its beginning, at its
/// end and at places between.
fn is_empty(disk: &mut (impl Read + Seek)) -> Result<bool> {
    let size = disk.seek(SeekFrom::End(0)).context("asking for its size")?;
    if size == 0 {
        bail!("it has no medium");
    }
    let step = (size / PLACES).max(PLACE);
    let between = (0..PLACES).map(|place| (place * step, PLACE));
    let places =
        std::iter::once((0, BEGINNING)).chain(between).chain([(size.saturating_sub(1 << 20), 1 << 20)]);
    let mut first = None;
    for (start, length) in places.filter(|(start, _)| *start < size) {
        disk.seek(SeekFrom::Start(start)).context("going to a place of it")?;
        let mut piece = vec![0; 64 << 10];
        let mut left = length.min(size - start);
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(piece.len()).min(piece.len());
            let part = piece.get_mut(..want).unwrap_or_default();
            disk.read_exact(part).with_context(|| format!("reading it at byte {start}"))?;
            let byte = *first.get_or_insert_with(|| part.first().copied().unwrap_or_default());
            if !matches!(byte, 0 | 0xff) || part.iter().any(|other| *other != byte) {
                return Ok(false);
            }
            left -= want as u64;
        }
    }
    Ok(true)
}

/// Runs `rescue write`, which checks the signature, and shows its lines.
fn write(boot: &mut Boot, install: &Install) -> Result<()> {
    let mut child = Command::new("/rescue")
        .args(["write", "--yes", install.url.as_str(), &install.to])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("running rescue write")?;
    let mut last = String::from("it said nothing");
    let lines = child.stderr.take().map(|said| BufReader::new(said).lines());
    for line in lines.into_iter().flatten().map_while(Result::ok) {
        let line = line.trim().trim_start_matches("rescue write: ").to_owned();
        if !line.is_empty() {
            boot.announcer.waiting(&format!("installing on {}: {line}", install.to));
            last = line;
        }
    }
    let status = child.wait().context("waiting for rescue write")?;
    if !status.success() {
        bail!("installing {} on {}: {last} ({status})", install.url, install.to);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_disk_is_empty_or_not() {
        for (size, byte) in [(4096, 0), (64 << 20, 0), (40 << 20, 0xff), (3 << 20, 0)] {
            assert!(is_empty(&mut Cursor::new(vec![byte; size])).unwrap(), "{size} {byte}");
            // A word anywhere at its beginning, and at its end.
            for at in [0, 510, size / 3, size - 1] {
                if at >= 16 << 20 && at != size - 1 {
                    continue;
                }
                let mut disk = vec![byte; size];
                disk[at] = 0x55;
                assert!(!is_empty(&mut Cursor::new(disk)).unwrap(), "{size} {byte} {at}");
            }
        }
        // Files behind an empty beginning.
        let mut disk = vec![0; 64 << 20];
        disk[20 << 20..24 << 20].fill(7);
        assert!(!is_empty(&mut Cursor::new(disk)).unwrap());
        // Zeroes here and ones there were written by somebody.
        let mut disk = vec![0; 32 << 20];
        disk[17 << 20..].fill(0xff);
        assert!(!is_empty(&mut Cursor::new(disk)).unwrap());
        assert!(is_empty(&mut Cursor::new(vec![1; 4096])).is_ok_and(|empty| !empty));
        assert!(is_empty(&mut Cursor::new(Vec::new())).is_err());
    }
}
