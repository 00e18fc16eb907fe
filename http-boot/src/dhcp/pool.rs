//! Which address a client gets: its own of before, if it can, so that a Pi keeps its address from boot to boot.

use init::mac::Mac;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::leases::{Client, Lease, Leases, State};
use super::pi::PiSerial;
use super::recent::Recent;
use super::server::Now;
use super::settings::{Config, Network, ReservedFor};
use super::subnet::Subnet;

/// Who wants an address.
#[derive(Clone, Debug)]
pub struct Applicant {
    /// By what it is told from others.
    pub client: Client,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its serial number, where it is a Pi whose bootloader was seen.
    pub serial: Option<PiSerial>,
}

/// For how long an offer keeps others from its address. A client takes it at once, or not at all; under a flood the oldest
/// ones give way.
const OFFER_HOLDS: Duration = Duration::from_secs(30);
/// Offers that are remembered.
const OFFERS: usize = 1024;
/// For so long nobody looks for a free address where there was none: the search is long then.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Addresses that were offered and not taken yet.
#[derive(Debug)]
pub struct Offers {
    by_address: Recent<Ipv4Addr, (Client, Instant)>,
    by_client: Recent<Client, Ipv4Addr>,
    exhausted: HashMap<Subnet, Instant>,
}

impl Default for Offers {
    fn default() -> Self {
        let (by_address, by_client) = (Recent::new(OFFERS), Recent::new(OFFERS));
        Self { by_address, by_client, exhausted: HashMap::new() }
    }
}

impl Offers {
    /// Remembers that an address was offered.
    pub fn hold(&mut self, address: Ipv4Addr, client: &Client, now: Instant) {
        *self.by_address.touch(address, || (client.clone(), now)) = (client.clone(), now);
        *self.by_client.touch(client.clone(), || address) = address;
    }

    /// Forgets the offer that a client had.
    pub fn drop_of(&mut self, client: &Client) {
        if let Some(address) = self.by_client.remove(client)
            && self.by_address.get(&address).is_some_and(|(of, _)| of == client)
        {
            self.by_address.remove(&address);
        }
    }

    /// An address is free that was not.
    pub fn look_again(&mut self) {
        self.exhausted.clear();
    }

    /// When an address was offered to somebody else, if that still counts.
    fn held_since(&self, address: Ipv4Addr, client: &Client, now: Instant) -> Option<Instant> {
        let (of, since) = self.by_address.get(&address)?;
        (of != client && now.saturating_duration_since(*since) < OFFER_HOLDS).then_some(*since)
    }
}

/// Seconds since 1970.
pub fn seconds(now: Now) -> u64 {
    now.wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The addresses of one network, as one applicant may have them.
pub struct Pool<'a> {
    /// The whole configuration.
    pub config: &'a Config,
    /// The network.
    pub network: &'a Network,
    /// Who has what.
    pub leases: &'a Leases,
    /// This moment.
    pub now: Now,
}

impl Pool<'_> {
    /// The address reserved for an applicant in this network: by serial number before by Ethernet address.
    pub fn reserved(&self, applicant: &Applicant) -> Option<Ipv4Addr> {
        let by_serial = applicant.serial.map(ReservedFor::Serial);
        let whos = by_serial.into_iter().chain([ReservedFor::Mac(applicant.mac)]);
        whos.filter_map(|who| self.config.reserved.get(&who).copied())
            .find(|address| self.network.subnet.contains(*address))
    }

    /// Whether an address is one that this applicant may have at all.
    pub fn is_for(&self, address: Ipv4Addr, applicant: &Applicant) -> bool {
        if self.config.reserved_addresses.contains(&address) {
            return self.reserved(applicant) == Some(address);
        }
        self.network.ranges.iter().any(|range| range.contains(address))
    }

    /// Whether somebody else has an address, or uses it without having it.
    pub fn is_taken(&self, address: Ipv4Addr, applicant: &Applicant) -> bool {
        self.leases.get(address).filter(|lease| lease.until > seconds(self.now)).is_some_and(|lease| {
            match lease.state {
                State::Leased => lease.client != applicant.client,
                State::Taken => lease.mac != applicant.mac,
                State::Declined => true,
                State::Released => false,
            }
        })
    }

    /// The address for an applicant, who may have a wish. `None`: there is none left.
    pub fn choose(
        &self,
        offers: &mut Offers,
        applicant: &Applicant,
        wish: Option<Ipv4Addr>,
    ) -> Option<Ipv4Addr> {
        let (client, now) = (&applicant.client, self.now.tick);
        let free =
            |address: &Ipv4Addr| self.is_for(*address, applicant) && !self.is_taken(*address, applicant);
        // RFC 2131, section 4.3.1: what it has, what it had, what it wants, any. A reservation is what it has.
        let mut own: Vec<&Lease> = self.leases.of(client).filter(|lease| free(&lease.address)).collect();
        own.sort_by_key(|lease| std::cmp::Reverse(lease.until));
        let offered = offers.by_client.get(client).copied();
        let unheld = |address: &Ipv4Addr| offers.held_since(*address, client, now).is_none();
        let known = self
            .reserved(applicant)
            .filter(free)
            .or(own.first().map(|lease| lease.address))
            .or(offered.filter(free).filter(unheld))
            .or(wish.filter(free).filter(unheld));
        if known.is_some() {
            return known;
        }
        let since = offers.exhausted.get(&self.network.subnet);
        if since.is_some_and(|since| now.saturating_duration_since(*since) < LOOK_AGAIN) {
            return None;
        }
        let found = self.search(offers, applicant);
        if found.is_none() {
            offers.exhausted.insert(self.network.subnet, now);
        }
        found
    }

    /// Any address: one that nobody ever had; else the one that is over for longest; else the one whose offer is oldest. The
    /// search begins where the Ethernet address says, so that a Pi gets its address again even where the lease file was lost.
    fn search(&self, offers: &Offers, applicant: &Applicant) -> Option<Ipv4Addr> {
        let size: u64 = self.network.ranges.iter().map(|range| range.size()).sum();
        let mut hasher = DefaultHasher::new();
        applicant.mac.hash(&mut hasher);
        let start = hasher.finish().checked_rem(size)?;
        let mut over: Option<(u64, Ipv4Addr)> = None;
        let mut held: Option<(Instant, Ipv4Addr)> = None;
        for address in (0..size).filter_map(|step| self.nth((start + step) % size)) {
            if self.config.reserved_addresses.contains(&address) || self.is_taken(address, applicant) {
                continue;
            }
            match (offers.held_since(address, &applicant.client, self.now.tick), self.leases.get(address)) {
                (None, None) => return Some(address),
                (None, Some(lease)) => {
                    over = Some(over.map_or((lease.until, address), |old| old.min((lease.until, address))));
                }
                (Some(since), _) => {
                    held = Some(held.map_or((since, address), |old| old.min((since, address))));
                }
            }
        }
        over.map(|(_, address)| address).or(held.map(|(_, address)| address))
    }

    fn nth(&self, mut number: u64) -> Option<Ipv4Addr> {
        for range in &self.network.ranges {
            if number < range.size() {
                return Some(Ipv4Addr::from(range.first.to_bits() + u32::try_from(number).ok()?));
            }
            number -= range.size();
        }
        None
    }
}
