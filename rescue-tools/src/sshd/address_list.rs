//! Lists of addresses that a client may come from: `from=` of sshd(8), `source-address` of a certificate.

use std::net::IpAddr;

/// A list of patterns (ssh_config(5), PATTERNS): who matches one with `!` is out, else who matches one is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressList(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    negated: bool,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The addresses whose first `bits` are those of this one.
    Network(IpAddr, u32),
    /// `*` and `?` in an address as text.
    Wildcards(String),
}

impl AddressList {
    /// Reads `from=`: networks, addresses and wildcards, each perhaps after a `!`.
    ///
    /// Names of hosts are refused: nothing is looked up here, so that one with `!` would let in whom it should not.
    ///
    /// # Errors
    /// Which pattern is wrong, for a human.
    pub fn from_patterns(text: &str) -> Result<Self, String> {
        let pattern = |text: &str| {
            let (negated, text) = text.strip_prefix('!').map_or((false, text), |text| (true, text));
            let kind = if text.contains(['*', '?']) { wildcards(text) } else { network(text) };
            Ok(Pattern { negated, kind: kind? })
        };
        text.split(',').map(str::trim).map(pattern).collect::<Result<_, String>>().map(AddressList)
    }

    /// Reads a certificate's `source-address`: networks and addresses only.
    ///
    /// # Errors
    /// Which of them is wrong, for a human.
    pub fn from_networks(text: &str) -> Result<Self, String> {
        let pattern = |text| Ok(Pattern { negated: false, kind: network(text)? });
        text.split(',').map(pattern).collect::<Result<_, String>>().map(AddressList)
    }

    /// Whether a client may come from `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let matching = || self.0.iter().filter(|pattern| pattern.kind.matches(address));
        matching().count() > 0 && !matching().any(|pattern| pattern.negated)
    }
}

impl Kind {
    fn matches(&self, address: IpAddr) -> bool {
        match self {
            Kind::Network(network, bits) => {
                let (network, length) = number(*network);
                let (address, own_length) = number(address);
                // A shift by all 128 bits is none at all: a prefix of 0 bits.
                length == own_length && (network ^ address).checked_shr(128 - bits).unwrap_or(0) == 0
            }
            Kind::Wildcards(pattern) => matches_wildcards(pattern.as_bytes(), address.to_string().as_bytes()),
        }
    }
}

/// The address from the highest bit on, and the number of its bits.
fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

fn network(text: &str) -> Result<Kind, String> {
    let bad = |why: &str| Err(format!("{text:?} {why}"));
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return bad("is no address, network or pattern of addresses (names of hosts are not looked up)");
    };
    let (number, length) = number(address);
    // `parse` takes a sign, which sshd does not.
    let digits = |bits: &&str| bits.bytes().all(|byte| byte.is_ascii_digit());
    let bits = match bits.map(|bits| Some(bits).filter(digits).and_then(|bits| bits.parse::<u32>().ok())) {
        None => length,
        Some(Some(bits)) if bits <= length => bits,
        Some(_) => return bad("has no length of a network"),
    };
    if number.checked_shl(bits).unwrap_or(0) != 0 {
        return bad("has bits behind the network's");
    }
    Ok(Kind::Network(address, bits))
}

fn wildcards(text: &str) -> Result<Kind, String> {
    let of_addresses = |byte: u8| byte.is_ascii_hexdigit() || b"*?:.".contains(&byte);
    if !text.bytes().all(of_addresses) {
        return Err(format!("{text:?} is no pattern of addresses (names of hosts are not looked up)"));
    }
    Ok(Kind::Wildcards(text.to_ascii_lowercase()))
}

/// `*` is any bytes, `?` is one. Linear but for the last `*`, so that no pattern takes long.
fn matches_wildcards(mut pattern: &[u8], mut text: &[u8]) -> bool {
    // Where to go on when what follows the last `*` does not match: the `*` takes one byte more.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                retry = Some((rest, text));
                pattern = rest;
                continue;
            }
            (Some((wanted, rest)), Some((have, left))) if *wanted == b'?' || wanted == have => {
                (pattern, text) = (rest, left);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        match retry.and_then(|(rest, from)| from.get(1..).map(|from| (rest, from))) {
            Some((rest, from)) => {
                (pattern, text) = (rest, from);
                retry = Some((rest, from));
            }
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lets_in(patterns: &str, address: &str) -> bool {
        AddressList::from_patterns(patterns).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn networks_and_addresses() {
        assert!(lets_in("10.0.0.0/8", "10.255.0.1") && !lets_in("10.0.0.0/8", "11.0.0.1"));
        assert!(lets_in("192.0.2.7", "192.0.2.7") && !lets_in("192.0.2.7", "192.0.2.70"));
        assert!(lets_in("192.0.2.7", "::ffff:192.0.2.7"));
        assert!(lets_in("fe80::/10", "fe80::1") && !lets_in("fe80::/10", "fec0::1"));
        assert!(lets_in("::1", "0:0:0:0:0:0:0:1") && lets_in("0.0.0.0/0", "1.2.3.4"));
        assert!(!lets_in("0.0.0.0/0", "::1") && !lets_in("::/0", "1.2.3.4") && lets_in("::/0", "::1"));
    }

    #[test]
    fn wildcards_and_negation() {
        assert!(lets_in("10.0.*", "10.0.3.4") && !lets_in("10.0.*", "10.1.0.0"));
        assert!(lets_in("10.0.0.?", "10.0.0.9") && !lets_in("10.0.0.?", "10.0.0.10"));
        assert!(lets_in("FE80:*", "fe80::1"));
        assert!(!lets_in("10.0.0.0/8,!10.0.0.5", "10.0.0.5") && lets_in("!10.0.0.5,10.0.0.0/8", "10.0.0.6"));
        assert!(!lets_in("!10.0.0.5", "10.0.0.6"), "who is only not out is not in");
    }

    #[test]
    fn what_cannot_be_held_is_refused() {
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/+8",
            "10.0.0/8",
            "host.example",
            "!*.example",
            "::/129",
            ",",
        ] {
            assert!(AddressList::from_patterns(bad).is_err(), "{bad:?}");
        }
        assert!(AddressList::from_networks("10.0.0.0/8,::1").is_ok());
        for bad in ["10.*", "!10.0.0.1"] {
            assert!(AddressList::from_networks(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_network_has_its_own_addresses(address in any::<u32>(), other in any::<u32>(), bits in 0_u32..=32) {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            let network = std::net::Ipv4Addr::from_bits(address & mask);
            let list = AddressList::from_patterns(&format!("{network}/{bits}")).unwrap();
            let have = list.contains(std::net::Ipv4Addr::from_bits(other).into());
            prop_assert_eq!(have, other & mask == address & mask);
        }

        #[test]
        fn any_text_is_survived(text in "[ -~]{0,60}", address in any::<u128>()) {
            if let Ok(list) = AddressList::from_patterns(&text) {
                list.contains(std::net::Ipv6Addr::from_bits(address).into());
            }
        }

        #[test]
        fn wildcards_are_those_of_a_slow_matcher(pattern in "[*?a1]{0,8}", text in "[a1]{0,8}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
                    Some((b'?', rest)) => !text.is_empty() && slow(rest, &text[1..]),
                    Some((byte, rest)) => text.first() == Some(byte) && slow(rest, &text[1..]),
                }
            }
            prop_assert_eq!(
                matches_wildcards(pattern.as_bytes(), text.as_bytes()),
                slow(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
