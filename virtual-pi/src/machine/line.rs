//! A bad line between the guest's network card and its network: frames are lost, late, or come at a modem's pace. QEMU hands
//! each frame out and takes it back (filter-redirector, `docs/colo-proxy.txt`): four bytes of length, big-endian, and the frame.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What is wrong with a line, in both directions alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of a hundred frames so many are lost, 0 to 100.
    pub loss_percent: u8,
    /// How long a frame is on its way, in each direction.
    pub delay: Duration,
    /// Bits a second; `None`: as fast as QEMU is.
    pub rate: Option<u64>,
    /// Which frames are lost: the same for the same seed and traffic.
    pub seed: u64,
}

/// What has come and gone, in frames of both directions.
#[derive(Debug, Default)]
pub struct Traffic {
    passed: AtomicU64,
    lost: AtomicU64,
}

impl Traffic {
    /// Frames that arrived.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Frames that did not.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// QEMU's names of the two directions.
pub(super) const QUEUES: [&str; 2] = ["tx", "rx"];
/// No frame is longer, also none that a network card puts together from several.
const FRAME_LIMIT: u32 = 128 << 10;
/// A modem's buffer: what would wait longer is lost.
const BUFFER: Duration = Duration::from_secs(2);

/// The socket of one end of one direction.
pub(super) fn socket(folder: &Path, queue: &str, end: &str) -> PathBuf {
    folder.join(format!("line-{queue}-{end}"))
}

/// Waits for QEMU at the four sockets.
#[derive(Debug)]
pub(super) struct Listening(Vec<[UnixListener; 2]>);

impl Listening {
    /// Makes the sockets in `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let listen = |queue: &str, end: &str| {
            let path = socket(folder, queue, end);
            UnixListener::bind(&path).with_context(|| format!("making the socket {}", path.display()))
        };
        let pairs = QUEUES.iter().map(|queue| Ok([listen(queue, "out")?, listen(queue, "in")?]));
        pairs.collect::<Result<_>>().map(Self)
    }

    /// Passes frames on from now on, until QEMU is gone. QEMU has connected: its monitor answers.
    pub(super) fn run(self, line: Line) -> Result<Arc<Traffic>> {
        let traffic = Arc::new(Traffic::default());
        for ([from, to], number) in self.0.into_iter().zip(1..) {
            let (from, _) = from.accept().context("taking QEMU's frames")?;
            let (to, _) = to.accept().context("giving QEMU its frames")?;
            let (sender, queue) = channel();
            thread::spawn(move || deliver(to, &queue));
            let mut relay = Relay { line, random: line.seed.wrapping_add(number), free: Instant::now() };
            let traffic = traffic.clone();
            thread::spawn(move || {
                relay.run(from, &traffic, |due, frame| sender.send((due, frame)).is_ok());
            });
        }
        Ok(traffic)
    }
}

/// One direction.
struct Relay {
    line: Line,
    random: u64,
    /// When the frame before has left the modem.
    free: Instant,
}

impl Relay {
    fn run(&mut self, mut from: UnixStream, traffic: &Traffic, send: impl Fn(Instant, Vec<u8>) -> bool) {
        while let Some(frame) = read_frame(&mut from) {
            match self.due(frame.len()) {
                None => _ = traffic.lost.fetch_add(1, Ordering::Relaxed),
                Some(due) => {
                    traffic.passed.fetch_add(1, Ordering::Relaxed);
                    if !send(due, frame) {
                        return;
                    }
                }
            }
        }
    }

    /// When a frame arrives; `None`: never.
    fn due(&mut self, length: usize) -> Option<Instant> {
        if self.next_random() % 100 < u64::from(self.line.loss_percent) {
            return None;
        }
        let now = Instant::now();
        if let Some(rate) = self.line.rate {
            let start = self.free.max(now);
            if start - now > BUFFER {
                return None;
            }
            self.free = start + Duration::from_secs_f64(length as f64 * 8.0 / rate.max(1) as f64);
            return Some(self.free + self.line.delay);
        }
        Some(now + self.line.delay)
    }

    /// splitmix64
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn read_frame(from: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let length = u32::from_be_bytes(length);
    let mut frame = vec![0; usize::try_from(length).ok().filter(|_| length <= FRAME_LIMIT)?];
    from.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn deliver(mut to: UnixStream, queue: &Receiver<(Instant, Vec<u8>)>) {
    for (due, frame) in queue {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut bytes = u32::try_from(frame.len()).unwrap_or_default().to_be_bytes().to_vec();
        bytes.extend(frame);
        if to.write_all(&bytes).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(line: Line) -> Relay {
        Relay { line, random: line.seed, free: Instant::now() }
    }

    const GOOD: Line = Line { loss_percent: 0, delay: Duration::ZERO, rate: None, seed: 7 };

    #[test]
    fn a_tenth_is_lost_and_always_the_same() {
        let lost = |seed| {
            let mut relay = relay(Line { loss_percent: 10, seed, ..GOOD });
            (0..10_000).map(|_| relay.due(1000).is_none()).collect::<Vec<_>>()
        };
        let count = lost(1).iter().filter(|lost| **lost).count();
        assert!((900..1100).contains(&count), "{count}");
        assert!(lost(1) == lost(1) && lost(1) != lost(2));
    }

    #[test]
    fn a_modem_has_a_pace_and_a_buffer() {
        let began = Instant::now();
        // 1000 bytes take a second.
        let mut relay = relay(Line { rate: Some(8000), ..GOOD });
        let dues: Vec<_> = (0..6).map(|_| relay.due(1000)).collect();
        assert!(dues[0].unwrap() >= began + Duration::from_secs(1));
        assert!(dues[1].unwrap() >= began + Duration::from_secs(2));
        assert!(dues[5].is_none(), "{dues:?}");
    }
}
