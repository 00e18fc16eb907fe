//! An IPv4 network: its addresses, and whether one can be a host's.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A network by its first address and the length of its prefix, 8 to 30.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The network that an address lies in; `None` for a prefix that no DHCP server serves.
    pub fn of(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let mask = u32::MAX.checked_shl(32u32.checked_sub(prefix.into())?)?;
        (8..=30)
            .contains(&prefix)
            .then_some(Self { network: Ipv4Addr::from(address.to_bits() & mask), prefix })
    }

    /// The network mask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    /// The address for all hosts of it.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(self.network.to_bits() | !self.mask().to_bits())
    }

    /// Whether an address lies in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask().to_bits() == self.network.to_bits()
    }

    /// Whether an address in it can be one host's: neither that of the network nor that for all.
    pub fn has_host(self, address: Ipv4Addr) -> bool {
        self.contains(address) && address != self.network && address != self.broadcast()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// Addresses from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The lowest.
    pub first: Ipv4Addr,
    /// The highest.
    pub last: Ipv4Addr,
}

impl Range {
    /// Whether an address is one of them.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// Whether both have an address.
    pub fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many they are.
    pub fn size(self) -> u64 {
        u64::from(self.last.to_bits()) + 1 - u64::from(self.first.to_bits())
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// `FIRST-LAST`, or `FIRST-LAST/PREFIX` for a network behind a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeSetting {
    /// The addresses.
    pub range: Range,
    /// The length of the prefix of a network that is not the interface's own.
    pub prefix: Option<u8>,
}

impl FromStr for RangeSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is not FIRST-LAST like 192.0.2.50-192.0.2.99, nor that with /24 for a network behind a relay"
            )
        };
        let (range, prefix) = match text.split_once('/') {
            Some((range, prefix)) => (range, Some(prefix.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let (first, last) = range.split_once('-').ok_or_else(wrong)?;
        let [first, last] = [first, last].map(|address| address.trim().parse::<Ipv4Addr>());
        let range = Range { first: first.map_err(|_| wrong())?, last: last.map_err(|_| wrong())? };
        if range.first > range.last {
            return Err(format!("the range {text} ends before it begins"));
        }
        Ok(Self { range, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let subnet = Subnet::of(Ipv4Addr::new(192, 0, 2, 77), 26).unwrap();
        assert_eq!(subnet.to_string(), "192.0.2.64/26");
        assert_eq!(subnet.mask(), Ipv4Addr::new(255, 255, 255, 192));
        assert_eq!(subnet.broadcast(), Ipv4Addr::new(192, 0, 2, 127));
        let host = |last| subnet.has_host(Ipv4Addr::new(192, 0, 2, last));
        assert_eq!([63, 64, 65, 126, 127, 128].map(host), [false, false, true, true, false, false]);
        for none in [0, 7, 31, 32, 33, 255] {
            assert_eq!(Subnet::of(Ipv4Addr::LOCALHOST, none), None, "{none}");
        }
    }

    #[test]
    fn ranges() {
        let parse = |text: &str| text.parse::<RangeSetting>();
        let range = parse("192.0.2.50-192.0.2.59").unwrap();
        assert_eq!((range.range.size(), range.prefix), (10, None));
        assert_eq!(parse("10.0.0.1-10.0.0.9/24").unwrap().prefix, Some(24));
        assert_eq!(parse("0.0.0.0-255.255.255.255").unwrap().range.size(), 1 << 32);
        for wrong in ["", "192.0.2.50", "192.0.2.9-192.0.2.8", "192.0.2.1-192.0.2.2/x", "a-b", "1.2.3.4-5"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
