//! The pulse of the boot's worker. A thread of it tells PID 1 every few seconds that it lives, as long as its step is
//! within its deadline, or says by what it announces that its waits come to an end. Without a pulse PID 1 stops feeding
//! the hardware watchdog: the vm tier's test `a_worker_that_hangs_ends_in_a_watchdog_reset` holds that.
//!
//! A step that is late has the worker end, which costs less than a reset: PID 1 starts it again.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::control::{self, Message};

/// From one beat to the next: several fit into PID 1's patience ([`super::watchdog::SILENCE`]).
const BEAT: Duration = Duration::from_secs(10);
/// A step without a deadline waits for the world outside, in waits of its own that are shorter by far: 80 s at most, in
/// `network`. Each of them ends with an announcement, which begins this time anew.
const PATIENCE: Duration = Duration::from_secs(600);
/// The exit code of a worker that hung.
const HUNG: i32 = 124;

/// How long the worker may go on as it does.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    term: Mutex<Term>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Term {
    /// The step.
    of: &'static str,
    /// When it is over; `None`: the worker rests.
    ends: Option<Instant>,
    /// Whether an announcement begins it anew.
    renewable: bool,
    limit: Duration,
}

impl Term {
    fn new(of: &'static str, limit: Duration, renewable: bool) -> Self {
        Term { of, ends: Some(Instant::now() + limit), renewable, limit }
    }

    /// How long until the next beat; `None`: the term is over.
    fn next_beat(&self, now: Instant) -> Option<Duration> {
        match self.ends {
            Some(ends) if ends <= now => None,
            Some(ends) => Some(BEAT.min(ends - now)),
            None => Some(BEAT),
        }
    }
}

impl Pulse {
    /// A pulse that nobody feels yet: of a worker at rest.
    pub fn new() -> Self {
        Pulse(Arc::default())
    }

    /// Beats from now on.
    ///
    /// # Errors
    /// When there is no memory for another thread.
    pub fn start(&self) -> Result<()> {
        let shared = self.0.clone();
        let thread = std::thread::Builder::new().name("pulse".into());
        thread.spawn(move || shared.beat()).context("starting the worker's pulse").map(drop)
    }

    /// `step` has to be over within `limit`.
    pub fn within(&self, step: &'static str, limit: Duration) {
        self.set(Term::new(step, limit, false));
    }

    /// `step` waits for the world outside: it has to announce something now and then.
    pub fn open(&self, step: &'static str) {
        self.set(Term::new(step, PATIENCE, true));
    }

    /// The worker waits for a person, or for a program that may take any time.
    pub fn rest(&self) {
        self.set(Term::default());
    }

    /// An announcement.
    pub fn renew(&self) {
        let mut term = self.0.lock();
        if term.renewable {
            *term = Term::new(term.of, term.limit, true);
        }
    }

    fn set(&self, term: Term) {
        *self.0.lock() = term;
        self.0.changed.notify_all();
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Term> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self) {
        let mut term = self.lock();
        let mut told: Option<Instant> = None;
        while let Some(wait) = term.next_beat(Instant::now()) {
            if told.is_none_or(|told| told.elapsed() >= BEAT) {
                // Where PID 1 does not listen, it counts nothing.
                let _ = control::send(&Message::Alive);
                told = Some(Instant::now());
            }
            term = self.changed.wait_timeout(term, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        let (of, limit) = (term.of, term.limit.as_secs());
        tracing::error!("{of} hangs: it was silent for more than {limit} s; the boot starts anew");
        std::process::exit(HUNG);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(pulse: &Pulse, after: Duration) -> Option<Duration> {
        pulse.0.lock().next_beat(Instant::now() + after)
    }

    #[test]
    fn a_deadline_holds_whatever_is_announced() {
        let pulse = Pulse::new();
        pulse.within("mount", Duration::from_secs(60));
        pulse.renew();
        assert_eq!(left(&pulse, Duration::ZERO), Some(BEAT));
        assert!(left(&pulse, Duration::from_secs(55)).is_some_and(|left| left < BEAT));
        assert_eq!(left(&pulse, Duration::from_secs(61)), None);
    }

    #[test]
    fn a_wait_goes_on_for_as_long_as_it_is_announced() {
        let pulse = Pulse::new();
        pulse.open("fetch");
        assert_eq!(left(&pulse, PATIENCE), None);
        let before = pulse.0.lock().ends;
        pulse.renew();
        assert!(pulse.0.lock().ends > before);
    }

    #[test]
    fn whoever_rests_is_never_late() {
        let pulse = Pulse::new();
        pulse.within("mount", Duration::ZERO);
        pulse.rest();
        pulse.renew();
        assert_eq!(left(&pulse, PATIENCE * 1000), Some(BEAT));
    }
}
