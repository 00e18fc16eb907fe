//! Options as they stand in a message (RFC 8415 section 21.1): a code, a length, as many bytes. What is cut short ends the
//! list; what cannot be read counts as not there, so that one odd option does not cost the lease.

use std::net::Ipv6Addr;

use super::address::is_usable;
use crate::ip::host_name;
use crate::pid1::dhcp::options::domains;

/// RFC 8415 section 21, RFC 3646, RFC 4075, RFC 5908.
pub(super) const CLIENT_ID: u16 = 1;
pub(super) const SERVER_ID: u16 = 2;
pub(super) const IA_NA: u16 = 3;
pub(super) const IA_ADDRESS: u16 = 5;
pub(super) const REQUESTED: u16 = 6;
pub(super) const PREFERENCE: u16 = 7;
pub(super) const ELAPSED: u16 = 8;
pub(super) const STATUS: u16 = 13;
pub(super) const RAPID_COMMIT: u16 = 14;
pub(super) const NAME_SERVERS: u16 = 23;
pub(super) const DOMAINS: u16 = 24;
pub(super) const SNTP_SERVERS: u16 = 31;
pub(super) const REFRESH: u16 = 32;
pub(super) const NTP: u16 = 56;
pub(super) const SOLICIT_MAX: u16 = 82;
pub(super) const INFORMATION_MAX: u16 = 83;

/// No site has more servers of one kind than are worth to be tried.
const SERVERS: usize = 4;
/// Of one time server each: a unicast address, a multicast one, a name (RFC 5908 section 4).
const NTP_ADDRESS: u16 = 1;
const NTP_NAME: u16 = 3;

/// The options of a message or of an option that has some within, one after the other.
pub(super) fn each(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let code = number(bytes.get(0..2)?)?;
        let length = number(bytes.get(2..4)?)?;
        let (value, rest) = bytes.get(4..)?.split_at_checked(usize::from(length))?;
        bytes = rest;
        Some((code, value))
    })
}

/// The first of this code.
pub(super) fn first(bytes: &[u8], code: u16) -> Option<&[u8]> {
    each(bytes).find(|(found, _)| *found == code).map(|(_, value)| value)
}

fn number(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// A number of 32 bits, which is all that the option holds.
pub(super) fn seconds(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// An address of 16 bytes.
pub(super) fn address(value: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?))
}

/// What a site says beside an address; every list is short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Information {
    /// Name servers.
    pub nameservers: Vec<Ipv6Addr>,
    /// Search domains.
    pub domains: Vec<String>,
    /// Time servers: addresses, or names.
    pub timeservers: Vec<String>,
}

impl Information {
    /// Reads the options of a message.
    pub(super) fn read(options: &[u8]) -> Self {
        let mut information = Information::default();
        let mut sntp = Vec::new();
        for (code, value) in each(options) {
            match code {
                NAME_SERVERS => information.nameservers.extend(addresses(value)),
                DOMAINS => information.domains.extend(domains(value)),
                NTP => information.timeservers.extend(time_server(value)),
                SNTP_SERVERS => sntp.extend(addresses(value).map(|server| server.to_string())),
                _ => {}
            }
        }
        // RFC 5908 section 6: the newer option counts for more.
        information.timeservers.extend(sntp);
        information.nameservers = distinct(information.nameservers);
        information.domains = distinct(information.domains);
        information.timeservers = distinct(information.timeservers);
        information
    }
}

fn addresses(value: &[u8]) -> impl Iterator<Item = Ipv6Addr> {
    value.chunks_exact(16).filter_map(address).filter(is_usable)
}

/// The server of an NTP option; a multicast group is none that can be asked.
fn time_server(value: &[u8]) -> Option<String> {
    each(value).find_map(|(code, value)| match code {
        NTP_ADDRESS => address(value).filter(is_usable).map(|server| server.to_string()),
        NTP_NAME => domains(value).into_iter().find_map(|name| host_name(&name).ok()),
        _ => None,
    })
}

/// The first few, each once.
fn distinct<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    let mut few = Vec::new();
    for one in all {
        if few.len() < SERVERS && !few.contains(&one) {
            few.push(one);
        }
    }
    few
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn option(code: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = code.to_be_bytes().to_vec();
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
        bytes
    }

    fn octets(text: &str) -> [u8; 16] {
        text.parse::<Ipv6Addr>().unwrap().octets()
    }

    #[test]
    fn a_list_ends_where_it_is_cut() {
        let bytes = [option(7, &[1]), option(9, &[])].concat();
        assert_eq!(each(&bytes).collect::<Vec<_>>(), [(7, &[1][..]), (9, &[])]);
        assert_eq!(each(&bytes[..bytes.len() - 1]).count(), 1);
        assert_eq!(each(&[0, 7, 0xff, 0xff, 1]).count(), 0);
    }

    #[test]
    fn what_a_site_says_is_read_and_short() {
        let servers: Vec<u8> = ["2001:db8::53", "fe80::1", "ff02::1", "2001:db8::53", "::1", "2001:db8::54"]
            .map(octets)
            .concat();
        let many: Vec<u8> = (0..100u8).flat_map(|n| octets(&format!("2001:db8::{n:x}:1"))).collect();
        let ntp = [
            option(NTP, &option(2, &octets("ff05::101"))),
            option(NTP, &option(NTP_NAME, b"\x04time\x04site\x00")),
            option(NTP, &option(NTP_ADDRESS, &octets("2001:db8::123"))),
        ]
        .concat();
        let all = [
            option(NAME_SERVERS, &servers),
            option(DOMAINS, b"\x04site\x07example\x00\x05b\x00d__\x00\x01a\x00"),
            option(SNTP_SERVERS, &octets("2001:db8::124")),
            ntp,
        ]
        .concat();
        let information = Information::read(&all);
        assert_eq!(
            information.nameservers,
            [octets("2001:db8::53").into(), Ipv6Addr::from(octets("2001:db8::54"))]
        );
        assert_eq!(information.domains, ["site.example", "a"]);
        assert_eq!(information.timeservers, ["time.site", "2001:db8::123", "2001:db8::124"]);
        assert_eq!(Information::read(&option(NAME_SERVERS, &many)).nameservers.len(), SERVERS);
        // Fifteen bytes are no address.
        assert_eq!(Information::read(&option(NAME_SERVERS, &[0x20; 15])), Information::default());
    }
}
