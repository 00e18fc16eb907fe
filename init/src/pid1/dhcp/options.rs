//! Options that are lists of their own making: routes (RFC 3442) and search domains (RFC 3397). What does not keep to
//! its format is none.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::ip::host_name;
use crate::pid1::dns::name::Name;

/// No network has more; a packet has room for twice as many.
const ROUTES: usize = 64;
/// resolv.conf(5) of older systems took six.
const DOMAINS: usize = 6;

/// A route that a server gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The network; 0.0.0.0 with the prefix 0 is everything.
    pub network: Ipv4Addr,
    /// The length of its prefix, 0 to 32.
    pub prefix: u8,
    /// The next hop; 0.0.0.0: it is on the link.
    pub gateway: Ipv4Addr,
}

/// Option 121: the prefix's length, as many bytes of the network as it takes, the gateway.
pub fn routes(mut value: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let Some((prefix, rest)) = value.split_first() {
        let bytes = usize::from(prefix.div_ceil(8));
        let (significant, rest) = rest.split_at_checked(bytes).filter(|_| *prefix <= 32)?;
        let (gateway, rest) = rest.split_at_checked(4)?;
        let mut network = [0; 4];
        network.get_mut(..bytes)?.copy_from_slice(significant);
        let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
        let network = Ipv4Addr::from_bits(u32::from_be_bytes(network) & mask);
        let gateway = Ipv4Addr::from(<[u8; 4]>::try_from(gateway).ok()?);
        let odd = |address: Ipv4Addr| address.is_loopback() || address.octets() >= [224, 0, 0, 0];
        if routes.len() < ROUTES && !odd(gateway) && !odd(network) {
            routes.push(Route { network, prefix: *prefix, gateway });
        }
        value = rest;
    }
    Some(routes)
}

/// Option 119: names as DNS writes them (RFC 1035, section 4.1.4), where the end of one may stand in another before it.
pub fn domains(value: &[u8]) -> Vec<String> {
    let (mut domains, mut at) = (Vec::new(), 0);
    while at < value.len() && domains.len() < DOMAINS {
        let Some((name, end)) = Name::read(value, at) else { break };
        // What is no host's name does not belong into resolv.conf.
        domains.extend(name.text().and_then(|text| host_name(&text).ok()));
        at = end;
    }
    domains
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn routes_have_as_many_bytes_as_their_prefix_takes() {
        let value = [0, 192, 0, 2, 254, 8, 10, 192, 0, 2, 9, 25, 198, 51, 100, 255, 0, 0, 0, 0];
        let route = |network: [u8; 4], prefix, gateway: [u8; 4]| Route {
            network: network.into(),
            prefix,
            gateway: gateway.into(),
        };
        let wanted = [
            route([0; 4], 0, [192, 0, 2, 254]),
            route([10, 0, 0, 0], 8, [192, 0, 2, 9]),
            route([198, 51, 100, 128], 25, [0; 4]),
        ];
        assert_eq!(routes(&value).unwrap(), wanted);
        for bad in [&value[..4], &[33, 1, 2, 3, 4, 5, 1, 2, 3, 4], &[8]] {
            assert_eq!(routes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn names_may_end_in_one_another() {
        let value = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04\x04bad_\x00";
        assert_eq!(domains(value), ["eng.apple.com", "marketing.apple.com"]);
        // A pointer to itself, one ahead, and a label that is cut.
        for bad in [&b"\xc0\x00"[..], b"\x01a\xc0\x09\x00", b"\x05ab"] {
            assert_eq!(domains(bad), [""; 0], "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_panics(value in proptest::collection::vec(any::<u8>(), 0..120)) {
            routes(&value);
            domains(&value);
        }
    }
}
