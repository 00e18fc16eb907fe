//! LLDP (IEEE 802.1AB): what the other end of a cable says of itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::neighbours::Switch;

/// Types of TLVs (section 8.4).
const END: u8 = 0;
const CHASSIS: u8 = 1;
const PORT: u8 = 2;
const LIFETIME: u8 = 3;
const PORT_DESCRIPTION: u8 = 4;
const SYSTEM_NAME: u8 = 5;
const ORGANIZATION: u8 = 127;
/// IEEE 802.1's own, subtype "port VLAN ID" (802.1Q, annex D).
const PORT_VLAN: [u8; 4] = [0x00, 0x80, 0xc2, 1];
/// Kinds of addresses (IANA's address family numbers).
const IPV4: u8 = 1;
const IPV6: u8 = 2;
/// No text of a switch is shown longer, in characters.
const TEXT: usize = 64;

/// An announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Who.
    pub switch: Switch,
    /// For how many seconds that is good; 0: no longer.
    pub lifetime: u16,
}

impl Announcement {
    /// Reads what follows the Ethernet header. `None`: it is none, or has not what each must have (section 8.2).
    pub fn parse(mut bytes: &[u8]) -> Option<Self> {
        let (mut chassis, mut port, mut lifetime) = (None, None, None);
        let (mut name, mut description, mut vlan) = (None, None, None);
        // Seven bits of type, nine of length.
        while let [first, second, rest @ ..] = bytes {
            let length = usize::from(first & 1) << 8 | usize::from(*second);
            let (value, rest) = rest.split_at_checked(length)?;
            match first >> 1 {
                END => break,
                CHASSIS => chassis = identity(value, 4, 5),
                PORT => port = identity(value, 3, 4),
                LIFETIME => lifetime = Some(u16::from_be_bytes(value.get(..2)?.try_into().ok()?)),
                PORT_DESCRIPTION => description = text(value),
                SYSTEM_NAME => name = text(value),
                ORGANIZATION => vlan = port_vlan(value).or(vlan),
                _ => {}
            }
            bytes = rest;
        }
        let (chassis, port) = (chassis?, port?);
        let description = description.filter(|description| *description != port);
        let switch = Switch { name: name.unwrap_or(chassis), port, description, vlan };
        Some(Announcement { switch, lifetime: lifetime? })
    }
}

/// A chassis or a port: a subtype, then a MAC address, a network address, or text (sections 8.5.2, 8.5.3).
fn identity(value: &[u8], mac: u8, network: u8) -> Option<String> {
    let (subtype, value) = value.split_first()?;
    let is_mac = *subtype == mac;
    match value {
        [_, _, _, _, _, _] if is_mac => Some(super::mac(value)),
        [IPV4, address @ ..] if *subtype == network => {
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).to_string())
        }
        [IPV6, address @ ..] if *subtype == network => {
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_string())
        }
        value => text(value),
    }
}

fn port_vlan(value: &[u8]) -> Option<u16> {
    let number = u16::from_be_bytes(value.strip_prefix(&PORT_VLAN)?.try_into().ok()?);
    // 0: it has none.
    (number > 0).then_some(number)
}

/// It goes to consoles and terminals.
fn text(value: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(value);
    let text: String = text.chars().filter(|c| !c.is_control()).take(TEXT).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let head = [kind << 1 | (value.len() >> 8) as u8, value.len() as u8];
        [&head[..], value].concat()
    }

    fn least() -> Vec<u8> {
        let chassis = tlv(CHASSIS, &[4, 0, 0x11, 0x22, 0x33, 0x44, 0x55]);
        [chassis, tlv(PORT, b"\x05ge-0/0/7"), tlv(LIFETIME, &[0, 120])].concat()
    }

    #[test]
    fn a_switch_says_who_it_is() {
        let end = tlv(END, &[]);
        let small = Announcement::parse(&[least(), end.clone()].concat()).unwrap();
        assert_eq!((small.switch.name.as_str(), small.lifetime), ("00:11:22:33:44:55", 120));
        let more = [
            least(),
            tlv(PORT_DESCRIPTION, b"cabinet 3"),
            tlv(SYSTEM_NAME, b"sw1\x1b[31m.example"),
            tlv(9, b"whatever"),
            tlv(ORGANIZATION, &[0x00, 0x80, 0xc2, 1, 0, 12]),
            tlv(ORGANIZATION, &[0x00, 0x12, 0x0f, 1, 3]),
            end,
            vec![0xff; 10],
        ];
        let switch = Announcement::parse(&more.concat()).unwrap().switch;
        assert_eq!(switch.to_string(), "switch sw1[31m.example, port ge-0/0/7 (cabinet 3), VLAN 12 (LLDP)");
    }

    #[test]
    fn ports_are_named_in_several_ways() {
        for (value, wanted) in [
            (&b"\x03\x00\x11\x22\x33\x44\x55"[..], Some("00:11:22:33:44:55")),
            (b"\x07\x31", Some("1")),
            (b"\x04\x01\xc0\x00\x02\x01", Some("192.0.2.1")),
            (b"\x04\x02\x20\x01", None),
            (b"\x05", None),
            (b"", None),
        ] {
            assert_eq!(identity(value, 3, 4).as_deref(), wanted, "{value:?}");
        }
    }

    #[test]
    fn half_an_announcement_is_none() {
        let whole = least();
        assert!(Announcement::parse(&whole).is_some());
        for length in 0..whole.len() {
            assert_eq!(Announcement::parse(&whole[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), tlvs in proptest::collection::vec((0u8..10, proptest::collection::vec(any::<u8>(), 0..20)), 0..10)) {
            Announcement::parse(&bytes);
            let made: Vec<u8> = tlvs.iter().flat_map(|(kind, value)| tlv(*kind, value)).collect();
            if let Some(announcement) = Announcement::parse(&made) {
                prop_assert!(!announcement.switch.to_string().contains(char::is_control));
            }
        }
    }
}
