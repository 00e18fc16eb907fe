//! A DHCP message in an Ethernet frame: a client that has no address yet can use no socket.
use init::mac::Mac;

use std::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr,
    UdpPacket, UdpRepr,
};

const SERVER: u16 = 67;
const CLIENT: u16 = 68;

/// A message from 0.0.0.0 to everyone (RFC 2131 section 4.1).
pub fn write(mac: Mac, message: &[u8]) -> Vec<u8> {
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(mac.0),
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Ipv4,
    };
    let udp = UdpRepr { src_port: CLIENT, dst_port: SERVER };
    let ip = Ipv4Repr {
        src_addr: Ipv4Addr::UNSPECIFIED,
        dst_addr: Ipv4Addr::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + message.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; ethernet.buffer_len() + ip.buffer_len() + ip.payload_len];
    let sums = ChecksumCapabilities::default();
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &sums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    let (from, to) = (ip.src_addr.into(), ip.dst_addr.into());
    udp.emit(&mut datagram, &from, &to, message.len(), |room| room.copy_from_slice(message), &sums);
    bytes
}

/// The sender and the message, if the frame is an answer to a DHCP client with this Ethernet address.
pub fn read(mac: Mac, bytes: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    let to = frame.dst_addr();
    if frame.ethertype() != EthernetProtocol::Ipv4 || !(to.is_broadcast() || to.0 == mac.0) {
        return None;
    }
    let packet = Ipv4Packet::new_checked(frame.payload()).ok().filter(|p| p.verify_checksum())?;
    let is_whole = !packet.more_frags() && packet.frag_offset() == 0;
    if packet.next_header() != IpProtocol::Udp || !is_whole {
        return None;
    }
    let (from, to) = (packet.src_addr(), packet.dst_addr());
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    let is_sound = datagram.verify_checksum(&from.into(), &to.into());
    let is_answer = (datagram.src_port(), datagram.dst_port()) == (SERVER, CLIENT);
    (is_sound && is_answer).then(|| (from, datagram.payload()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = Mac([0xdc, 0xa6, 0x32, 1, 2, 3]);

    /// The frame of an answer: a question with its ports turned round.
    fn answer(message: &[u8]) -> Vec<u8> {
        let mut frame = write(MAC, message);
        let ports = &mut frame[34..38];
        ports.copy_from_slice(&[0, 67, 0, 68]);
        frame
    }

    #[test]
    fn an_answer_is_read_and_a_question_is_not() {
        assert_eq!(read(MAC, &answer(b"words")), Some((Ipv4Addr::UNSPECIFIED, &b"words"[..])));
        assert_eq!(read(MAC, &write(MAC, b"words")), None);
        let mut wrong = answer(b"words");
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(read(MAC, &wrong), None, "its checksum is wrong");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(at in 0usize..60, byte: u8, length in 0usize..60) {
            let mut frame = answer(b"a message of some length");
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
            frame.truncate(length);
            let _either = read(MAC, &frame);
        }
    }
}
