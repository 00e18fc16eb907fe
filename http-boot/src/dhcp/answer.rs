//! What a server sends, and where to (RFC 2131, section 4.1).

use init::mac::Mac;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::message::{Kind, Message, Reply};

/// Where servers, and relays, listen.
pub const SERVER_PORT: u16 = 67;
/// Where clients listen.
pub const CLIENT_PORT: u16 = 68;

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To all on the link.
    Broadcast,
    /// To one on the link who has not got this address yet, and so answers no ARP.
    Hardware(Mac, Ipv4Addr),
    /// To an address that is in use.
    Routed(SocketAddrV4),
}

/// An answer that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it is.
    pub kind: Kind,
    /// Where it goes.
    pub to: Destination,
    /// The address that it gives, or 0.0.0.0.
    pub given: Ipv4Addr,
    /// The message.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// An answer of this kind that gives this address, or 0.0.0.0 where it gives none.
    pub fn new(request: &Message, kind: Kind, given: Ipv4Addr, reply: Reply) -> Self {
        Self { kind, to: destination(request, kind, given), given, bytes: reply.done() }
    }
}

fn destination(request: &Message, kind: Kind, given: Ipv4Addr) -> Destination {
    if !request.relay.is_unspecified() {
        Destination::Routed(SocketAddrV4::new(request.relay, SERVER_PORT))
    } else if kind == Kind::Nak {
        // Its address is wrong: it may not be reachable by that.
        Destination::Broadcast
    } else if !request.in_use.is_unspecified() {
        Destination::Routed(SocketAddrV4::new(request.in_use, CLIENT_PORT))
    } else if request.broadcast || given.is_unspecified() {
        Destination::Broadcast
    } else {
        Destination::Hardware(request.mac, given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_section_4_1() {
        let nobody = Ipv4Addr::UNSPECIFIED;
        let [relay, used, given] = [254, 7, 8].map(|last| Ipv4Addr::new(192, 0, 2, last));
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        let relayed = Destination::Routed(SocketAddrV4::new(relay, 67));
        let direct = Destination::Routed(SocketAddrV4::new(used, 68));
        for (giaddr, ciaddr, broadcast, kind, yiaddr, wanted) in [
            (relay, used, true, Kind::Ack, given, relayed),
            (relay, used, true, Kind::Nak, nobody, relayed),
            (nobody, used, true, Kind::Ack, used, direct),
            (nobody, used, false, Kind::Nak, nobody, Destination::Broadcast),
            (nobody, nobody, true, Kind::Offer, given, Destination::Broadcast),
            (nobody, nobody, false, Kind::Offer, given, Destination::Hardware(mac, given)),
            (nobody, nobody, false, Kind::Offer, nobody, Destination::Broadcast),
        ] {
            let mut question = Reply::question(Kind::Request, 1, mac).relay(giaddr).in_use(ciaddr);
            question.set_broadcast(broadcast);
            let request = Message::parse(&question.done()).unwrap();
            assert_eq!(destination(&request, kind, yiaddr), wanted, "{giaddr} {ciaddr} {kind:?}");
        }
    }
}
