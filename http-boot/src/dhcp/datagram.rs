//! A UDP datagram with its IPv4 header (RFC 768, RFC 791), for a client that has no address yet: the kernel would look for
//! its Ethernet address by ARP, which it cannot answer.

use std::net::{Ipv4Addr, SocketAddrV4};

const HEADER: usize = 20;
const UDP: u8 = 17;

/// Writes a datagram. `None`: it is longer than one can be.
pub fn write(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(8 + payload.len()).ok()?;
    let total = length.checked_add(HEADER as u16)?;
    let mut udp = Vec::with_capacity(usize::from(length));
    for word in [from.port(), to.port(), length, 0] {
        udp.extend(word.to_be_bytes());
    }
    udp.extend(payload);
    let pseudo = [&from.ip().octets()[..], &to.ip().octets(), &[0, UDP], &length.to_be_bytes()].concat();
    // A sum of 0 says that there is none: its other form is sent.
    let check = match checksum([&pseudo[..], &udp].concat().as_slice()) {
        0 => u16::MAX,
        sum => sum,
    };
    udp.get_mut(6..8)?.copy_from_slice(&check.to_be_bytes());

    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let check = checksum(&packet);
    packet.get_mut(10..12)?.copy_from_slice(&check.to_be_bytes());
    packet.extend(udp);
    Some(packet)
}

/// Reads a datagram: from where, to where, and what. Sums are the kernel's and the hardware's business.
pub fn read(packet: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, &[u8])> {
    let (first, _) = packet.split_first()?;
    let header = usize::from(first & 15) * 4;
    let total = usize::from(u16::from_be_bytes(at(packet, 2)?));
    let is_first_part = u16::from_be_bytes(at(packet, 6)?) & 0x3fff == 0;
    let known = first >> 4 == 4 && header >= HEADER && at(packet, 9)? == [UDP] && is_first_part;
    let udp = packet.get(header..total).filter(|_| known)?;
    let port = |offset| Some(u16::from_be_bytes(at(udp, offset)?));
    let length = usize::from(port(4)?);
    let address = |offset| Some(Ipv4Addr::from(at::<4>(packet, offset)?));
    let from = SocketAddrV4::new(address(12)?, port(0)?);
    Some((from, SocketAddrV4::new(address(16)?, port(2)?), udp.get(8..length)?))
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| u32::from(*byte) << 8);
    let mut sum = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>() + last;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn socket(last: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port)
    }

    #[test]
    fn sums_are_right() {
        let packet = write(socket(1, 67), socket(2, 68), b"odd").unwrap();
        assert_eq!(checksum(&packet[..HEADER]), 0, "RFC 791: over header and sum");
        let length = (packet.len() - HEADER) as u16;
        let pseudo = [&packet[12..20], &[0, UDP], &length.to_be_bytes(), &packet[HEADER..]].concat();
        assert_eq!(checksum(&pseudo), 0);
        // The example of RFC 1071, section 3.
        assert_eq!(checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(payload in proptest::collection::vec(any::<u8>(), 0..600)) {
            let packet = write(socket(1, 67), socket(2, 68), &payload).unwrap();
            prop_assert_eq!(read(&packet), Some((socket(1, 67), socket(2, 68), &payload[..])));
            for cut in 0..packet.len() {
                prop_assert_eq!(read(&packet[..cut]), None);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes);
        }
    }
}
