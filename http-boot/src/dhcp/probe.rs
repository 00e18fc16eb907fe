//! Looks whether somebody uses an address that is about to be offered: two questions by ARP (RFC 5227), and a short wait, while
//! others are answered.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use init::mac::Mac;

/// The second question comes so long after the first: one of them may be lost.
const AGAIN: Duration = Duration::from_millis(120);
/// Who has not answered by then does not use it. Less than a bootloader's least patience (500 ms).
const LIMIT: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Probe {
    link: usize,
    address: Ipv4Addr,
    /// Who may answer: the address is for it.
    client: Mac,
    again: Option<Instant>,
    end: Instant,
}

/// The probes that are under way: as many as the server lets wait.
#[derive(Debug, Default)]
pub struct Probes(Vec<Probe>);

impl Probes {
    /// Begins one; the first question is due at once.
    pub fn begin(&mut self, link: usize, address: Ipv4Addr, client: Mac, now: Instant) {
        self.0.push(Probe { link, address, client, again: Some(now + AGAIN), end: now + LIMIT });
    }

    /// Somebody says on a link that it has an address; whether that ends a probe.
    pub fn heard(&mut self, link: usize, (mac, address): (Mac, Ipv4Addr)) -> bool {
        let is_answer = |probe: &Probe| probe.link == link && probe.address == address && probe.client != mac;
        let found = self.0.iter().position(is_answer);
        found.map(|place| self.0.swap_remove(place)).is_some()
    }

    /// Questions that are due: on which link, for which address.
    pub fn due(&mut self, now: Instant) -> Vec<(usize, Ipv4Addr)> {
        let due = self.0.iter_mut().filter(|probe| probe.again.is_some_and(|at| at <= now));
        due.map(|probe| {
            probe.again = None;
            (probe.link, probe.address)
        })
        .collect()
    }

    /// Addresses whose time is over: nobody uses them.
    pub fn over(&mut self, now: Instant) -> Vec<Ipv4Addr> {
        let over = self.0.iter().filter(|probe| probe.end <= now).map(|probe| probe.address).collect();
        self.0.retain(|probe| probe.end > now);
        over
    }

    /// When something is due next.
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().map(|probe| probe.again.unwrap_or(probe.end)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_questions_and_a_limit() {
        let (mut probes, start) = (Probes::default(), Instant::now());
        let [ours, other] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
        let [one, two] = [Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(192, 0, 2, 8)];
        probes.begin(0, one, ours, start);
        probes.begin(0, two, ours, start);
        assert_eq!(probes.next(), Some(start + AGAIN));
        assert!(probes.due(start).is_empty());
        assert_eq!(probes.due(start + AGAIN), [(0, one), (0, two)]);
        assert!(probes.due(start + AGAIN).is_empty());
        assert!(!probes.heard(0, (ours, one)), "the client itself may have it");
        assert!(!probes.heard(1, (other, one)), "on another link");
        assert!(probes.heard(0, (other, one)));
        assert!(probes.over(start + AGAIN).is_empty());
        assert_eq!(probes.over(start + LIMIT), [two]);
        assert_eq!(probes.next(), None);
    }
}
