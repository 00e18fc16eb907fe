//! New settings for a server that runs: checked as a whole, and then taken between two messages.
//!
//! Which sockets there are stays as it is: for another mode, other interfaces or another lease file the server is started anew.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, eventfd};

use super::interface::{self, Interface};
use super::settings::{BadSettings, Config, Settings};

/// What the server's thread is woken for.
#[derive(Debug)]
pub(super) struct Wake {
    pub(super) fd: OwnedFd,
    stops: AtomicBool,
    next: Mutex<Option<Config>>,
}

impl Wake {
    pub(super) fn new() -> Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("making an eventfd")?;
        Ok(Self { fd, stops: AtomicBool::new(false), next: Mutex::default() })
    }

    pub(super) fn stop(&self) {
        self.stops.store(true, Ordering::Release);
        self.ring();
    }

    fn ring(&self) {
        // It fails where it was rung 2⁶⁴ times already.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    pub(super) fn stops(&self) -> bool {
        self.stops.load(Ordering::Acquire)
    }

    /// New settings, if there are any.
    pub(super) fn take(&self) -> Option<Config> {
        let _ = rustix::io::read(&self.fd, &mut [0u8; 8]);
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Gives a server that runs new settings.
#[derive(Debug)]
pub struct Reload {
    wake: Arc<Wake>,
    now: Mutex<(Settings, Vec<Interface>)>,
}

impl Reload {
    pub(super) fn new(wake: Arc<Wake>, settings: Settings, config: &Config) -> Self {
        let interfaces = config.links.iter().map(|link| link.interface.clone()).collect();
        Self { wake, now: Mutex::new((settings, interfaces)) }
    }

    /// Checks settings, and has the server take them.
    ///
    /// # Errors
    /// All that is wrong with them, or that takes a new start; nothing has changed then.
    pub fn change(&self, settings: &Settings) -> Result<(), BadSettings> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, served) = &*now;
        if settings == before {
            return Ok(());
        }
        let fixed = [
            ("--dhcp", settings.mode != before.mode),
            ("--dhcp-interface", settings.interfaces != before.interfaces),
            ("--dhcp-leases", settings.leases != before.leases),
        ];
        let changed = fixed.into_iter().filter(|(_, has_changed)| *has_changed);
        let wrong: Vec<_> = changed
            .map(|(flag, _)| format!("{flag} has changed: that takes a new start of the server"))
            .collect();
        if !wrong.is_empty() {
            return Err(BadSettings(wrong));
        }
        let mut machine = interface::all().map_err(|error| BadSettings(vec![format!("{error:#}")]))?;
        // One that is unplugged just now comes back.
        let away: Vec<_> =
            served.iter().filter(|one| machine.iter().all(|other| other.name != one.name)).cloned().collect();
        machine.extend(away);
        let config = settings.check(&machine)?;
        *self.wake.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
        self.wake.ring();
        now.0 = settings.clone();
        Ok(())
    }
}
