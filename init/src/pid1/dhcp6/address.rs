//! Which IPv6 addresses of a stranger's message are taken.

use std::net::Ipv6Addr;

/// Whether a machine beyond this one can have it, and it says everything by itself: a link-local address is of use with its
/// interface only, which neither our resolver nor a lease can say.
pub fn is_usable(address: &Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || address.is_unicast_link_local()
        || address.to_ipv4_mapped().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_of_other_machines() {
        for (text, usable) in [
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("::", false),
            ("::1", false),
            ("ff02::1", false),
            ("fe80::1", false),
            ("::ffff:192.0.2.1", false),
        ] {
            assert_eq!(is_usable(&text.parse().unwrap()), usable, "{text}");
        }
    }
}
