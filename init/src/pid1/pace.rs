//! How fast, how long, how often: the rate that is kept, the wait before another try, a connection that only trickles.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// 64 bits that nobody can guess.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    // The kernel gives so few bytes whole (getrandom(2)); before its pool is ready it waits, which is over long before this.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        // A kernel without: the clock differs from machine to machine by more than it takes here.
        _ => super::announce::uptime_ms() ^ u64::from(std::process::id()) << 32,
    }
}

/// Some time from zero to `most`.
pub fn up_to(most: Duration) -> Duration {
    most.mul_f64((random() >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Half of `wait`, and by chance up to the other half ("equal jitter"): a site's machines, that all lost their server in one
/// moment, do not all come back in one.
pub fn spread(wait: Duration) -> Duration {
    wait / 2 + up_to(wait / 2)
}

/// Waits that double.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    /// From `first` to at most `last`.
    pub const fn new(first: Duration, last: Duration) -> Self {
        Backoff { first, last, next: first }
    }

    /// The next wait, [`spread`].
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.last);
        spread(wait)
    }

    /// It went well: the next wait is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Keeps to so many bytes a second, counted from its start. What was not used in the last second is lost.
#[derive(Debug)]
pub struct Limiter {
    rate: Option<u64>,
    /// When what was let through so far is paid for.
    paid: Instant,
}

impl Limiter {
    /// `None`: no limit.
    pub fn new(rate: Option<u64>) -> Self {
        Limiter { rate, paid: Instant::now() }
    }

    /// The most that is worth reading at once: a tenth of a second.
    pub fn slice(&self, wanted: usize) -> usize {
        let most = self.rate.map_or(usize::MAX, |rate| usize::try_from(rate / 10).unwrap_or(usize::MAX));
        wanted.min(most.max(256))
    }

    /// How long to wait after so many bytes.
    pub fn wait_after(&mut self, bytes: usize, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let second = Duration::from_secs(1);
        self.paid = self.paid.max(now.checked_sub(second).unwrap_or(now));
        self.paid += Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        self.paid.saturating_duration_since(now)
    }
}

/// Below this many bytes a second a connection is as good as dead.
const TRICKLE: u64 = 2 << 10;
const FIRST_PATIENCE: Duration = Duration::from_secs(30);
const LAST_PATIENCE: Duration = Duration::from_secs(480);

/// Sees a connection that only trickles. Each that does makes it wait twice as long: where every way is that slow, a new
/// connection is no help, and the bytes come in the end.
#[derive(Debug)]
pub struct Trickle {
    patience: Duration,
    bytes: u64,
    /// Time spent on the network since the window began.
    spent: Duration,
}

impl Default for Trickle {
    fn default() -> Self {
        Trickle { patience: FIRST_PATIENCE, bytes: 0, spent: Duration::ZERO }
    }
}

impl Trickle {
    /// A connection begins.
    pub fn begin(&mut self) {
        (self.bytes, self.spent) = (0, Duration::ZERO);
    }

    /// So many bytes came after waiting so long for them. `Some`: it is a trickle, in words.
    pub fn came(&mut self, bytes: usize, waited: Duration) -> Option<String> {
        self.bytes += bytes as u64;
        self.spent += waited;
        if self.spent < self.patience {
            return None;
        }
        let rate = (self.bytes as f64 / self.spent.as_secs_f64()) as u64;
        let seconds = self.spent.as_secs();
        self.begin();
        if rate >= TRICKLE {
            self.patience = FIRST_PATIENCE;
            return None;
        }
        self.patience = (self.patience * 2).min(LAST_PATIENCE);
        Some(format!(
            "only {}/s for {seconds} s: the connection is as good as dead",
            crate::size::human(rate)
        ))
    }
}

/// A body that is read at a rate, and given up when it only trickles.
pub struct Paced<'a, R> {
    from: R,
    limiter: &'a mut Limiter,
    trickle: &'a mut Trickle,
    /// Said after the bytes that came with it.
    stalled: Option<String>,
}

impl<'a, R: Read> Paced<'a, R> {
    /// A new connection's body.
    pub fn new(from: R, limiter: &'a mut Limiter, trickle: &'a mut Trickle) -> Self {
        trickle.begin();
        Paced { from, limiter, trickle, stalled: None }
    }
}

impl<R: Read> Read for Paced<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(stalled) = self.stalled.take() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, stalled));
        }
        let slice = self.limiter.slice(into.len());
        let began = Instant::now();
        let count = self.from.read(into.get_mut(..slice).unwrap_or_default())?;
        let now = Instant::now();
        self.stalled = self.trickle.came(count, now - began);
        std::thread::sleep(self.limiter.wait_after(count, now));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_and_are_spread() {
        let mut backoff = Backoff::new(SECOND, 5 * SECOND);
        for full in [1, 2, 4, 5, 5] {
            let wait = backoff.wait();
            assert!(wait >= full * SECOND / 2 && wait <= full * SECOND, "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= SECOND);
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| up_to(1000 * SECOND)).collect();
        assert!(waits.len() > 15, "{waits:?}");
    }

    #[test]
    fn a_rate_is_kept() {
        let begin = Instant::now();
        let mut limiter = Limiter { rate: Some(10_000), paid: begin };
        assert_eq!(limiter.slice(50_000), 1000);
        assert_eq!(limiter.wait_after(1000, begin), SECOND / 10);
        assert_eq!(limiter.wait_after(1000, begin + SECOND / 10), SECOND / 10);
        // An hour of silence gives no hour's bytes at once.
        let later = begin + 3600 * SECOND;
        assert_eq!(limiter.wait_after(10_000, later), Duration::ZERO);
        assert_eq!(limiter.wait_after(10_000, later), SECOND);
        assert_eq!(Limiter::new(None).wait_after(1 << 30, begin), Duration::ZERO);
    }

    #[test]
    fn what_came_before_a_stall_is_given() {
        struct Drops;
        impl Read for Drops {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_millis(20));
                into[0] = 7;
                Ok(1)
            }
        }
        let (mut limiter, mut trickle) = (Limiter::new(None), Trickle::default());
        trickle.patience = Duration::from_millis(10);
        let mut paced = Paced::new(Drops, &mut limiter, &mut trickle);
        let mut bytes = [0; 8];
        assert_eq!((paced.read(&mut bytes).unwrap(), bytes[0]), (1, 7));
        let error = paced.read(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("as good as dead"), "{error}");
    }

    #[test]
    fn a_trickle_is_seen_and_a_slow_line_is_not() {
        let mut trickle = Trickle::default();
        // 256 kbit/s.
        assert!((0..300).all(|_| trickle.came(32 << 10, SECOND).is_none()));
        let mut first = |limit: u32| (1..=limit).find(|_| trickle.came(100, SECOND).is_some());
        assert_eq!(first(60), Some(30));
        assert_eq!(first(100), Some(60));
        let text = (0..120).find_map(|_| trickle.came(100, SECOND)).unwrap();
        assert!(text.starts_with("only 100 B/s for 120 s"), "{text}");
    }
}
