//! The hardware watchdog (`Documentation/watchdog/watchdog-api.rst`): while PID 1 lives it writes a byte now and then;
//! should it hang, the hardware resets the machine. A Pi's `bcm2835_wdt` counts at most 15 seconds.

use std::fs::{File, OpenOptions};
use std::io::Write;

/// Seconds between two bytes: a third of the shortest timer.
pub const FEED_EVERY_S: u64 = 5;

/// `/dev/watchdog0` once its driver is there.
#[derive(Default)]
pub struct Watchdog {
    device: Option<File>,
}

impl Watchdog {
    /// Feeds it, opening it first if need be. Opening starts the timer.
    pub fn feed(&mut self) {
        if self.device.is_none()
            && let Ok(device) = OpenOptions::new().write(true).open("/dev/watchdog0")
        {
            tracing::info!("feeding the watchdog /dev/watchdog0 every {FEED_EVERY_S} s");
            self.device = Some(device);
        }
        if let Some(device) = &mut self.device
            && let Err(error) = device.write_all(b".")
        {
            tracing::warn!("feeding the watchdog: {error}");
        }
    }

    /// Stops the timer (the magic close, `V`), so that an OS that does not know of it is not reset.
    pub fn disarm(&mut self) {
        if let Some(mut device) = self.device.take()
            && let Err(error) = device.write_all(b"V")
        {
            tracing::warn!("stopping the watchdog: {error}");
        }
    }
}
