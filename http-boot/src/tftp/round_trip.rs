//! How long an answer may take before something counts as lost (RFC 6298).

use std::time::Duration;

/// Before anything was measured (RFC 6298, section 2.1).
const FIRST: Duration = Duration::from_secs(1);
/// RFC 6298 has a second. That is long for each lost packet of a protocol that waits after each; Linux' TCP has this. Less
/// would double packets for clients that write to flash between blocks, and old bootloaders do not bear doubles well.
const SHORTEST: Duration = Duration::from_millis(200);
/// Longer than clients wait before they say something again (atftp and tftp-hpa: 5 s). There are some that answer no block
/// that they have already, and begin their wait anew with each: were ours the shorter one, both would wait for ever.
const LONGEST: Duration = Duration::from_secs(8);

/// What is known about a path.
#[derive(Clone, Debug)]
pub struct RoundTrip {
    /// The smoothed time, and how far from it times are.
    smoothed: Option<(Duration, Duration)>,
    doublings: u32,
    longest: Duration,
}

impl RoundTrip {
    /// Nothing yet. `timeout`: how long the client waits, if it said so (RFC 2349); our wait grows to twice that, for the
    /// reason that [`LONGEST`] has.
    pub fn new(timeout: Option<Duration>) -> Self {
        let longest = timeout.map_or(LONGEST, |timeout| (timeout * 2).min(LONGEST));
        Self { smoothed: None, doublings: 0, longest }
    }

    /// An answer to something that was sent but once came after `time`.
    pub fn measured(&mut self, time: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (time, time / 2),
            Some((smoothed, variation)) => {
                let variation = variation * 3 / 4 + smoothed.abs_diff(time) / 4;
                (smoothed * 7 / 8 + time / 8, variation)
            }
        });
    }

    /// Something was lost: wait longer next time.
    pub fn back_off(&mut self) {
        self.doublings = (self.doublings + 1).min(8);
    }

    /// It goes on.
    pub fn recovered(&mut self) {
        self.doublings = 0;
    }

    /// How long to wait now.
    pub fn timeout(&self) -> Duration {
        let base = self.smoothed.map_or(FIRST, |(smoothed, variation)| smoothed + variation * 4);
        (base.max(SHORTEST) * 2u32.pow(self.doublings)).min(self.longest)
    }

    /// Sooner than after this no answer can come.
    pub fn soonest(&self) -> Duration {
        self.smoothed.map_or(Duration::ZERO, |(smoothed, _)| smoothed / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn waits_grow_and_come_back() {
        let mut path = RoundTrip::new(None);
        assert_eq!(path.timeout(), ms(1000));
        path.back_off();
        assert_eq!(path.timeout(), ms(2000));
        for _ in 0..40 {
            path.back_off();
        }
        assert_eq!(path.timeout(), ms(8000));
        path.recovered();
        path.measured(ms(400));
        assert_eq!(path.timeout(), ms(1200));
        for _ in 0..200 {
            path.measured(ms(1));
        }
        assert_eq!(path.timeout(), ms(200));
        path.measured(ms(3000));
        assert!(path.timeout() > ms(2000), "{:?}", path.timeout());
    }

    #[test]
    fn a_client_says_how_long_at_most() {
        let mut path = RoundTrip::new(Some(ms(1000)));
        path.back_off();
        path.back_off();
        assert_eq!(path.timeout(), ms(2000));
        assert_eq!(RoundTrip::new(Some(Duration::from_secs(255))).longest, ms(8000));
    }
}
