//! Which of several offers is taken first.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::Instant;

use super::message::Lease;

/// How long a better offer is waited for when there is one that lacks something.
const BETTER_WITHIN: Duration = Duration::from_millis(500);

/// Offers that were not tried yet.
#[derive(Debug)]
pub(super) struct Offers {
    wanted: Option<Ipv4Addr>,
    broken: Vec<Ipv4Addr>,
    open: Vec<Lease>,
    /// Servers whose offer was tried.
    tried: Vec<Ipv4Addr>,
    /// When the first came.
    first: Option<Instant>,
}

impl Offers {
    /// So many servers are heard in one round. Whoever sends more wants no lease for us.
    pub(super) const MOST: usize = 8;

    /// None yet. `wanted`: the address that we have; `broken`: servers that did not keep their word, the last one last.
    pub(super) fn new(wanted: Option<Ipv4Addr>, broken: Vec<Ipv4Addr>) -> Self {
        Offers { wanted, broken, open: Vec::new(), tried: Vec::new(), first: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// One offer for each server counts.
    pub(super) fn add(&mut self, offer: Lease) {
        let known =
            self.open.iter().any(|other| other.server == offer.server) || self.tried.contains(&offer.server);
        if !known && self.open.len() + self.tried.len() < Self::MOST {
            self.first.get_or_insert_with(Instant::now);
            self.open.push(offer);
        }
    }

    /// Until when another is waited for: not at all where none could be better, for as long as one likes where there is none
    /// that can be trusted.
    pub(super) fn patience(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let Some(first) = self.first else { return far };
        match self.open.iter().map(|offer| self.faults(offer)).min() {
            Some((0, false, 0)) => first,
            Some((0, ..)) => first + BETTER_WITHIN,
            _ => far,
        }
    }

    /// The best one that was not tried; of equal ones that which came first.
    pub(super) fn next(&mut self) -> Option<Lease> {
        let best =
            (0..self.open.len()).min_by_key(|at| self.open.get(*at).map(|offer| self.faults(offer)))?;
        let offer = self.open.remove(best);
        self.tried.push(offer.server);
        Some(offer)
    }

    /// What speaks against an offer, the worst first: its server did not keep its word (lately the worst), it is not the
    /// address that we have, it lacks a way out or names.
    fn faults(&self, offer: &Lease) -> (usize, bool, u8) {
        let broken = self.broken.iter().position(|server| *server == offer.server).map_or(0, |at| at + 1);
        let other = self.wanted.is_some_and(|wanted| wanted != offer.address);
        let lacks = u8::from(offer.gateway.is_none()) * 2 + u8::from(offer.nameservers.is_empty());
        (broken, other, lacks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(server: u8, address: u8, gateway: bool) -> Lease {
        let host = |last| Ipv4Addr::new(192, 0, 2, last);
        Lease {
            address: host(address),
            prefix: 24,
            gateway: gateway.then(|| host(254)),
            routes: Vec::new(),
            nameservers: vec![host(53)],
            ntp: Vec::new(),
            domains: Vec::new(),
            hostname: None,
            tftp_server: None,
            server: host(server),
            lifetime: Duration::from_secs(60),
            renew_after: Duration::from_secs(30),
            rebind_after: Duration::from_secs(50),
        }
    }

    fn order(mut offers: Offers) -> Vec<u8> {
        std::iter::from_fn(|| offers.next()).map(|offer| offer.server.octets()[3]).collect()
    }

    #[test]
    fn the_best_comes_first() {
        let host = |last| Ipv4Addr::new(192, 0, 2, last);
        let all = [offer(1, 50, false), offer(2, 51, true), offer(3, 52, true), offer(3, 99, true)];
        for (wanted, broken, expected) in [
            (None, vec![], [2, 3, 1]),
            (Some(host(52)), vec![], [3, 2, 1]),
            (Some(host(50)), vec![], [1, 2, 3]),
            (Some(host(52)), vec![host(2), host(3)], [1, 2, 3]),
            (None, vec![host(3), host(2)], [1, 3, 2]),
        ] {
            let mut offers = Offers::new(wanted, broken);
            all.iter().for_each(|offer| offers.add(offer.clone()));
            assert_eq!(order(offers), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_offer_that_lacks_something_is_waited_with() {
        let now = Instant::now();
        for (broken, gateway, patience) in
            [(vec![], true, 0), (vec![], false, 500), (vec![1], true, 3_600_000)]
        {
            let broken = broken.into_iter().map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
            let mut offers = Offers::new(None, broken);
            offers.add(offer(1, 50, gateway));
            assert_eq!(offers.patience() - now, Duration::from_millis(patience));
        }
    }
}
