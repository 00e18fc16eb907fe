//! Who has which address: what DHCP, TFTP's prefixes and boot events say of the Pi behind an IP address. A bounded memory. It
//! chooses files and informs people; it proves nothing.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use init::links::Mac;

/// How many addresses are remembered; the one that nothing was heard of for longest goes first.
const MOST: usize = 8192;

/// The lower half of a Pi's serial number, as the bootloader shows it and puts before TFTP's names: 8 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(pub u32);

/// A serial number that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a serial number: 8 or 16 hexadecimal digits, like 9ffefdef or 100000009ffefdef")]
pub struct BadSerial;

impl FromStr for Serial {
    type Err = BadSerial;

    /// 8 hexadecimal digits, or all 16, as the device tree has them.
    fn from_str(text: &str) -> Result<Self, BadSerial> {
        if !matches!(text.len(), 8 | 16) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadSerial);
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| BadSerial)?;
        Ok(Self((number & 0xffff_ffff) as u32))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A MAC address: six octets of two hexadecimal digits, between colons or, as TFTP's prefix has it, dashes; not a multicast one,
/// nor all zero.
pub fn parse_mac(text: &str) -> Option<Mac> {
    let separator = if text.contains(':') { ':' } else { '-' };
    let octets: Option<Vec<u8>> = text
        .split(separator)
        .map(|octet| {
            let good = octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit());
            u8::from_str_radix(octet, 16).ok().filter(|_| good)
        })
        .collect();
    let octets = <[u8; 6]>::try_from(octets?).ok()?;
    (octets != [0; 6] && octets[0] & 1 == 0).then_some(Mac(octets))
}

/// The prefix of a MAC address.
pub fn mac_prefix(mac: Mac) -> String {
    mac.to_string().replace(':', "-")
}

/// A kind of Pi, by the name that config.txt's filters have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Board(&'static str);

/// The type in a revision code (raspberrypi/documentation, revision-codes), the name here, and what the device tree's
/// `model` begins with; longer ones first.
const BOARDS: [(u32, &str, &str); 15] = [
    (0x08, "pi3", "Raspberry Pi 3 Model B Rev"),
    (0x0d, "pi3+", "Raspberry Pi 3 Model B Plus"),
    (0x0e, "pi3+", "Raspberry Pi 3 Model A Plus"),
    (0x0a, "cm3", "Raspberry Pi Compute Module 3 Rev"),
    (0x10, "cm3+", "Raspberry Pi Compute Module 3 Plus"),
    (0x12, "pi02", "Raspberry Pi Zero 2"),
    (0x11, "pi4", "Raspberry Pi 4"),
    (0x13, "pi400", "Raspberry Pi 400"),
    (0x15, "cm4s", "Raspberry Pi Compute Module 4S"),
    (0x14, "cm4", "Raspberry Pi Compute Module 4"),
    (0x19, "pi500", "Raspberry Pi 500"),
    (0x17, "pi5", "Raspberry Pi 5"),
    (0x1a, "cm5", "Raspberry Pi Compute Module 5 Lite"),
    (0x18, "cm5", "Raspberry Pi Compute Module 5"),
    (0x04, "pi2", "Raspberry Pi 2"),
];

impl Board {
    /// By its revision code: bits 4 to 11, where bit 23 says that there are such.
    pub fn of_revision(revision: u32) -> Option<Self> {
        let kind = (revision >> 4) & 0xff;
        let known = BOARDS.iter().find(|(known, ..)| *known == kind && revision & (1 << 23) != 0);
        known.map(|(_, name, _)| Self(name))
    }

    /// By the device tree's `model`.
    pub fn of_model(model: &str) -> Option<Self> {
        let mut known: Vec<_> = BOARDS.iter().filter(|(.., start)| model.starts_with(start)).collect();
        known.sort_by_key(|(.., start)| start.len());
        known.last().map(|(_, name, _)| Self(name))
    }

    /// All names.
    pub fn names() -> Vec<&'static str> {
        let mut names = BOARDS.map(|(_, name, _)| name).to_vec();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether there is a board of this name.
    pub fn is_name(name: &str) -> bool {
        BOARDS.iter().any(|(_, known, _)| *known == name)
    }

    /// Its name: `pi4`, `cm4`, `pi5` …
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// What is known of who has an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its serial number.
    pub serial: Option<Serial>,
    /// Its MAC address.
    pub mac: Option<Mac>,
    /// Its revision code.
    pub revision: Option<u32>,
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
        let number = |serial: Option<Serial>| serial.map(|serial| u64::from(serial.0));
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
            board: newer.revision.and_then(Board::of_revision).or(newer.board).or(old.board),
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    fn serial(number: u32) -> Identity {
        Identity { serial: Some(Serial(number)), ..Identity::default() }
    }

    #[test]
    fn serials() {
        assert_eq!("9ffefdef".parse(), Ok(Serial(0x9ffe_fdef)));
        assert_eq!("100000009FFEFDEF".parse(), Ok(Serial(0x9ffe_fdef)));
        assert_eq!(Serial(0xbeef).to_string(), "0000beef");
        for wrong in ["", "9ffefde", "9ffefdeff", "+ffefdef", "9ffefdeg", "overlays", "é234567"] {
            assert_eq!(wrong.parse::<Serial>(), Err(BadSerial), "{wrong}");
        }
    }

    #[test]
    fn macs() {
        let mac = parse_mac("dc-a6-32-01-36-C2").unwrap();
        assert_eq!(mac_prefix(mac), "dc-a6-32-01-36-c2");
        assert_eq!(parse_mac("dc:a6:32:01:36:c2"), Some(mac));
        for wrong in [
            "",
            "dc-a6-32-01-36",
            "dc:a6-32-01-36-c2",
            "dc-a6-32-01-36-c2-00",
            "+c-a6-32-01-36-c2",
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
        ] {
            assert_eq!(parse_mac(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn boards() {
        let of_revision = |revision| Board::of_revision(revision).map(Board::name);
        assert_eq!(of_revision(0xa0_3111), Some("pi4"));
        assert_eq!(of_revision(0xd0_3141), Some("cm4"));
        assert_eq!(of_revision(0xc0_4170), Some("pi5"));
        assert_eq!(of_revision(0x11), None, "a code of the old kind");
        let of_model = |model| Board::of_model(model).map(Board::name);
        assert_eq!(of_model("Raspberry Pi 4 Model B Rev 1.4"), Some("pi4"));
        assert_eq!(of_model("Raspberry Pi 400 Rev 1.0"), Some("pi400"));
        assert_eq!(of_model("Raspberry Pi Compute Module 4 Rev 1.1"), Some("cm4"));
        assert_eq!(of_model("Raspberry Pi Compute Module 4S Rev 1.0"), Some("cm4s"));
        assert_eq!(of_model("linux,dummy-virt"), None);
    }

    #[test]
    fn what_is_learnt_adds_up_until_another_comes() {
        let clients = Clients::default();
        let mac = Mac([0xdc, 0xa6, 0x32, 1, 0x36, 0xc2]);
        clients.learn(address(1), Identity { mac: Some(mac), revision: Some(0xd0_3141), ..serial(7) });
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
