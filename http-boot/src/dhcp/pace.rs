//! How often one client may ask: a bucket of tokens for each Ethernet address.

use init::mac::Mac;
use std::time::{Duration, Instant};

use super::recent::Recent;

/// In a burst: a boot from DISCOVER to ACK takes two, on a bad line some more.
const BURST: f64 = 16.0;
/// After that, in a second: a bootloader asks every 4 seconds, an impatient client every second.
const EACH_SECOND: f64 = 4.0;
/// Clients whose buckets are remembered. One that is forgotten starts with a full one.
const CLIENTS: usize = 2048;

/// The buckets.
#[derive(Debug)]
pub struct Pace(Recent<Mac, (f64, Instant)>);

impl Default for Pace {
    fn default() -> Self {
        Self(Recent::new(CLIENTS))
    }
}

impl Pace {
    /// Whether a question of this client is answered; takes a token if so.
    pub fn allows(&mut self, mac: Mac, now: Instant) -> bool {
        let (tokens, since) = self.0.touch(mac, || (BURST, now));
        let passed = now.saturating_duration_since(*since).min(Duration::from_secs(60));
        *tokens = (*tokens + passed.as_secs_f64() * EACH_SECOND).min(BURST);
        *since = now;
        let allowed = *tokens >= 1.0;
        if allowed {
            *tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_pace() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let [loud, quiet] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
        let mut allowed = |mac, seconds: u64, count| {
            let now = start + Duration::from_secs(seconds);
            (0..count).filter(|_| pace.allows(mac, now)).count()
        };
        assert_eq!(allowed(loud, 0, 1000), 16);
        assert_eq!(allowed(quiet, 0, 3), 3, "others do not suffer");
        assert_eq!(allowed(loud, 1, 1000), 4);
        assert_eq!(allowed(loud, 3600, 1000), 16);
    }
}
