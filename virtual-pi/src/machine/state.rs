//! What is known about a running machine, and the waiting for it to change.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use init::status::BootStatus;

use super::usage::Usage;

/// How much of the console's text is kept, in bytes; the oldest goes first.
const CONSOLE_LIMIT: usize = 16 << 20;
/// What stands for a time that is never over: a century.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// How many reports are kept; the oldest go first.
const REPORT_LIMIT: usize = 10_000;

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest switched itself off.
    PowerOff,
    /// The guest reset itself (`panic=` does so too). A real Pi would load its boot files again.
    Reset,
    /// The watchdog reset it.
    Watchdog,
    /// The time limit was over.
    TimeLimit,
    /// Someone called `kill`, or dropped the machine.
    Killed,
    /// QEMU ended by itself: what it said.
    Qemu(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PowerOff => write!(f, "the guest switched itself off"),
            Self::Reset => write!(f, "the guest reset itself"),
            Self::Watchdog => write!(f, "the watchdog reset the guest"),
            Self::TimeLimit => write!(f, "the time limit was over"),
            Self::Killed => write!(f, "it was killed"),
            Self::Qemu(said) => write!(f, "QEMU ended by itself: {said}"),
        }
    }
}

/// A moment in what the console and the report port said; only what comes after it counts in `wait_for_…_after`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub(super) console: usize,
    pub(super) reports: usize,
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct State {
    console: Vec<u8>,
    console_dropped: usize,
    reports: Vec<BootStatus>,
    reports_dropped: usize,
    /// Lines on the report port that are no `BootStatus`, with the reason.
    pub(super) bad_reports: Vec<String>,
    /// Why it is about to end: said by QMP, or the reason for which it was killed.
    pub(super) cause: Option<End>,
    /// How it ended. When this is set, all text and reports are here.
    pub(super) end: Option<End>,
    pub(super) usage: Usage,
    /// Whether the process has been waited for; its id may be another's then.
    pub(super) reaped: bool,
}

impl State {
    pub(super) fn add_console(&mut self, bytes: &[u8]) {
        self.console.extend_from_slice(bytes);
        if self.console.len() > CONSOLE_LIMIT + CONSOLE_LIMIT / 4 {
            let excess = self.console.len() - CONSOLE_LIMIT;
            self.console.drain(..excess);
            self.console_dropped += excess;
        }
    }

    pub(super) fn add_report(&mut self, report: BootStatus) {
        self.reports.push(report);
        if self.reports.len() > REPORT_LIMIT {
            self.reports.remove(0);
            self.reports_dropped += 1;
        }
    }

    /// The console's text from `from` (counted from the start of all) on.
    pub(super) fn console(&self, from: usize) -> &[u8] {
        self.console.get(from.saturating_sub(self.console_dropped)..).unwrap_or_default()
    }

    pub(super) fn reports(&self, from: usize) -> &[BootStatus] {
        self.reports.get(from.saturating_sub(self.reports_dropped)..).unwrap_or_default()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            console: self.console_dropped + self.console.len(),
            reports: self.reports_dropped + self.reports.len(),
        }
    }

    /// The last lines of the console, for an error.
    pub(super) fn tail(&self) -> String {
        let start = self.console.len().saturating_sub(4096);
        let text = String::from_utf8_lossy(self.console.get(start..).unwrap_or_default()).into_owned();
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        lines.get(lines.len().saturating_sub(25)..).unwrap_or_default().join("\n")
    }
}

/// Why a wait ended without what was waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// The time was over.
    Timeout,
    /// The machine ended, so that nothing more will come.
    Ended(End),
}

/// A [`State`] that threads change and wait for.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes all who wait.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` finds something, the machine has ended, or the time is over.
    pub(super) fn wait<T>(
        &self,
        timeout: Duration,
        mut look: impl FnMut(&State) -> Option<T>,
    ) -> Result<T, Missed> {
        // A time that no clock can hold is one that is never over.
        let deadline = Instant::now().checked_add(timeout).unwrap_or_else(|| Instant::now() + FOREVER);
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state) {
                return Ok(found);
            }
            if let Some(end) = &state.end {
                return Err(Missed::Ended(end.clone()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missed::Timeout);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_text_goes_and_offsets_stay() {
        let mut state = State::default();
        state.add_console(b"start\n");
        let mark = state.mark();
        for _ in 0..40 {
            state.add_console(&vec![b'x'; 1 << 20]);
        }
        state.add_console(b"\nend\n");
        assert!(state.console.len() <= CONSOLE_LIMIT + CONSOLE_LIMIT / 4);
        assert_eq!(state.mark().console, 6 + (40 << 20) + 5);
        assert!(state.console(mark.console).ends_with(b"x\nend\n"));
        assert_eq!(state.console(state.mark().console - 4), b"end\n");
        assert_eq!(state.console(usize::MAX), b"");
    }

    #[test]
    fn a_wait_ends_with_the_machine() {
        let shared = Shared::default();
        assert_eq!(shared.wait(Duration::ZERO, |_| None::<()>), Err(Missed::Timeout));
        shared.change(|state| state.end = Some(End::Reset));
        assert_eq!(shared.wait(Duration::MAX, |_| None::<()>), Err(Missed::Ended(End::Reset)));
        assert_eq!(shared.wait(Duration::ZERO, |_| Some(1)), Ok(1));
    }
}
