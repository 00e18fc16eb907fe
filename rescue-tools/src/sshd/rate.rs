//! How fast an address may connect: at once for as many as a person or a script needs, then one after the other. Nobody is
//! refused for it: a key exchange costs us more than whoever asks for it, so who asks often waits.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// So many connections may come at once …
const BURST: u32 = 10;
/// … and then one in this time: ssh-audit takes 20 a second for too many.
const INTERVAL: Duration = Duration::from_millis(100);
/// Nobody waits longer. What one address has waiting at once is bounded by `admission::QUEUE`.
const LONGEST: Duration = Duration::from_secs(5);
/// So many addresses are told apart; further ones share one place.
const ADDRESSES: usize = 1024;

/// Who connected of late.
#[derive(Debug, Default)]
pub struct Rate {
    /// By address: when all that it had would be back (the theoretical arrival time of the generic cell rate algorithm,
    /// ITU-T I.371).
    due: BTreeMap<IpAddr, Instant>,
}

impl Rate {
    /// How long a connection from `from`, which came `now`, has to wait.
    pub fn wait(&mut self, from: IpAddr, now: Instant) -> Duration {
        self.due.retain(|_, due| *due > now);
        let mut place = network(from);
        if self.due.len() >= ADDRESSES && !self.due.contains_key(&place) {
            place = Ipv6Addr::UNSPECIFIED.into();
        }
        let due = self.due.entry(place).or_insert(now);
        let tolerance = INTERVAL * (BURST - 1);
        let wait = due.saturating_duration_since(now).saturating_sub(tolerance).min(LONGEST);
        *due = (*due + INTERVAL).min(now + tolerance + LONGEST);
        wait
    }
}

/// One machine has as many IPv6 addresses as it likes in a network of 64 bits.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_all_wait_a_little() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        let home = IpAddr::from([10, 0, 0, 1]);
        assert!((0..BURST).all(|_| rate.wait(home, now).is_zero()));
        assert_eq!(rate.wait(home, now), INTERVAL);
        assert_eq!(rate.wait(home, now), INTERVAL * 2);
        assert_eq!((0..1000).map(|_| rate.wait(home, now)).max(), Some(LONGEST));
        assert!(rate.wait([10, 0, 0, 2].into(), now).is_zero(), "others do not");
        assert!(rate.wait(home, now + LONGEST + INTERVAL * BURST).is_zero(), "and it is forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_place() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        let waits = (0..20_u128).map(|last| {
            let address = Ipv6Addr::from_bits((0xfd00 << 112) + last);
            rate.wait(address.into(), now)
        });
        assert_eq!(waits.max(), Some(INTERVAL * 10));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        for number in 0..5000_u32 {
            rate.wait(std::net::Ipv4Addr::from_bits(number).into(), now);
        }
        assert!(rate.due.len() <= ADDRESSES + 1);
    }
}
