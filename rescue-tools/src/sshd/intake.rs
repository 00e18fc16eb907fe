//! What a client sends to a program that may read slowly, or not at all.
//!
//! `russh` opens a channel's window again as soon as data arrives, not when it is consumed, and it waits for whoever
//! takes the data with the whole connection: a program that stops reading would stop its own output as well, and
//! `ssh host cat <big | slow` would stand still for ever. So the data goes into a queue at once, and the queue governs
//! the window: above [`HIGH`] bytes the window is opened by [`PROBE`] bytes only, and only once the client has used up
//! the whole of it; each such probe is held back for [`PAUSE`], and the first one that finds the queue short opens the
//! window in full again. A client that keeps to its window (RFC 4254, section 5.2) can thus fill a queue with no more
//! than `HIGH + 2 * WINDOW`, and everything else on the connection goes on.
//!
//! Held by `a_program_that_does_not_read_does_not_stop_its_output` and `memory_is_bounded` in tests/transfer.rs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

/// Above so many bytes in a queue its client is made to wait.
pub const HIGH: usize = 1 << 20;
/// The window of a channel: bytes that a client may send ahead.
pub const WINDOW: u32 = 2 << 20;
/// The window of a client that is made to wait. `russh` opens a window that has shrunk below half of its target: with
/// 2 that is one of 0.
pub const PROBE: u32 = 2;
/// For how long a probe is held back, in case the queue gets short meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct Level {
    bytes: AtomicUsize,
    sank: Notify,
}

/// Where data goes in.
#[derive(Debug)]
pub struct Intake {
    /// None after the client's end of file.
    sender: Option<mpsc::UnboundedSender<Vec<u8>>>,
    level: Arc<Level>,
}

/// Where data comes out.
#[derive(Debug)]
pub struct Outlet {
    receiver: mpsc::UnboundedReceiver<Vec<u8>>,
    level: Arc<Level>,
}

/// A new queue.
pub fn queue() -> (Intake, Outlet) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let level = Arc::new(Level::default());
    (Intake { sender: Some(sender), level: level.clone() }, Outlet { receiver, level })
}

impl Intake {
    /// Takes `data`; waits for a moment with a probe that finds the queue long.
    pub async fn take(&self, data: &[u8]) {
        let Some(sender) = &self.sender else { return };
        self.level.bytes.fetch_add(data.len(), Ordering::Relaxed);
        if sender.send(data.to_vec()).is_err() {
            // The program reads no more: what it is sent is dropped, as by a pipe without a reader.
            self.level.bytes.store(0, Ordering::Relaxed);
        } else if self.is_high() && data.len() <= PROBE as usize {
            let _ = tokio::time::timeout(PAUSE, self.level.sank.notified()).await;
        }
    }

    /// Whether the client has to wait.
    pub fn is_high(&self) -> bool {
        self.level.bytes.load(Ordering::Relaxed) > HIGH
    }

    /// The client sends no more.
    pub fn end(&mut self) {
        self.sender = None;
    }
}

impl Outlet {
    /// The next data. None: the client sends no more.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.receiver.recv().await
    }

    /// `length` bytes have gone to the program.
    pub fn consumed(&self, length: usize) {
        let before = self.level.bytes.fetch_sub(length, Ordering::Relaxed);
        if before > HIGH && before - length <= HIGH {
            self.level.sank.notify_one();
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.level.bytes.store(0, Ordering::Relaxed);
        self.level.sank.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn a_queue_is_high_until_it_is_consumed() {
        block_on(async {
            let (mut intake, mut outlet) = queue();
            intake.take(&vec![1; HIGH]).await;
            assert!(!intake.is_high());
            intake.take(&[2; 2]).await;
            assert!(intake.is_high());
            let first = outlet.next().await.unwrap();
            outlet.consumed(first.len());
            assert!(!intake.is_high());
            intake.end();
            assert_eq!(outlet.next().await, Some(vec![2; 2]));
            assert_eq!(outlet.next().await, None);
        });
    }

    #[test]
    fn a_program_that_reads_no_more_holds_nobody_up() {
        block_on(async {
            let (intake, outlet) = queue();
            drop(outlet);
            intake.take(&vec![1; 2 * HIGH]).await;
            assert!(!intake.is_high());
        });
    }
}
