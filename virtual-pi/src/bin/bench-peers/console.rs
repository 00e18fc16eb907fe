//! The console with the times at which its lines arrived, and what they tell.
//!
//! The kernel writes into each of its lines the seconds since its start. The smallest difference between that and the
//! time of arrival is when the kernel started; all other times count from there. QEMU's guests have the host's clock.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use regex::Regex;

/// The kernel hands over to the initramfs.
pub(crate) const INIT: &str = "Run /init as init process";
/// systemd of the OS greets (dracut's own says "(bookworm) dracut-…" before that).
pub(crate) const EXEC: &str = r"\([a-z]+\)(\x1b\[[0-9;]*m)?!";
/// The OS's unit that comes after multi-user.target.
pub(crate) const MULTI_USER: &str = "PEER-BENCH: multi-user";
/// It has said all about its memory.
pub(crate) const END: &str = "PEER-END";

/// A line, and when its end arrived.
#[derive(Clone, Debug)]
struct Line {
    at: Instant,
    text: String,
}

/// What takes the console's bytes and notes the times.
pub(crate) struct Recorder {
    began: Instant,
    lines: Arc<Mutex<Vec<Line>>>,
    partial: Vec<u8>,
    file: File,
}

/// What has been recorded; complete when the machine is gone.
#[derive(Clone, Debug)]
pub(crate) struct Recording(Arc<Mutex<Vec<Line>>>);

impl Recorder {
    /// Records, and writes the lines with their times to a file.
    pub(crate) fn new(path: &Path) -> Result<(Self, Recording)> {
        let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let recording = Recording(lines.clone());
        Ok((Self { began: Instant::now(), lines, partial: Vec::new(), file }, recording))
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let at = Instant::now();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if !piece.ends_with(b"\n") {
                continue;
            }
            let text = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
            self.partial.clear();
            writeln!(self.file, "{:9.3} {text}", at.duration_since(self.began).as_secs_f64())?;
            self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(Line { at, text });
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Recording {
    fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the kernel started.
    pub(crate) fn kernel_start(&self) -> Option<Instant> {
        let stamp = Regex::new(r"^\[ *(\d+\.\d{6})\] ").ok()?;
        let start = |line: &Line| {
            let seconds = stamp.captures(&line.text)?.get(1)?.as_str().parse().ok()?;
            line.at.checked_sub(Duration::try_from_secs_f64(seconds).ok()?)
        };
        self.lines().iter().filter_map(start).min()
    }

    /// When the first line came that a regular expression matches.
    pub(crate) fn first(&self, pattern: &str) -> Option<Instant> {
        let pattern = Regex::new(pattern).ok()?;
        self.lines().iter().find(|line| pattern.is_match(&line.text)).map(|line| line.at)
    }

    /// The OS's `/proc/meminfo` at multi-user, in MiB.
    pub(crate) fn memory(&self) -> BTreeMap<String, f64> {
        let figure = |line: &Line| {
            let (name, kib) = line.text.split_once("PEER-MEM: ")?.1.split_once(": ")?;
            Some((name.to_owned(), kib.trim().parse::<f64>().ok()? / 1024.0))
        };
        self.lines().iter().filter_map(figure).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(lines: &[(u64, &str)]) -> (Instant, Recording) {
        let zero = Instant::now() + Duration::from_secs(60);
        let line =
            |(ms, text): &(u64, &str)| Line { at: zero + Duration::from_millis(*ms), text: (*text).into() };
        (zero, Recording(Arc::new(Mutex::new(lines.iter().map(line).collect()))))
    }

    #[test]
    fn the_kernel_start_is_that_of_the_line_that_took_least() {
        let (zero, recording) =
            recording(&[(1500, "[    1.000000] a"), (1300, "[    1.100000] b"), (9000, "no stamp")]);
        assert_eq!(recording.kernel_start(), Some(zero + Duration::from_millis(200)));
    }

    #[test]
    fn the_os_is_told_from_dracut_s_systemd() {
        let (zero, recording) = recording(&[
            (100, "Welcome to \x1b[1mDebian GNU/Linux 12 (bookworm) dracut-059-4 (Initramfs)\x1b[0m!"),
            (200, "Welcome to \x1b[1mDebian GNU/Linux 12 (bookworm)\x1b[0m!"),
        ]);
        assert_eq!(recording.first(EXEC), Some(zero + Duration::from_millis(200)));
        assert_eq!(recording.first(MULTI_USER), None);
    }

    #[test]
    fn lines_come_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let (mut recorder, recording) = Recorder::new(&folder.path().join("log")).unwrap();
        for piece in ["PEER-MEM: Ca", "ched: 2048\r\nPEER-MEM: Shmem: 512\nPEER-"] {
            recorder.write_all(piece.as_bytes()).unwrap();
        }
        assert_eq!(recording.memory(), [("Cached".into(), 2.0), ("Shmem".into(), 0.5)].into());
        assert_eq!(std::fs::read_to_string(folder.path().join("log")).unwrap().lines().count(), 2);
    }
}
