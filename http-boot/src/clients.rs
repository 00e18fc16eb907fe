//! Who has which address: what DHCP, TFTP's prefixes and boot events say of the Pi behind an IP address. A bounded memory. It
//! chooses files and informs people; it proves nothing.

use init::mac::Mac;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::dhcp::sighting::{Sighting, Witness};
use crate::pi::{Board, PiSerial, Revision};

/// How many addresses are remembered; the one that nothing was heard of for longest goes first.
const MOST: usize = 8192;

/// What is known of who has an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its serial number.
    pub serial: Option<PiSerial>,
    /// Its MAC address.
    pub mac: Option<Mac>,
    /// Its revision code.
    pub revision: Option<Revision>,
    /// What it is.
    pub board: Option<Board>,
}

impl Identity {
    /// What a boot event says: the serial number in its path, and its model.
    pub fn of_event(serial: &str, model: Option<&str>) -> Self {
        Self { serial: serial.parse().ok(), board: model.and_then(Board::of_model), ..Self::default() }
    }

    /// With what `newer` says as well. Where that is another Pi, nothing is kept of the old one.
    #[must_use]
    pub fn with(self, newer: Self) -> Self {
        let differ = |a: Option<u64>, b: Option<u64>| matches!((a, b), (Some(a), Some(b)) if a != b);
        let number = |serial: Option<PiSerial>| serial.map(|serial| u64::from(serial.0));
        let octets =
            |mac: Option<Mac>| mac.map(|mac| mac.0.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet)));
        let other =
            differ(number(self.serial), number(newer.serial)) || differ(octets(self.mac), octets(newer.mac));
        let old = if other { Self::default() } else { self };
        let revision = newer.revision.or(old.revision);
        Self {
            serial: newer.serial.or(old.serial),
            mac: newer.mac.or(old.mac),
            revision,
            board: newer.revision.and_then(Revision::board).or(newer.board).or(old.board),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.serial, self.mac) {
            (Some(serial), _) => serial.fmt(f)?,
            (None, Some(mac)) => mac.fmt(f)?,
            (None, None) => return Ok(()),
        }
        self.board.map_or(Ok(()), |board| write!(f, " ({})", board.name()))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Clients {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// With the number of the turn in which it was last learnt of.
    by_address: HashMap<IpAddr, (u64, Identity)>,
    turn: u64,
}

impl Clients {
    /// Remembers what was learnt of who has `address`.
    pub fn learn(&self, address: IpAddr, what: Identity) {
        if what == Identity::default() {
            return;
        }
        let address = address.to_canonical();
        let mut memory = self.memory();
        memory.turn += 1;
        let turn = memory.turn;
        let entry = memory.by_address.entry(address).or_default();
        *entry = (turn, entry.1.with(what));
        if memory.by_address.len() > MOST {
            memory.forget_oldest();
        }
    }

    /// What is known of who has `address`.
    pub fn identity(&self, address: IpAddr) -> Identity {
        self.memory()
            .by_address
            .get(&address.to_canonical())
            .map(|(_, identity)| *identity)
            .unwrap_or_default()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// An eighth at once, so that a flood does not make each of its packets look through all.
    fn forget_oldest(&mut self) {
        let mut turns: Vec<u64> = self.by_address.values().map(|(turn, _)| *turn).collect();
        let (_, limit, _) = turns.select_nth_unstable(MOST / 8);
        let limit = *limit;
        self.by_address.retain(|_, (turn, _)| *turn >= limit);
    }
}

/// DHCP says who has an address before the first file is asked for.
impl Witness for Clients {
    fn saw(&self, sighting: &Sighting) {
        if let Some(address) = sighting.address {
            let Sighting { mac, serial, revision, .. } = *sighting;
            self.learn(address.into(), Identity { serial, mac: Some(mac), revision, board: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    fn serial(number: u32) -> Identity {
        Identity { serial: Some(PiSerial(number)), ..Identity::default() }
    }

    #[test]
    fn what_is_learnt_adds_up_until_another_comes() {
        let clients = Clients::default();
        let mac = Mac([0xdc, 0xa6, 0x32, 1, 0x36, 0xc2]);
        clients
            .learn(address(1), Identity { mac: Some(mac), revision: Some(Revision(0xd0_3141)), ..serial(7) });
        clients.learn(address(1), serial(7));
        let known = clients.identity(address(1));
        assert_eq!((known.mac, known.board.map(Board::name)), (Some(mac), Some("cm4")));
        assert_eq!(known.to_string(), "00000007 (cm4)");
        clients.learn(address(1), serial(8));
        assert_eq!(clients.identity(address(1)), serial(8));
        assert_eq!(clients.identity(address(2)), Identity::default());
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
        assert_eq!(clients.identity(mapped.into()), serial(8));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let clients = Clients::default();
        for number in 0..20_000 {
            clients.learn(address(number), serial(number));
            clients.learn(address(1), serial(1));
        }
        assert!(clients.memory().by_address.len() <= MOST);
        assert_eq!(clients.identity(address(1)), serial(1));
        assert_eq!(clients.identity(address(19_999)), serial(19_999));
        assert_eq!(clients.identity(address(2)), Identity::default());
    }
}
