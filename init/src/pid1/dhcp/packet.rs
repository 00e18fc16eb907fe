//! The format of a packet: BOOTP's header, the cookie, options (RFC 2131, section 2; RFC 2132, section 2). Reading copies
//! nothing but the option that is asked for; writing makes what every server and relay takes.

use std::net::Ipv4Addr;

/// Options, by their names in RFC 2132 and the RFCs behind.
pub(super) mod code {
    pub(crate) const MASK: u8 = 1;
    pub(crate) const ROUTER: u8 = 3;
    pub(crate) const NAME_SERVERS: u8 = 6;
    pub(crate) const HOST_NAME: u8 = 12;
    pub(crate) const DOMAIN_NAME: u8 = 15;
    pub(crate) const NTP: u8 = 42;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const LEASE_TIME: u8 = 51;
    pub(crate) const OVERLOAD: u8 = 52;
    pub(crate) const MESSAGE_TYPE: u8 = 53;
    pub(crate) const SERVER: u8 = 54;
    pub(crate) const PARAMETER_LIST: u8 = 55;
    pub(crate) const LARGEST_MESSAGE: u8 = 57;
    pub(crate) const RENEW_AFTER: u8 = 58;
    pub(crate) const REBIND_AFTER: u8 = 59;
    pub(crate) const CLASS: u8 = 60;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const TFTP_SERVER: u8 = 66;
    /// RFC 3397.
    pub(crate) const DOMAIN_SEARCH: u8 = 119;
    /// RFC 3442.
    pub(crate) const ROUTES: u8 = 121;
}

/// Values of option 53.
pub(super) mod kind {
    pub(crate) const DISCOVER: u8 = 1;
    pub(crate) const OFFER: u8 = 2;
    pub(crate) const REQUEST: u8 = 3;
    pub(crate) const DECLINE: u8 = 4;
    pub(crate) const ACK: u8 = 5;
    pub(crate) const NAK: u8 = 6;
}

const PAD: u8 = 0;
const END: u8 = 255;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Relays drop what is shorter than BOOTP's packets were (RFC 1542, section 2.1).
const SHORTEST: usize = 300;
/// RFC 2131, section 4.1: who has no address yet is answered by broadcast.
const BROADCAST: [u8; 2] = [0x80, 0];

/// An answer whose header and whose options hold together; what the options say is not looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The transaction's number.
    pub(super) id: u32,
    /// `yiaddr`: the address that is meant for us.
    pub(super) yours: Ipv4Addr,
    /// `chaddr`: whom it is for.
    pub(super) mac: [u8; 6],
    /// Where options stand, in the order in which parts of one go together (RFC 3396, section 5).
    fields: [&'a [u8]; 3],
}

impl<'a> Packet<'a> {
    /// Reads an answer to an Ethernet device. `None`: it is none, or an option is longer than its field.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Self> {
        const REPLY_ETHERNET: [u8; 3] = [2, 1, 6];
        let (header, options) = packet.split_at_checked(240)?;
        if !header.starts_with(&REPLY_ETHERNET) || header.get(236..) != Some(&COOKIE) {
            return None;
        }
        let mut read = Packet {
            id: u32::from_be_bytes(array(header, 4)?),
            yours: Ipv4Addr::from(array::<4>(header, 16)?),
            mac: array(header, 28)?,
            fields: [options, &[], &[]],
        };
        let overload = read.option(code::OVERLOAD);
        let (server_name, file) = (header.get(44..108)?, header.get(108..236)?);
        match overload.as_slice() {
            [1] => read.fields = [options, file, &[]],
            [2] => read.fields = [options, &[], server_name],
            [3] => read.fields = [options, file, server_name],
            // Both fields hold names that we do not need.
            _ => {}
        }
        let whole = read.fields.iter().all(|field| Options(field).all(|option| option.is_some()));
        whole.then_some(read)
    }

    /// The value of an option, all its parts together (RFC 3396); empty where it is not there.
    pub(super) fn option(&self, code: u8) -> Vec<u8> {
        let parts = self.fields.iter().flat_map(|field| Options(field)).flatten();
        parts.filter(|(kind, _)| *kind == code).flat_map(|(_, part)| part).copied().collect()
    }

    /// An option whose value has this length.
    pub(super) fn fixed<const LENGTH: usize>(&self, code: u8) -> Option<[u8; LENGTH]> {
        self.option(code).try_into().ok()
    }

    /// The addresses of an option that is a list of such; none where its length does not fit.
    pub(super) fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let (addresses, rest) = {
            let value = self.option(code);
            let (chunks, rest) = value.as_chunks::<4>();
            (chunks.iter().copied().map(Ipv4Addr::from).collect(), rest.len())
        };
        if rest == 0 { addresses } else { Vec::new() }
    }
}

fn array<const LENGTH: usize>(bytes: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The options of one field: code and value. `None` in place of one that is cut, which is the last.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Option<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (code, rest) = std::mem::take(&mut self.0).split_first()?;
            match *code {
                PAD => self.0 = rest,
                END => return None,
                code => {
                    let value = rest
                        .split_first()
                        .and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
                    let Some((value, rest)) = value else { return Some(None) };
                    self.0 = rest;
                    return Some(Some((code, value)));
                }
            }
        }
    }
}

/// A packet of ours in the making.
pub(super) struct Request(Vec<u8>);

impl Request {
    /// A packet of this kind (option 53); `ours`: an address that is in use, or 0.0.0.0.
    pub(super) fn new(kind: u8, mac: [u8; 6], id: u32, seconds: u16, ours: Ipv4Addr) -> Self {
        const REQUEST_ETHERNET: [u8; 4] = [1, 1, 6, 0];
        let mut bytes = Vec::with_capacity(SHORTEST * 2);
        bytes.extend(REQUEST_ETHERNET);
        bytes.extend(id.to_be_bytes());
        bytes.extend(seconds.to_be_bytes());
        bytes.extend(if ours.is_unspecified() { BROADCAST } else { [0, 0] });
        bytes.extend(ours.octets());
        bytes.resize(28, 0);
        bytes.extend(mac);
        bytes.resize(236, 0);
        bytes.extend(COOKIE);
        Request(bytes).with(code::MESSAGE_TYPE, &[kind])
    }

    /// Adds an option; what is longer than 255 bytes goes in several parts (RFC 3396).
    pub(super) fn with(mut self, code: u8, value: &[u8]) -> Self {
        for part in value.chunks(255) {
            self.0.extend([code, part.len() as u8]);
            self.0.extend(part);
        }
        self
    }

    /// The packet.
    pub(super) fn done(mut self) -> Vec<u8> {
        self.0.push(END);
        if self.0.len() < SHORTEST {
            self.0.resize(SHORTEST, PAD);
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
    use dhcproto::{Decodable, Decoder};
    use proptest::prelude::*;

    use super::*;

    const MAC: [u8; 6] = [0xdc, 0xa6, 0x32, 1, 2, 3];

    fn answer(options: &[u8], file: &[u8], server_name: &[u8]) -> Vec<u8> {
        let mut packet = Request::new(kind::OFFER, MAC, 7, 0, Ipv4Addr::UNSPECIFIED).0;
        packet[0] = 2;
        packet.extend(options);
        packet[108..108 + file.len()].copy_from_slice(file);
        packet[44..44 + server_name.len()].copy_from_slice(server_name);
        packet
    }

    #[test]
    fn another_decoder_reads_what_we_write() {
        let long = [b'x'; 300];
        let request = Request::new(kind::REQUEST, MAC, 0x1234_5678, 9, Ipv4Addr::new(192, 0, 2, 7));
        let bytes = request.with(code::CLASS, &long).with(code::SERVER, &[192, 0, 2, 1]).done();
        let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!((message.xid(), message.secs(), message.chaddr()), (0x1234_5678, 9, &MAC[..]));
        assert_eq!(message.ciaddr(), Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(message.opts().msg_type(), Some(MessageType::Request));
        let class = message.opts().get(OptionCode::ClassIdentifier);
        assert_eq!(class, Some(&DhcpOption::ClassIdentifier(long.to_vec())));
        assert_eq!(Request::new(kind::DISCOVER, MAC, 1, 0, Ipv4Addr::UNSPECIFIED).done().len(), SHORTEST);
    }

    #[test]
    fn parts_go_together_over_all_fields() {
        let options = [0, 119, 2, 1, 2, 52, 1, 3, 119, 1, 3, 255, 119, 1, 9];
        let packet = answer(&options, &[119, 1, 4, 255], &[0, 119, 1, 5, 255]);
        assert_eq!(Packet::parse(&packet).unwrap().option(119), [1, 2, 3, 4, 5]);
        // Without option 52, and with a value of it that is none, those fields are names.
        for options in [&[119, 1, 3][..], &[52, 1, 9, 119, 1, 3]] {
            let packet = answer(options, b"start4.elf", b"\x77\xffname");
            assert_eq!(Packet::parse(&packet).unwrap().option(119), [3], "{options:?}");
        }
        for (overload, expected) in [(1, [3, 4]), (2, [3, 5])] {
            let packet = answer(&[119, 1, 3, 52, 1, overload], &[119, 1, 4, 255], &[119, 1, 5, 255]);
            assert_eq!(Packet::parse(&packet).unwrap().option(119), expected);
        }
    }

    #[test]
    fn what_is_cut_is_no_answer() {
        for cut in [&[119, 9, 1][..], &[119], &[52, 1, 1, 119, 200]] {
            assert!(Packet::parse(&answer(cut, &[], &[])).is_none(), "{cut:?}");
        }
        assert!(Packet::parse(&answer(&[52, 1, 1], &[119, 127], &[])).is_none(), "a part leaves its field");
        let good = answer(&[6, 8, 1, 2, 3, 4, 5, 6, 7, 8], &[], &[]);
        assert_eq!(Packet::parse(&good).unwrap().addresses(6).len(), 2);
        for length in 0..240 {
            assert!(Packet::parse(&good[..length]).is_none());
        }
        assert!(Packet::parse(&answer(&[6, 5, 1, 2, 3, 4, 5], &[], &[])).unwrap().addresses(6).is_empty());
        let mut request = good;
        request[0] = 1;
        assert!(Packet::parse(&request).is_none());
    }

    proptest! {
        #[test]
        fn no_options_panic(
            options in proptest::collection::vec(any::<u8>(), 0..200),
            file in proptest::collection::vec(any::<u8>(), 0..128),
            overload in 0u8..5,
        ) {
            let mut all = vec![52, 1, overload];
            all.extend(options);
            let packet = answer(&all, &file, &[]);
            if let Some(packet) = Packet::parse(&packet) {
                (0..=255).for_each(|code| _ = packet.addresses(code));
            }
        }
    }
}
