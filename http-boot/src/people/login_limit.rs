//! How often one address may try a password: a few at once, then one in a while. Bounded, as all that strangers fill.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many tries an address has at once.
pub const TRIES: u32 = 5;
/// How long it takes until it has one more.
pub const EACH: Duration = Duration::from_secs(30);
/// How many addresses are remembered; the one that comes back to its full number first goes first.
const ADDRESSES: usize = 4096;

/// Remembers who tried.
#[derive(Debug, Default)]
pub struct LoginLimit {
    /// For each address, when it will have all tries again.
    full_at: Mutex<HashMap<IpAddr, Instant>>,
}

impl LoginLimit {
    /// Takes one try, which may be under way at the same time as others.
    ///
    /// # Errors
    /// How long to wait, when there is none left.
    pub fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        full_at.retain(|_, at| *at > now);
        let at = full_at.get(&group(address)).copied().unwrap_or(now) + EACH;
        let wait = at.saturating_duration_since(now).saturating_sub(EACH * TRIES);
        if !wait.is_zero() {
            return Err(wait);
        }
        if full_at.len() >= ADDRESSES
            && let Some(first) = full_at.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address)
        {
            full_at.remove(&first);
        }
        full_at.insert(group(address), at);
        Ok(())
    }

    /// Gives a try back: the password was right.
    pub fn give_back(&self, address: IpAddr) {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = full_at.get_mut(&group(address)) {
            *at = at.checked_sub(EACH).unwrap_or(*at);
        }
    }
}

/// Who has an IPv6 address has a /64 of them.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_then_one_in_a_while() {
        let limit = LoginLimit::default();
        let now = Instant::now();
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..TRIES {
            assert_eq!(limit.take(here, now), Ok(()));
        }
        assert_eq!(limit.take(here, now), Err(EACH));
        assert_eq!(limit.take("192.0.2.2".parse().unwrap(), now), Ok(()));
        assert_eq!(limit.take(here, now + EACH), Ok(()));
        assert!(limit.take(here, now + EACH).is_err());
        limit.give_back(here);
        assert_eq!(limit.take(here, now + EACH), Ok(()));
    }

    #[test]
    fn a_network_counts_as_one_and_memory_is_bounded() {
        let limit = LoginLimit::default();
        let now = Instant::now();
        for i in 0..TRIES {
            assert_eq!(limit.take(format!("2001:db8::{i}").parse().unwrap(), now), Ok(()));
        }
        assert!(limit.take("2001:db8::ffff".parse().unwrap(), now).is_err());
        assert!(limit.take("2001:db8:0:1::1".parse().unwrap(), now).is_ok());
        for i in 0..2 * ADDRESSES as u32 {
            let _ = limit.take(IpAddr::V4(i.into()), now);
        }
        assert!(limit.full_at.lock().unwrap().len() <= ADDRESSES);
    }
}
