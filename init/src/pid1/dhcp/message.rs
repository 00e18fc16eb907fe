//! DHCP messages: what we send, and the checked type that an answer becomes.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::{self, Route};
use super::packet::{Packet, Request, code, kind};

/// What a server grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// The length of its network's prefix, 8 to 32.
    pub prefix: u8,
    /// The default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// Name servers, at most three: resolv.conf(5) takes no more.
    pub nameservers: Vec<Ipv4Addr>,
    /// Time servers, at most four.
    pub ntp: Vec<Ipv4Addr>,
    /// Search domains; the first is our own.
    pub domains: Vec<String>,
    /// The host name the server wants us to have.
    pub hostname: Option<String>,
    /// The name or the address of a server with files (option 66).
    pub tftp_server: Option<String>,
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
    /// It is not, or no longer, says this server.
    Nak(Option<Ipv4Addr>),
}

/// Who asks, in which transaction.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// Our MAC address.
    pub mac: [u8; 6],
    /// By what a server knows us (option 61).
    pub client_id: &'a [u8],
    /// The transaction's number: an answer repeats it.
    pub id: u32,
    /// Seconds since we began to ask.
    pub seconds: u16,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To take an offer.
    Take,
    /// To keep a lease that we do not use, or cannot know to be good here (RFC 2131, section 4.3.2: INIT-REBOOT).
    Confirm,
    /// To have a lease in use for longer.
    Renew,
}

/// No lease is taken to be shorter, whatever a server says: it would be renewed without pause.
const SHORTEST: u64 = 30;
/// RFC 2131 section 4.4.1 leaves the limit open; Linux counts lifetimes in 32 bits, of which this is half a century.
const LONGEST: u64 = 50 * 365 * 86_400;
/// resolv.conf(5) takes no more.
const NAME_SERVERS: usize = 3;
const TIME_SERVERS: usize = 4;
/// No network is larger than one of class A: what says so wants our traffic.
const SHORTEST_PREFIX: u8 = 8;

/// Option 121 before the router, as RFC 3442 asks.
const WANTED: [u8; 13] = [
    code::MASK,
    code::ROUTES,
    code::ROUTER,
    code::NAME_SERVERS,
    code::HOST_NAME,
    code::DOMAIN_NAME,
    code::DOMAIN_SEARCH,
    code::NTP,
    code::LEASE_TIME,
    code::SERVER,
    code::RENEW_AFTER,
    code::REBIND_AFTER,
    code::TFTP_SERVER,
];

impl Transaction<'_> {
    /// Asks everybody for an offer, best of this address.
    pub fn discover(&self, wanted: Option<Ipv4Addr>) -> Vec<u8> {
        let request = self.request_of(kind::DISCOVER, Ipv4Addr::UNSPECIFIED);
        let request = match wanted {
            Some(address) => request.with(code::REQUESTED_ADDRESS, &address.octets()),
            None => request,
        };
        asking(request).done()
    }

    /// Asks for a lease.
    pub fn request(&self, lease: &Lease, purpose: Purpose) -> Vec<u8> {
        let ours = if purpose == Purpose::Renew { lease.address } else { Ipv4Addr::UNSPECIFIED };
        let mut request = self.request_of(kind::REQUEST, ours);
        if purpose != Purpose::Renew {
            request = request.with(code::REQUESTED_ADDRESS, &lease.address.octets());
        }
        if purpose == Purpose::Take {
            request = request.with(code::SERVER, &lease.server.octets());
        }
        asking(request).done()
    }

    /// Says that somebody else has the address of this lease.
    pub fn decline(&self, lease: &Lease) -> Vec<u8> {
        self.request_of(kind::DECLINE, Ipv4Addr::UNSPECIFIED)
            .with(code::REQUESTED_ADDRESS, &lease.address.octets())
            .with(code::SERVER, &lease.server.octets())
            .done()
    }

    fn request_of(&self, kind: u8, ours: Ipv4Addr) -> Request {
        Request::new(kind, self.mac, self.id, self.seconds, ours).with(code::CLIENT_ID, self.client_id)
    }

    /// Reads a packet; `None`: not an answer to this transaction, or not one that can be used.
    pub fn read(&self, packet: &[u8]) -> Option<Answer> {
        let packet = Packet::parse(packet)?;
        // A server that repeats the identifier (RFC 6842) means who has it.
        let named = packet.option(code::CLIENT_ID);
        let ours =
            packet.id == self.id && packet.mac == self.mac && (named.is_empty() || named == self.client_id);
        let [kind] = packet.fixed(code::MESSAGE_TYPE).filter(|_| ours)?;
        match kind {
            kind::OFFER => lease(&packet).map(Answer::Offer),
            kind::ACK => lease(&packet).map(Answer::Ack),
            kind::NAK => Some(Answer::Nak(packet.fixed::<4>(code::SERVER).map(Ipv4Addr::from))),
            _ => None,
        }
    }
}

/// What only a message has that wants a lease.
fn asking(request: Request) -> Request {
    const LARGEST: [u8; 2] = 1472u16.to_be_bytes();
    request
        .with(code::PARAMETER_LIST, &WANTED)
        .with(code::LARGEST_MESSAGE, &LARGEST)
        .with(code::CLASS, b"lifeboat")
}

fn lease(packet: &Packet) -> Option<Lease> {
    let address = Some(packet.yours).filter(is_a_hosts)?;
    let server = packet.fixed::<4>(code::SERVER).map(Ipv4Addr::from).filter(is_a_hosts)?;
    let mask = packet.option(code::MASK);
    let prefix = match <[u8; 4]>::try_from(mask.as_slice()) {
        Ok(mask) => prefix(Ipv4Addr::from(mask))?,
        // RFC 950's classes: a server that gives no mask means them.
        Err(_) => match address.octets() {
            [..128, ..] => 8,
            [128..192, ..] => 16,
            _ => 24,
        },
    };
    if is_the_networks(address, prefix) {
        return None;
    }
    let seconds = |code| packet.fixed::<4>(code).map(|bytes| u64::from(u32::from_be_bytes(bytes)));
    let lifetime = seconds(code::LEASE_TIME).unwrap_or(3600).clamp(SHORTEST, LONGEST);
    let rebind = seconds(code::REBIND_AFTER).filter(|t2| *t2 < lifetime).unwrap_or(lifetime / 8 * 7);
    let rebind = rebind.max(SHORTEST / 2);
    let renew = seconds(code::RENEW_AFTER).filter(|t1| *t1 < rebind).unwrap_or(lifetime / 2);
    let hosts = |code, most| -> Vec<Ipv4Addr> {
        packet.addresses(code).into_iter().filter(is_a_hosts).take(most).collect()
    };
    let router = hosts(code::ROUTER, 1).first().copied().filter(|router| *router != address);
    let (gateway, routes) = ways(router, packet);
    let mut domains: Vec<String> = name(packet, code::DOMAIN_NAME).into_iter().collect();
    domains.extend(options::domains(&packet.option(code::DOMAIN_SEARCH)));
    Some(Lease {
        address,
        prefix,
        gateway,
        routes,
        nameservers: hosts(code::NAME_SERVERS, NAME_SERVERS),
        ntp: hosts(code::NTP, TIME_SERVERS),
        domains,
        hostname: name(packet, code::HOST_NAME).filter(|name| name != "localhost"),
        tftp_server: name(packet, code::TFTP_SERVER),
        server,
        lifetime: Duration::from_secs(lifetime),
        renew_after: Duration::from_secs(renew.clamp(SHORTEST / 2, rebind)),
        rebind_after: Duration::from_secs(rebind),
    })
}

/// An option that is a host's name, or an IPv4 address as text.
fn name(packet: &Packet, code: u8) -> Option<String> {
    let value = packet.option(code);
    let text = std::str::from_utf8(&value).ok()?;
    crate::ip::host_name(text.trim_end_matches(['\0', '.'])).ok()
}

/// Whether an address can be that of one host which others reach: not RFC 1122's 0/8 and 127/8, nor link-local (RFC 3927),
/// multicast, reserved (RFC 1112) or broadcast.
fn is_a_hosts(address: &Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !matches!(first, 0 | 127 | 224..) && !address.is_link_local()
}

/// Whether it is the address of the network itself, or the one for all its hosts. RFC 3021: a network of two has neither.
fn is_the_networks(address: Ipv4Addr, prefix: u8) -> bool {
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    let host = address.to_bits() & hosts;
    prefix < 31 && (host == 0 || host == hosts)
}

/// The default gateway and the further routes. RFC 3442: where routes are given, the router option does not count.
fn ways(router: Option<Ipv4Addr>, packet: &Packet) -> (Option<Ipv4Addr>, Vec<Route>) {
    match options::routes(&packet.option(code::ROUTES)) {
        Some(routes) if !routes.is_empty() => {
            let is_default = |route: &Route| route.prefix == 0 && !route.gateway.is_unspecified();
            let default = routes.iter().find(|route| is_default(route)).map(|route| route.gateway);
            (default, routes.into_iter().filter(|route| route.prefix > 0).collect())
        }
        _ => (router, Vec::new()),
    }
}

fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones() as u8;
    (bits.count_ones() == bits.leading_ones() && ones >= SHORTEST_PREFIX).then_some(ones)
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode};
    use dhcproto::{Encodable, Encoder};
    use proptest::prelude::*;

    use super::*;

    const US: Transaction<'static> = Transaction {
        mac: [0xdc, 0xa6, 0x32, 1, 2, 3],
        client_id: &[255, 1, 2],
        id: 0x1234_5678,
        seconds: 3,
    };

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
        assert_eq!(US.read(&US.discover(None)), None, "our own question");
        assert_eq!(US.read(&reply(MessageType::Nak, vec![])), Some(Answer::Nak(None)));
    }

    #[test]
    fn nonsense_is_no_lease() {
        let offer = |address: [u8; 4], mask: [u8; 4], server: [u8; 4], router: [u8; 4]| {
            let mut options = full();
            options[0] = DhcpOption::ServerIdentifier(server.into());
            options[1] = DhcpOption::SubnetMask(mask.into());
            options[2] = DhcpOption::Router(vec![router.into()]);
            let mut packet = reply(MessageType::Offer, options);
            packet[16..20].copy_from_slice(&address);
            match US.read(&packet) {
                Some(Answer::Offer(lease)) => Some(lease),
                None => None,
                other => panic!("{other:?}"),
            }
        };
        let (us, them, mask) = ([192, 0, 2, 7], [192, 0, 2, 1], [255, 255, 255, 0]);
        assert_eq!(offer(us, mask, them, them).unwrap().gateway, Some(them.into()));
        for address in
            [[0; 4], [255; 4], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [169, 254, 1, 1], [0, 0, 0, 9]]
        {
            assert_eq!(offer(address, mask, them, them), None, "address {address:?}");
            assert_eq!(offer(us, mask, address, them), None, "server {address:?}");
            assert_eq!(offer(us, mask, them, address).unwrap().gateway, None, "router {address:?}");
        }
        for mask in
            [[0; 4], [128, 0, 0, 0], [254, 0, 0, 0], [255, 0, 255, 0], [0, 0, 0, 255], [255, 255, 255, 1]]
        {
            assert_eq!(offer(us, mask, them, them), None, "mask {mask:?}");
        }
        for address in [[192, 0, 2, 0], [192, 0, 2, 255]] {
            assert_eq!(offer(address, mask, them, them), None, "{address:?} is the network's");
        }
        assert!(offer([192, 0, 2, 0], [255, 255, 255, 254], them, them).is_some(), "RFC 3021");
        assert_eq!(offer(us, mask, them, us).unwrap().gateway, None, "our own address");
    }

    #[test]
    fn who_is_named_is_meant() {
        let mut packet = reply(MessageType::Ack, full());
        assert_eq!(packet.pop(), Some(255));
        packet.extend([61, 3, 255, 1, 2]);
        assert!(US.read(&packet).is_some());
        let last = packet.len() - 1;
        packet[last] = 3;
        assert_eq!(US.read(&packet), None);
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
        let servers = with(&[
            42, 8, 192, 0, 2, 3, 224, 0, 1, 1, 66, 12, b'f', b'i', b'l', b'e', b's', b'.', b'e', b'x', 0, 0,
            0, 0,
        ]);
        assert_eq!(servers.ntp, [Ipv4Addr::new(192, 0, 2, 3)]);
        assert_eq!(servers.tftp_server.as_deref(), Some("files.ex"));
        assert_eq!(with(&[66, 2, b'a', b'/']).tftp_server, None);
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
