//! DHCPv4 messages (RFC 2131, RFC 2132): bytes from outside become a checked [`Message`], and a [`Reply`] becomes bytes.
//!
//! The crate `dhcproto` writes options sorted by their numbers, and refuses a whole message for one odd option. A boot ROM is
//! a narrow reader that nobody can mend: it gets the order in which dnsmasq has booted it for years, which [`Reply`] keeps.
//! The tests read and write with `dhcproto` as well.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use init::mac::Mac;

/// Numbers of options (IANA's registry "BOOTP Vendor Extensions and DHCP Options").
pub mod code {
    #![allow(missing_docs, reason = "named as the registry names them")]
    pub const PAD: u8 = 0;
    pub const MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const NAME_SERVERS: u8 = 6;
    pub const DOMAIN_NAME: u8 = 15;
    pub const BROADCAST_ADDRESS: u8 = 28;
    pub const NTP_SERVERS: u8 = 42;
    pub const VENDOR_OPTIONS: u8 = 43;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const PARAMETER_LIST: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const TFTP_SERVER: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    pub const RELAY_AGENT: u8 = 82;
    pub const CLIENT_ARCHITECTURE: u8 = 93;
    pub const CLIENT_INTERFACE: u8 = 94;
    pub const CLIENT_MACHINE: u8 = 97;
    pub const END: u8 = 255;
}

/// What a message is (option 53).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as RFC 2131 names them")]
pub enum Kind {
    Discover = 1,
    Offer,
    Request,
    Decline,
    Ack,
    Nak,
    Release,
    Inform,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::*;
        [Discover, Offer, Request, Decline, Ack, Nak, Release, Inform]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Who sends a message (`op`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the two are named by who sends them")]
pub enum Sender {
    Client = 1,
    Server,
}

/// A message that was read: Ethernet, with a known kind, and with options that are whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub sender: Sender,
    /// What it is.
    pub kind: Kind,
    /// The transaction's number.
    pub id: u32,
    /// For how long the client has been asking, in seconds.
    pub seconds: u16,
    /// Whether the client wants the answer by broadcast.
    pub broadcast: bool,
    /// The address that the client uses, or 0.0.0.0 (`ciaddr`).
    pub in_use: Ipv4Addr,
    /// The address that a server gives (`yiaddr`).
    pub given: Ipv4Addr,
    /// The relay that passed it on, or 0.0.0.0 (`giaddr`).
    pub relay: Ipv4Addr,
    /// The client's Ethernet address (`chaddr`).
    pub mac: Mac,
    options: BTreeMap<u8, Vec<u8>>,
}

/// The longest message that is read: what fits into an Ethernet frame.
pub const LONGEST: usize = 1472;
/// BOOTP's shortest (RFC 951); some relays and boot ROMs drop shorter ones.
pub const SHORTEST: usize = 300;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const FIXED: usize = 236;
const FLAG_BROADCAST: u16 = 0x8000;
const ETHERNET: [u8; 2] = [1, 6];

impl Message {
    /// Reads a message. `None`: it is none that can be answered.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..bytes.len().min(LONGEST))?;
        let sender = match bytes.first()? {
            1 => Sender::Client,
            2 => Sender::Server,
            _ => return None,
        };
        let known = at(bytes, 1)? == ETHERNET && at(bytes, FIXED)? == COOKIE;
        let options = known.then(|| options(bytes)).flatten()?;
        let [kind] = *options.get(&code::MESSAGE_TYPE)?.first_chunk()?;
        let message = Self {
            sender,
            kind: Kind::of(kind)?,
            id: u32::from_be_bytes(at(bytes, 4)?),
            seconds: u16::from_be_bytes(at(bytes, 8)?),
            broadcast: u16::from_be_bytes(at(bytes, 10)?) & FLAG_BROADCAST != 0,
            in_use: Ipv4Addr::from(at(bytes, 12)?),
            given: Ipv4Addr::from(at(bytes, 16)?),
            relay: Ipv4Addr::from(at(bytes, 24)?),
            mac: Mac(at(bytes, 28)?),
            options,
        };
        Some(message).filter(|message| message.mac.is_one_host())
    }

    /// An option's value, joined where it came in parts (RFC 3396).
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    /// An option that is one address of a host.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let octets = <[u8; 4]>::try_from(self.option(code)?).ok()?;
        Some(Ipv4Addr::from(octets)).filter(|address| !address.is_unspecified())
    }
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// All options: of their own field, and of those that option 52 lends them.
fn options(bytes: &[u8]) -> Option<BTreeMap<u8, Vec<u8>>> {
    let mut all = BTreeMap::new();
    gather(&mut all, bytes.get(FIXED + COOKIE.len()..)?)?;
    let overload = all.get(&code::OVERLOAD).and_then(|value| value.first()).copied().unwrap_or(0);
    if overload & 1 != 0 {
        gather(&mut all, bytes.get(108..FIXED)?)?;
    }
    if overload & 2 != 0 {
        gather(&mut all, bytes.get(44..108)?)?;
    }
    Some(all)
}

/// `None`: an option goes on after the end of its field.
fn gather(all: &mut BTreeMap<u8, Vec<u8>>, mut field: &[u8]) -> Option<()> {
    loop {
        match field {
            [] | [code::END, ..] => return Some(()),
            [code::PAD, rest @ ..] => field = rest,
            [code, length, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                all.entry(*code).or_default().extend(value);
                field = rest;
            }
            [_] => return None,
        }
    }
}

/// A message in the making; its options keep the order in which they were added.
#[derive(Clone, Debug)]
pub struct Reply {
    bytes: Vec<u8>,
    relay: Vec<u8>,
}

impl Reply {
    /// A server's answer of this kind, for who sent `request`. Option 53 comes first.
    pub fn to(request: &Message, kind: Kind) -> Self {
        let mut reply = Self::new(Sender::Server, request.id, request.mac);
        reply.set_broadcast(request.broadcast);
        reply.set(24, &request.relay.octets());
        // RFC 3046: echoed, as the last option.
        reply.relay = request.option(code::RELAY_AGENT).unwrap_or_default().to_vec();
        reply.with(code::MESSAGE_TYPE, &[kind as u8])
    }

    /// A client's question of this kind. Used by tests, and to look for other servers.
    pub fn question(kind: Kind, id: u32, mac: Mac) -> Self {
        Self::new(Sender::Client, id, mac).with(code::MESSAGE_TYPE, &[kind as u8])
    }

    fn new(sender: Sender, id: u32, mac: Mac) -> Self {
        let mut bytes = vec![sender as u8];
        bytes.extend(ETHERNET);
        bytes.push(0);
        bytes.extend(id.to_be_bytes());
        bytes.resize(28, 0);
        bytes.extend(mac.0);
        bytes.resize(FIXED, 0);
        bytes.extend(COOKIE);
        Self { bytes, relay: Vec::new() }
    }

    fn set(&mut self, offset: usize, value: &[u8]) {
        if let Some(field) = self.bytes.get_mut(offset..offset + value.len()) {
            field.copy_from_slice(value);
        }
    }

    /// Whether the client, or a relay on its behalf, is to see a broadcast.
    pub fn set_broadcast(&mut self, broadcast: bool) {
        self.set(10, &if broadcast { FLAG_BROADCAST } else { 0 }.to_be_bytes());
    }

    /// Sets the address in use (`ciaddr`).
    pub fn in_use(mut self, address: Ipv4Addr) -> Self {
        self.set(12, &address.octets());
        self
    }

    /// Sets the client's new address (`yiaddr`).
    pub fn given(mut self, address: Ipv4Addr) -> Self {
        self.set(16, &address.octets());
        self
    }

    /// Sets the server with the boot files (`siaddr`).
    pub fn next_server(mut self, address: Ipv4Addr) -> Self {
        self.set(20, &address.octets());
        self
    }

    /// Sets the relay (`giaddr`).
    pub fn relay(mut self, address: Ipv4Addr) -> Self {
        self.set(24, &address.octets());
        self
    }

    /// Adds an option; one that is longer than 255 bytes goes in several parts (RFC 3396).
    pub fn with(mut self, code: u8, value: &[u8]) -> Self {
        for part in value.chunks(255) {
            // A chunk is no longer than a byte can say.
            self.bytes.extend([code, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            self.bytes.extend(part);
        }
        self
    }

    /// The bytes.
    pub fn done(mut self) -> Vec<u8> {
        let relay = std::mem::take(&mut self.relay);
        let mut bytes = self.with(code::RELAY_AGENT, &relay).bytes;
        bytes.push(code::END);
        if bytes.len() < SHORTEST {
            bytes.resize(SHORTEST, code::PAD);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::{self, DhcpOption, OptionCode};
    use dhcproto::{Decodable, Decoder, Encodable};
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = Mac([0xdc, 0xa6, 0x32, 1, 2, 3]);

    #[test]
    fn another_decoder_reads_what_we_write() {
        let request = Message::parse(
            &Reply::question(Kind::Discover, 0x1234_5678, MAC)
                .relay(Ipv4Addr::new(192, 0, 2, 254))
                .with(code::RELAY_AGENT, &[1, 2, 3, 4])
                .done(),
        )
        .unwrap();
        let bytes = Reply::to(&request, Kind::Offer)
            .given(Ipv4Addr::new(192, 0, 2, 7))
            .next_server(Ipv4Addr::new(192, 0, 2, 1))
            .with(code::CLASS, b"PXEClient")
            .with(code::VENDOR_OPTIONS, &[7; 300])
            .done();
        let message = v4::Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!((message.xid(), message.chaddr()), (0x1234_5678, &MAC.0[..]));
        assert_eq!(message.opcode(), v4::Opcode::BootReply);
        assert_eq!(message.yiaddr(), Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(message.siaddr(), Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(message.giaddr(), Ipv4Addr::new(192, 0, 2, 254));
        let vendor = message.opts().get(OptionCode::VendorExtensions);
        assert_eq!(vendor, Some(&DhcpOption::VendorExtensions(vec![7; 300])));
        let ours = Message::parse(&bytes).unwrap();
        assert_eq!((ours.sender, ours.kind), (Sender::Server, Kind::Offer));
        assert_eq!(ours.option(code::RELAY_AGENT), Some(&[1, 2, 3, 4][..]));
        assert!(bytes.ends_with(&[code::RELAY_AGENT, 4, 1, 2, 3, 4, code::END]), "RFC 3046: the last");
    }

    #[test]
    fn we_read_what_another_encoder_writes() {
        let mut message = v4::Message::default();
        message.set_opcode(v4::Opcode::BootRequest).set_xid(9).set_chaddr(&MAC.0).set_secs(3);
        message.set_flags(v4::Flags::default().set_broadcast()).set_ciaddr(Ipv4Addr::new(192, 0, 2, 9));
        message.opts_mut().insert(DhcpOption::MessageType(v4::MessageType::Request));
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(Ipv4Addr::new(192, 0, 2, 10)));
        message.opts_mut().insert(DhcpOption::ClassIdentifier(vec![b'x'; 300]));
        let read = Message::parse(&message.to_vec().unwrap()).unwrap();
        assert_eq!((read.sender, read.kind, read.id, read.seconds), (Sender::Client, Kind::Request, 9, 3));
        assert_eq!((read.broadcast, read.in_use, read.mac), (true, Ipv4Addr::new(192, 0, 2, 9), MAC));
        assert_eq!(read.address(code::REQUESTED_ADDRESS), Some(Ipv4Addr::new(192, 0, 2, 10)));
        assert_eq!(read.option(code::CLASS), Some(&[b'x'; 300][..]));
    }

    #[test]
    fn options_may_lie_in_other_fields() {
        let mut bytes = Reply::question(Kind::Discover, 1, MAC).with(code::OVERLOAD, &[3]).done();
        bytes[44..49].copy_from_slice(&[119, 2, 1, 2, 255]);
        bytes[108..112].copy_from_slice(&[119, 1, 3, 255]);
        assert_eq!(Message::parse(&bytes).unwrap().option(119), Some(&[3, 1, 2][..]));
    }

    #[test]
    fn what_is_none_is_not_read() {
        let good = Reply::question(Kind::Discover, 1, MAC).done();
        assert!(Message::parse(&good).is_some());
        for length in 0..FIXED + 7 {
            assert!(Message::parse(&good[..length]).is_none(), "{length}");
        }
        for (offset, value) in [(0, 3), (1, 6), (2, 16), (28, 0xdd), (236, 98), (242, 0), (242, 9)] {
            let mut bad = good.clone();
            bad[offset] = value;
            assert!(Message::parse(&bad).is_none(), "{value} at {offset}");
        }
        let cut = Reply::question(Kind::Discover, 1, MAC).with(119, &[1; 100]).bytes;
        assert!(Message::parse(&cut[..cut.len() - 1]).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700), options in any::<bool>()) {
            let mut all = if options { Reply::question(Kind::Discover, 1, MAC).bytes } else { Vec::new() };
            all.extend(bytes);
            let _ = Message::parse(&all);
        }

        #[test]
        fn options_come_back(options in proptest::collection::btree_map(
            (1u8..255).prop_filter("has its own meaning", |code| ![52, 53, 82].contains(code)),
            proptest::collection::vec(any::<u8>(), 1..100), 0..10)) {
            let mut message = Reply::question(Kind::Inform, 7, MAC);
            for (code, value) in &options {
                message = message.with(*code, value);
            }
            let read = Message::parse(&message.done()).unwrap();
            for (code, value) in &options {
                prop_assert_eq!(read.option(*code), Some(value.as_slice()));
            }
        }
    }
}
