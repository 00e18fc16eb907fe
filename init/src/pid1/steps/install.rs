//! Step `install`: writes a signed disk image to a disk of this machine (`lifeboat.install=`), by `rescue write`, where that loses
//! nothing or somebody signed for this very boot.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::hand_over::is_waited_for;
use crate::install::Install;
use crate::pid1::boot::Boot;
use crate::status::RUN_DIR;

/// The kernel tells this process of no new disk, nor of a person who leaves; so often it is looked.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A USB disk that spins up is there by then. After it the plan is asked for anew: the name may have been wrong.
const DISK_LIMIT: Duration = Duration::from_secs(60);
/// After a try that failed, as long again goes by as it took, at most this: an image that is wrong at its end would be fetched and
/// written for ever.
const LONGEST_REST: Duration = Duration::from_secs(15 * 60);
/// Of a disk's beginning, so many bytes are looked at, all of them: tables, superblocks, a boot partition's start.
const BEGINNING: u64 = 16 << 20;
/// Of the rest, this many places, spread over it, and the end.
const PLACES: u64 = 4096;
const PLACE: u64 = 4096;
/// `rescue write` keeps so much of both ends zero until all of the image is on the disk.
const END: u64 = 1 << 20;

/// What this boot has done already, should the step be taken again.
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
    fn is_set(self, words: &str) -> bool {
        std::fs::read_to_string(self.path()).is_ok_and(|text| text == words)
    }

    fn set(self, words: &str) -> Result<()> {
        let path = self.path();
        std::fs::write(&path, words).with_context(|| format!("writing {path}"))
    }
}

/// The image, and the disk by more than its name: another one that is plugged in later may get that
/// (Documentation/ABI/stable/sysfs-block, `diskseq`).
fn words(install: &Install) -> String {
    let name = install.to.trim_start_matches("/dev/").replace('/', "!");
    let number = std::fs::read_to_string(format!("/sys/class/block/{name}/diskseq")).unwrap_or_default();
    format!("{} {} {}", install.url, install.to, number.trim())
}

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let Some(install) = boot.disk_boot()?.install else { return Ok(()) };
    wait_for_disk(boot, &install)?;
    // Somebody may be saving what is on the disk, which claims nothing.
    while is_waited_for() {
        let next = format!("somebody is logged in: {} is not touched before they log out", install.to);
        boot.announcer.waiting(&next);
        std::thread::sleep(LOOK_AGAIN);
    }
    let words = words(&install);
    if Mark::Done.is_set(&words) {
        return Ok(());
    }
    if !may_write(&install, &words)? {
        tracing::info!(
            "{} is not empty, and this is not the boot to overwrite it: nothing is installed",
            install.to
        );
        return Ok(());
    }
    Mark::Begun.set(&words)?;
    boot.announcer.pulse.rest();
    let began = Instant::now();
    let written = write(boot, &install);
    if written.is_err() {
        std::thread::sleep(began.elapsed().min(LONGEST_REST));
    }
    boot.announcer.pulse.open("install");
    written?;
    Mark::Done.set(&words)
}

fn wait_for_disk(boot: &mut Boot, install: &Install) -> Result<()> {
    let began = Instant::now();
    while !Path::new(&install.to).exists() {
        if began.elapsed() > DISK_LIMIT {
            bail!("there is no {} (`rescue disks` shows what there is)", install.to);
        }
        boot.announcer.waiting(&format!("waiting for the disk {} to appear", install.to));
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// Whether what is on the disk may be lost. A plan for one boot is for that one, whatever is on the disk.
fn may_write(install: &Install, words: &str) -> Result<bool> {
    if let Some(wanted) = &install.boot {
        let path = "/proc/sys/kernel/random/boot_id";
        let running = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        return Ok(running.trim() == wanted);
    }
    let looking = || format!("looking whether {} is empty", install.to);
    let mut disk = File::open(&install.to).with_context(looking)?;
    let is_ours = Mark::Begun.is_set(words) && has_empty_ends(&mut disk).with_context(looking)?;
    if is_ours { Ok(true) } else { is_empty(&mut disk).with_context(looking) }
}

/// Whether this is how a write of ours that did not come to its end leaves a disk: whoever used it since would have written there.
fn has_empty_ends(disk: &mut (impl Read + Seek)) -> Result<bool> {
    let size = size(disk)?;
    let mut first = None;
    let start = is_uniform(disk, 0, END.min(size), &mut first)?;
    Ok(start && is_uniform(disk, size.saturating_sub(END), END.min(size), &mut first)? && first == Some(0))
}

fn size(disk: &mut impl Seek) -> Result<u64> {
    match disk.seek(SeekFrom::End(0)).context("asking for its size")? {
        0 => bail!("it has no medium"),
        size => Ok(size),
    }
}

/// Whether a disk has nothing but zeroes, or nothing but ones, as a new one or one that was discarded has: at its beginning, at its
/// end and at places between.
fn is_empty(disk: &mut (impl Read + Seek)) -> Result<bool> {
    let size = size(disk)?;
    let step = (size / PLACES).max(PLACE);
    // Not at the same place of each piece: file systems repeat themselves.
    let between =
        (0..PLACES).map(|place| place * step + place.wrapping_mul(0x9E37_79B9) % step / PLACE * PLACE);
    let between = between.map(|start| (start, PLACE));
    let places = std::iter::once((0, BEGINNING)).chain(between).chain([(size.saturating_sub(END), END)]);
    let mut first = None;
    for (start, length) in places.filter(|(start, _)| *start < size) {
        if !is_uniform(disk, start, length.min(size - start), &mut first)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a part of a disk has nothing but zeroes or nothing but ones, and the same as `first`, where that was seen already.
fn is_uniform(
    disk: &mut (impl Read + Seek),
    start: u64,
    length: u64,
    first: &mut Option<u8>,
) -> Result<bool> {
    disk.seek(SeekFrom::Start(start)).context("going to a place of it")?;
    let mut piece = vec![0; 64 << 10];
    let mut left = length;
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
    let began = Instant::now();
    let mut last = String::from("it said nothing");
    let lines = child.stderr.take().map(|said| BufReader::new(said).lines());
    for line in lines.into_iter().flatten().map_while(Result::ok) {
        let line = line.trim().trim_start_matches("rescue write: ").to_owned();
        if !line.is_empty() {
            boot.announcer.waiting(&format!("installing on {}: {line}", install.to));
            // It says a line while bytes go to the disk: the reboot timer shall not end that.
            boot.announcer.advanced(began.elapsed().as_secs());
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

    #[test]
    fn a_write_that_was_cut_off_is_known_by_both_ends() {
        let mut disk = vec![0; 8 << 20];
        disk[2 << 20..5 << 20].fill(7);
        assert!(has_empty_ends(&mut Cursor::new(&disk)).unwrap());
        for at in [0, 510, END as usize - 1, disk.len() - 1, disk.len() - 512] {
            let mut used = disk.clone();
            used[at] = 1;
            assert!(!has_empty_ends(&mut Cursor::new(used)).unwrap(), "{at}");
        }
        assert!(!has_empty_ends(&mut Cursor::new(vec![0xff; 4 << 20])).unwrap());
    }
}
