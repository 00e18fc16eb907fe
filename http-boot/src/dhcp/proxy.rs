//! proxyDHCP (Intel's PXE specification 2.1, section 2.2): answers beside the site's own DHCP server, which alone gives
//! addresses. A bootloader puts both offers together.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::answer::{Answer, Destination};
use super::boot_options;
use super::message::{Kind, Message, Reply, Sender, code};
use super::pi::Who;
use super::settings::Link;

/// Where a boot ROM asks a proxy once it has an address. A Pi's is not known to; others of the PXE family do.
pub const PROXY_PORT: u16 = 4011;

/// The answer to a bootloader; `None`: the question is not for a proxy. `direct`: who asked on [`PROXY_PORT`]; without, it
/// was on port 67, with all other DHCP.
pub fn answer(link: &Link, request: &Message, who: &Who, direct: Option<SocketAddrV4>) -> Option<Answer> {
    let Who::Bootloader(found) = who else { return None };
    let kind = match (request.sender, request.kind, direct) {
        (Sender::Client, Kind::Discover, _) => Kind::Offer,
        // On port 67 a REQUEST takes the offer of the server that gives the address: not ours to confirm.
        (Sender::Client, Kind::Request | Kind::Inform, Some(_)) => Kind::Ack,
        _ => return None,
    };
    let mut reply = Reply::to(request, kind)
        .in_use(if kind == Kind::Ack { request.in_use } else { Ipv4Addr::UNSPECIFIED })
        .with(code::SERVER, &link.identity.octets());
    reply = boot_options::add(reply, link.files, &found.machine);
    // No address is given, so that there is none to send to: nor for a relay, which would look for it in `yiaddr`.
    reply.set_broadcast(true);
    let answer = Answer::new(request, kind, Ipv4Addr::UNSPECIFIED, reply);
    match direct {
        Some(from) if !from.ip().is_unspecified() => Some(Answer { to: Destination::Routed(from), ..answer }),
        _ => Some(answer),
    }
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::{DhcpOption, OptionCode};
    use dhcproto::{Decodable, Decoder};

    use super::super::subnet::Subnet;
    use super::super::test_pi::{self, SERVER};
    use super::*;

    const FILES: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

    fn link() -> Link {
        let interface = test_pi::interface();
        Link { interface, identity: SERVER, subnet: Subnet::of(SERVER, 24).unwrap(), files: FILES }
    }

    fn ask(question: Reply, direct: Option<SocketAddrV4>) -> Option<Answer> {
        let request = Message::parse(&question.done()).unwrap();
        answer(&link(), &request, &Who::of(&request), direct)
    }

    #[test]
    fn an_offer_byte_by_byte() {
        let answer = ask(test_pi::question(Kind::Discover, 0x0102_0304), None).unwrap();
        assert_eq!((answer.kind, answer.to), (Kind::Offer, Destination::Broadcast));
        let bytes = answer.bytes;
        let mut golden = vec![2, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0];
        golden.extend([0; 8]); // ciaddr, yiaddr
        golden.extend(FILES.octets()); // siaddr
        golden.extend([0; 4]); // giaddr
        golden.extend(test_pi::MAC.0);
        golden.resize(236, 0);
        golden.extend([99, 130, 83, 99, 53, 1, 2, 54, 4, 192, 0, 2, 1]);
        golden.extend(b"\x42\x0c198.51.100.9\x3c\x09PXEClient\x61\x11");
        golden.extend(test_pi::MACHINE);
        golden.extend(b"\x2b\x20\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff\xff");
        golden.resize(300.max(golden.len()), 0);
        assert_eq!(bytes, golden);
        let message = dhcproto::v4::Message::decode(&mut Decoder::new(&bytes)).unwrap();
        let text = message.opts().get(OptionCode::TFTPServerName);
        assert_eq!(text, Some(&DhcpOption::TFTPServerName(b"198.51.100.9".to_vec())));
    }

    #[test]
    fn which_questions_are_for_a_proxy() {
        let from = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 77), 68);
        let relay = Ipv4Addr::new(203, 0, 113, 1);
        let to = |question, direct| ask(question, direct).map(|answer| (answer.kind, answer.to));
        let question = |kind| test_pi::question(kind, 1);
        let routed = |ip, port| Destination::Routed(SocketAddrV4::new(ip, port));
        let proxy = Some(from);
        assert_eq!(to(question(Kind::Request), None), None);
        assert_eq!(to(question(Kind::Inform), None), None);
        assert_eq!(to(question(Kind::Release), proxy), None);
        assert_eq!(to(question(Kind::Request), proxy), Some((Kind::Ack, routed(*from.ip(), 68))));
        assert_eq!(to(question(Kind::Inform), proxy), Some((Kind::Ack, routed(*from.ip(), 68))));
        let relayed = to(question(Kind::Discover).relay(relay), None);
        assert_eq!(relayed, Some((Kind::Offer, routed(relay, 67))));
        assert_eq!(to(Reply::question(Kind::Discover, 1, test_pi::MAC), None), None, "not a bootloader");
    }
}
