//! SIGINT, SIGTERM and SIGHUP: the machine ends with us.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::machine::Killer;
use crate::wire::tap;

/// The exit code after a signal, while there is no machine yet.
const INTERRUPTED: i32 = 130;

/// What a signal has to end.
#[derive(Debug)]
enum Phase {
    /// Nothing but this process, and the tap device of this name.
    Loading(Option<String>),
    /// A machine that is about to be there; `true` once a signal came.
    Starting(bool),
    /// This machine.
    Running(Killer),
}

/// Catches the signals, from its making on.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<Mutex<Phase>>);

impl Interrupt {
    /// Starts to catch them.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("catching signals")?;
        let interrupt = Self(Arc::new(Mutex::new(Phase::Loading(None))));
        let phase = interrupt.clone();
        thread::spawn(move || signals.forever().for_each(|_| phase.signalled()));
        Ok(interrupt)
    }

    fn signalled(&self) {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Phase::Loading(tap) => {
                tap.as_deref().inspect(|name| tap::remove(name));
                std::process::exit(INTERRUPTED)
            }
            Phase::Starting(came) => *came = true,
            Phase::Running(killer) => killer.kill(),
        }
    }

    /// From now on there is this tap device to take away.
    pub fn plugged(&self, tap: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Phase::Loading(Some(tap.to_owned()));
    }

    /// From now on there may be something to clean up.
    pub fn starting(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Phase::Starting(false);
    }

    /// From now on this is to be killed; at once, if a signal came meanwhile.
    pub fn running(&self, killer: Killer) {
        let mut phase = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*phase, Phase::Starting(true)) {
            killer.kill();
        }
        *phase = Phase::Running(killer);
    }
}
