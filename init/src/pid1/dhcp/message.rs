//! DHCP messages: what we send, and the checked type that an answer becomes.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};

use super::options::{self, Route};

/// What a server grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// The length of its network's prefix, 1 to 32.
    pub prefix: u8,
    /// The default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// Name servers, at most three: resolv.conf(5) takes no more.
    pub nameservers: Vec<Ipv4Addr>,
    /// Search domains; the first is our own.
    pub domains: Vec<String>,
    /// The host name the server wants us to have.
    pub hostname: Option<String>,
    /// Who granted it.
    pub server: Ipv4Addr,
    /// How long it is ours.
    pub lifetime: Duration,
    /// When to ask for more (T1): behind it, the same server.
    pub renew_after: Duration,
    /// When to ask anybody (T2).
    pub rebind_after: Duration,
}

/// An answer to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An offer that can be requested.
    Offer(Lease),
    /// The lease is ours.
    Ack(Lease),
    /// It is not, or no longer.
    Nak,
}

/// Who asks, in which transaction.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    /// Our MAC address.
    pub mac: [u8; 6],
    /// The transaction's number: an answer repeats it.
    pub id: u32,
    /// Seconds since we began to ask.
    pub seconds: u16,
}

/// Options that [`options`] reads (RFC 3442, RFC 3397).
const CLASSLESS_ROUTES: u8 = 121;
const DOMAIN_SEARCH: u8 = 119;
/// No lease is taken to be shorter, whatever a server says: it would be renewed without pause.
const SHORTEST: u64 = 30;
/// RFC 2131 section 4.4.1 leaves the limit open; Linux counts lifetimes in 32 bits, of which this is half a century.
const LONGEST: u64 = 50 * 365 * 86_400;

impl Transaction {
    /// Asks everybody for an offer.
    pub fn discover(&self) -> Option<Vec<u8>> {
        self.encode(MessageType::Discover, Ipv4Addr::UNSPECIFIED, Vec::new())
    }

    /// Takes an offer, or asks for the lease anew (`renewing`: the address is in use).
    pub fn request(&self, lease: &Lease, renewing: bool) -> Option<Vec<u8>> {
        if renewing {
            return self.encode(MessageType::Request, lease.address, Vec::new());
        }
        let options =
            vec![DhcpOption::RequestedIpAddress(lease.address), DhcpOption::ServerIdentifier(lease.server)];
        self.encode(MessageType::Request, Ipv4Addr::UNSPECIFIED, options)
    }

    /// The packet without what we do not read: one odd option must not cost the lease, and dhcproto panics at some.
    /// `None`: it is not an answer to us.
    fn only_what_we_read(&self, packet: &[u8]) -> Option<Vec<u8>> {
        const COOKIE: [u8; 4] = [99, 130, 83, 99];
        const REPLY_ETHERNET: [u8; 3] = [2, 1, 6];
        let (head, mut options) = packet.split_at_checked(240)?;
        let ours = head.starts_with(&REPLY_ETHERNET)
            && head.get(4..8) == Some(&self.id.to_be_bytes())
            && head.get(28..34) == Some(&self.mac)
            && head.get(236..) == Some(&COOKIE);
        if !ours {
            return None;
        }
        let mut kept = head.to_vec();
        // Server name and boot file name may hold anything.
        kept.get_mut(44..236)?.fill(0);
        while let Some((code, rest)) = options.split_first() {
            options = rest;
            match code {
                0 => continue,
                255 => break,
                _ => {}
            }
            let (length, rest) = rest.split_first()?;
            let (value, rest) = rest.split_at_checked(usize::from(*length))?;
            options = rest;
            if fits(*code, value.len()) {
                kept.extend([*code, *length]);
                kept.extend(value);
            }
        }
        kept.push(255);
        Some(kept)
    }

    fn encode(&self, kind: MessageType, ours: Ipv4Addr, more: Vec<DhcpOption>) -> Option<Vec<u8>> {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(self.id, ours, none, none, none, &self.mac);
        message.set_opcode(Opcode::BootRequest).set_secs(self.seconds);
        // Without an address an answer can reach us by broadcast only (RFC 2131 section 4.1).
        message.set_flags(if ours.is_unspecified() {
            dhcproto::v4::Flags::default().set_broadcast()
        } else {
            Default::default()
        });
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            // Before the router, as RFC 3442 asks.
            OptionCode::ClasslessStaticRoute,
            OptionCode::Router,
            OptionCode::DomainNameServer,
            OptionCode::Hostname,
            OptionCode::DomainName,
            OptionCode::DomainSearch,
            OptionCode::AddressLeaseTime,
            OptionCode::Renewal,
            OptionCode::Rebinding,
        ]));
        options.insert(DhcpOption::MaxMessageSize(1472));
        options.insert(DhcpOption::ClassIdentifier(b"lifeboat".to_vec()));
        more.into_iter().for_each(|option| {
            options.insert(option);
        });
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).ok()?;
        Some(bytes)
    }

    /// Reads a packet; `None`: not an answer to this transaction, or not one that can be used.
    pub fn read(&self, packet: &[u8]) -> Option<Answer> {
        let known = self.only_what_we_read(packet)?;
        let message = Message::decode(&mut Decoder::new(&known)).ok()?;
        let lists = packet.get(240..)?;
        let Some(DhcpOption::MessageType(kind)) = message.opts().get(OptionCode::MessageType) else {
            return None;
        };
        match kind {
            MessageType::Offer => lease(&message, lists).map(Answer::Offer),
            MessageType::Ack => lease(&message, lists).map(Answer::Ack),
            MessageType::Nak => Some(Answer::Nak),
            _ => None,
        }
    }
}

/// Options we read, and which lengths they may have (RFC 2132).
fn fits(code: u8, length: usize) -> bool {
    match code {
        1 | 51 | 54 | 58 | 59 => length == 4,
        3 | 6 => length >= 4 && length.is_multiple_of(4),
        12 | 15 => length >= 1,
        53 => length == 1,
        _ => false,
    }
}

/// `lists`: the options as they came, for those that we read by ourselves.
fn lease(message: &Message, lists: &[u8]) -> Option<Lease> {
    let address = message.yiaddr();
    if address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback() {
        return None;
    }
    let opts = message.opts();
    let server = match opts.get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server,
        _ => return None,
    };
    let prefix = match opts.get(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => prefix(*mask)?,
        // RFC 950's classes: a server that gives no mask means them.
        _ => match address.octets()[0] {
            ..128 => 8,
            128..192 => 16,
            _ => 24,
        },
    };
    let seconds = |code| match opts.get(code) {
        Some(DhcpOption::AddressLeaseTime(s) | DhcpOption::Renewal(s) | DhcpOption::Rebinding(s)) => {
            Some(u64::from(*s))
        }
        _ => None,
    };
    let lifetime = seconds(OptionCode::AddressLeaseTime).unwrap_or(3600).clamp(SHORTEST, LONGEST);
    let rebind = seconds(OptionCode::Rebinding).filter(|t2| *t2 < lifetime).unwrap_or(lifetime / 8 * 7);
    let renew = seconds(OptionCode::Renewal).filter(|t1| *t1 < rebind).unwrap_or(lifetime / 2);
    let addresses = |code| match opts.get(code) {
        Some(DhcpOption::Router(list) | DhcpOption::DomainNameServer(list)) => list.as_slice(),
        _ => &[],
    };
    let name = |code| match opts.get(code) {
        Some(DhcpOption::Hostname(name) | DhcpOption::DomainName(name)) => {
            crate::ip::host_name(name.trim_end_matches(['\0', '.'])).ok()
        }
        _ => None,
    };
    let router = addresses(OptionCode::Router).iter().copied().find(|gateway| !gateway.is_unspecified());
    let (gateway, routes) = ways(router, lists);
    let mut domains: Vec<String> = name(OptionCode::DomainName).into_iter().collect();
    domains.extend(options::domains(&options::joined(lists, DOMAIN_SEARCH)));
    Some(Lease {
        address,
        prefix,
        gateway,
        routes,
        nameservers: addresses(OptionCode::DomainNameServer).iter().copied().take(3).collect(),
        domains,
        hostname: name(OptionCode::Hostname),
        server,
        lifetime: Duration::from_secs(lifetime),
        renew_after: Duration::from_secs(renew.max(SHORTEST / 2)),
        rebind_after: Duration::from_secs(rebind),
    })
}

/// The default gateway and the further routes. RFC 3442: where routes are given, the router option does not count.
fn ways(router: Option<Ipv4Addr>, lists: &[u8]) -> (Option<Ipv4Addr>, Vec<Route>) {
    match options::routes(&options::joined(lists, CLASSLESS_ROUTES)) {
        Some(routes) if !routes.is_empty() => {
            let is_default = |route: &Route| route.prefix == 0 && !route.gateway.is_unspecified();
            let default = routes.iter().find(|route| is_default(route)).map(|route| route.gateway);
            (default, routes.into_iter().filter(|route| route.prefix > 0).collect())
        }
        _ => (router, Vec::new()),
    }
}

fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    (bits.leading_ones() + bits.trailing_zeros() == 32 && bits != 0).then_some(bits.leading_ones() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const US: Transaction = Transaction { mac: [0xdc, 0xa6, 0x32, 1, 2, 3], id: 0x1234_5678, seconds: 3 };

    fn reply(kind: MessageType, options: Vec<DhcpOption>) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let yours = Ipv4Addr::new(192, 0, 2, 7);
        let mut message = Message::new_with_id(US.id, none, yours, none, none, &US.mac);
        message.set_opcode(Opcode::BootReply);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        for option in options {
            message.opts_mut().insert(option);
        }
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).unwrap();
        bytes
    }

    fn full() -> Vec<DhcpOption> {
        vec![
            DhcpOption::ServerIdentifier(Ipv4Addr::new(192, 0, 2, 1)),
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
            DhcpOption::Router(vec![Ipv4Addr::new(192, 0, 2, 254)]),
            DhcpOption::DomainNameServer(vec![Ipv4Addr::new(192, 0, 2, 53); 5]),
            DhcpOption::AddressLeaseTime(600),
            DhcpOption::Hostname("cm4".into()),
            DhcpOption::DomainName("bad domain".into()),
        ]
    }

    #[test]
    fn an_offer_becomes_a_lease() {
        let Some(Answer::Offer(lease)) = US.read(&reply(MessageType::Offer, full())) else { panic!() };
        assert_eq!((lease.address, lease.prefix), (Ipv4Addr::new(192, 0, 2, 7), 24));
        assert_eq!(lease.gateway, Some(Ipv4Addr::new(192, 0, 2, 254)));
        assert_eq!(lease.nameservers.len(), 3);
        assert_eq!((lease.hostname.as_deref(), lease.domains.len()), (Some("cm4"), 0));
        assert_eq!((lease.renew_after.as_secs(), lease.rebind_after.as_secs()), (300, 525));
    }

    #[test]
    fn foreign_and_useless_answers_are_none() {
        let good = reply(MessageType::Ack, full());
        assert!(matches!(US.read(&good), Some(Answer::Ack(_))));
        let stranger = Transaction { id: 1, ..US };
        assert_eq!(stranger.read(&good), None);
        assert_eq!(Transaction { mac: [0; 6], ..US }.read(&good), None);
        assert_eq!(US.read(&reply(MessageType::Ack, full()[1..].to_vec())), None, "no server identifier");
        let mut hole = full();
        hole[1] = DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 255, 0));
        assert_eq!(US.read(&reply(MessageType::Ack, hole)), None);
        assert_eq!(US.read(&US.discover().unwrap()), None, "our own question");
        assert_eq!(US.read(&reply(MessageType::Nak, vec![])), Some(Answer::Nak));
    }

    #[test]
    fn an_odd_option_that_we_do_not_read_costs_nothing() {
        let mut packet = reply(MessageType::Offer, full());
        assert_eq!(packet.pop(), Some(255));
        // A time zone that is no text, a client FQDN without its flags, a status code cut short.
        packet.extend([100, 2, 0xff, 0xfe, 81, 1, 0, 152, 1, 7, 255]);
        assert!(matches!(US.read(&packet), Some(Answer::Offer(_))));
    }

    #[test]
    fn routes_and_search_domains_come_beside() {
        let with = |more: &[u8]| {
            let mut packet = reply(MessageType::Ack, full());
            assert_eq!(packet.pop(), Some(255));
            packet.extend(more);
            packet.push(255);
            let Some(Answer::Ack(lease)) = US.read(&packet) else { panic!("{more:?}") };
            lease
        };
        let lease = with(&[121, 11, 0, 192, 0, 2, 9, 8, 10, 192, 0, 2, 8, 119, 4, 2, b'a', b'b', 0]);
        assert_eq!((lease.gateway, lease.routes.len()), (Some(Ipv4Addr::new(192, 0, 2, 9)), 1));
        assert_eq!(lease.domains, ["ab"]);
        // One route is cut short: the router counts.
        let cut = with(&[121, 10, 0, 192, 0, 2, 9, 8, 10, 192, 0, 2]);
        assert_eq!((cut.gateway, cut.routes.len()), (Some(Ipv4Addr::new(192, 0, 2, 254)), 0));
    }

    #[test]
    fn times_are_kept_sane() {
        let mut options = full();
        options[4] = DhcpOption::AddressLeaseTime(0);
        let Some(Answer::Ack(lease)) = US.read(&reply(MessageType::Ack, options)) else { panic!() };
        assert!(lease.renew_after.as_secs() >= 15 && lease.lifetime.as_secs() == 30, "{lease:?}");
        let mut options = full();
        options[4] = DhcpOption::AddressLeaseTime(u32::MAX);
        let Some(Answer::Ack(lease)) = US.read(&reply(MessageType::Ack, options)) else { panic!() };
        assert!(lease.lifetime.as_secs() <= LONGEST && lease.renew_after < lease.rebind_after);
    }

    proptest! {
        #[test]
        fn no_packet_panics(packet in proptest::collection::vec(any::<u8>(), 0..400)) {
            US.read(&packet);
        }

        #[test]
        fn no_changed_packet_panics(at in 0usize..300, byte: u8) {
            let mut packet = reply(MessageType::Ack, full());
            if let Some(place) = packet.get_mut(at) { *place = byte; }
            US.read(&packet);
        }
    }
}
