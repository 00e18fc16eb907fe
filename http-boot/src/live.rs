//! Tells open pages that a device has something new.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use crate::devices::Serial;
use crate::seats::Seats;

/// How many changes a page may lag behind before it is told to look at everything.
const BACKLOG: usize = 256;
/// The most pages that are updated live at once. Each holds a connection.
const PAGES: usize = 128;

/// The bell that rings for each change.
#[derive(Debug)]
pub struct Live {
    changes: broadcast::Sender<Serial>,
    stop: watch::Sender<bool>,
    /// Places for pages that listen.
    pub seats: Arc<Seats>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            changes: broadcast::channel(BACKLOG).0,
            stop: watch::channel(false).0,
            seats: Seats::new("live pages", PAGES),
        }
    }
}

impl Live {
    /// A device has changed.
    pub fn ring(&self, serial: &Serial) {
        let _nobody_looks = self.changes.send(serial.clone());
    }

    /// What changes from now on.
    pub fn listen(&self) -> broadcast::Receiver<Serial> {
        self.changes.subscribe()
    }

    /// How many pages listen.
    pub fn listeners(&self) -> usize {
        self.changes.receiver_count()
    }

    /// Ends all live pages: the server stops.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Turns true when the server stops.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }
}
