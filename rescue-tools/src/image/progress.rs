//! How far it is, for people: one line on a terminal that is written over, else a line from time to time.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use init::size::human;

/// Between two lines.
const PLAIN: Duration = Duration::from_secs(10);
/// Between two looks of the same line.
const TERMINAL: Duration = Duration::from_millis(250);
/// The rate is that of the last so many seconds.
const WINDOW: Duration = Duration::from_secs(8);
/// A phone's terminal.
const WIDTH: usize = 60;

/// Counts bytes and shows them on standard error.
pub struct Progress {
    terminal: bool,
    quiet: bool,
    done: AtomicU64,
    total: AtomicU64,
    also: AtomicU64,
    resumed: AtomicU32,
    shown: Mutex<Shown>,
}

struct Shown {
    /// What is done: `write`, `check`.
    what: &'static str,
    next: Instant,
    /// When, and how many bytes.
    samples: VecDeque<(Instant, u64)>,
    /// There is a line on the terminal that is not ended.
    open: bool,
}

impl Progress {
    /// On standard error; `quiet`: only what goes wrong.
    pub fn new(quiet: bool) -> Self {
        let shown =
            Shown { what: "", next: Instant::now() + TERMINAL, samples: VecDeque::new(), open: false };
        Progress {
            terminal: std::io::stderr().is_terminal(),
            quiet,
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            also: AtomicU64::new(0),
            resumed: AtomicU32::new(0),
            shown: Mutex::new(shown),
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Begins to count anew: `total` bytes, where that is known.
    pub fn begin(&self, what: &'static str, total: Option<u64>) {
        let mut shown = self.shown();
        let next = Instant::now() + if self.terminal { TERMINAL } else { PLAIN };
        *shown = Shown { what, next, samples: VecDeque::from([(Instant::now(), 0)]), open: shown.open };
        self.done.store(0, Ordering::Relaxed);
        self.also.store(0, Ordering::Relaxed);
        self.total.store(total.unwrap_or(0), Ordering::Relaxed);
    }

    /// So many bytes more of the total.
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.show();
    }

    /// So many bytes more on the disk.
    pub fn written(&self, bytes: u64) {
        self.also.fetch_add(bytes, Ordering::Relaxed);
        self.show();
    }

    /// A download went on after a break.
    pub fn resumed(&self) {
        self.resumed.fetch_add(1, Ordering::Relaxed);
    }

    /// How often.
    pub fn breaks(&self) -> u32 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        let mut shown = self.shown();
        self.clear(&mut shown);
        // There may be nobody left to tell: the session dropped, and the work goes on.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// Takes the line away.
    pub fn end(&self) {
        self.clear(&mut self.shown());
    }

    fn clear(&self, shown: &mut Shown) {
        if std::mem::take(&mut shown.open) {
            let _ = write!(std::io::stderr(), "\r{:WIDTH$}\r", "");
        }
    }

    fn show(&self) {
        if self.quiet {
            return;
        }
        let mut shown = self.shown();
        let now = Instant::now();
        if now < shown.next {
            return;
        }
        shown.next = now + if self.terminal { TERMINAL } else { PLAIN };
        let done = self.done.load(Ordering::Relaxed);
        shown.samples.push_back((now, done));
        while shown.samples.len() > 2 && shown.samples.get(1).is_some_and(|(then, _)| now - *then > WINDOW) {
            shown.samples.pop_front();
        }
        let rate = shown.samples.front().map_or(0.0, |(then, before)| {
            done.saturating_sub(*before) as f64 / (now - *then).as_secs_f64().max(0.001)
        });
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0);
        let also = Some(self.also.load(Ordering::Relaxed)).filter(|also| *also > 0);
        let line = line(shown.what, done, total, also, rate as u64);
        if self.terminal {
            shown.open = true;
            let _ = write!(std::io::stderr(), "\r{line:WIDTH$}");
            let _ = std::io::stderr().flush();
        } else {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

/// `write  45%  412.0 MiB of 915.5 MiB  38.1 MiB/s  0:13 left`
fn line(what: &str, done: u64, total: Option<u64>, also: Option<u64>, rate: u64) -> String {
    let mut line = what.to_string();
    if let Some(total) = total {
        line += &format!(" {:3}%", u128::from(done) * 100 / u128::from(total.max(1)));
    }
    line += &format!(" {}", human(done));
    if let Some(also) = also.filter(|_| total.is_some()) {
        line += &format!(" -> {}", human(also));
    }
    line += &format!(" {}/s", human(rate));
    if let Some(total) = total
        && rate > 0
    {
        let left = total.saturating_sub(done) / rate;
        line += &match left {
            0..3600 => format!(" {}:{:02} left", left / 60, left % 60),
            _ => format!(" {}h{:02} left", left / 3600, left / 60 % 60),
        };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_a_phone() {
        let gib = 1 << 30;
        assert_eq!(
            line("write", gib, Some(4 * gib), None, 100 << 20),
            "write  25% 1.0 GiB 100.0 MiB/s 0:30 left"
        );
        assert_eq!(line("write", gib, None, Some(gib), 0), "write 1.0 GiB 0 B/s");
        let long = line("read back", 999 << 30, Some(1000 << 30), Some(1023 << 30), 1);
        assert!(long.len() <= WIDTH + 20 && long.ends_with("left"), "{long}");
        assert_eq!(line("write", 5, Some(0), None, 0), "write 500% 5 B 0 B/s");
    }
}
