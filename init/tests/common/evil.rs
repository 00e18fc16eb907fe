//! Somebody on the wire who answers DHCP faster than any server, and says whatever a test likes.

use std::net::Ipv4Addr;

/// The DHCP message in a frame to the servers' port.
pub(crate) fn dhcp_of(frame: &[u8]) -> Option<&[u8]> {
    let ipv4_udp = frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17);
    let to_server = frame.get(36..38) == Some(&67u16.to_be_bytes());
    (ipv4_udp && to_server).then(|| &frame[42..])
}

/// An answer to a client's message: BOOTP's header, then these options.
pub(crate) fn answer(question: &[u8], yours: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[2, 1, 6, 0]);
    message[4..8].copy_from_slice(&question[4..8]);
    message[16..20].copy_from_slice(&yours.octets());
    message[28..44].copy_from_slice(&question[28..44]);
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend(options);
    message
}

/// A broadcast frame with this message from port 67 to port 68.
pub(crate) fn frame(from: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 0x66, 8, 0]);
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let mut ip = vec![0x45, 0];
    ip.extend(length(28 + message.len()));
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(from.octets());
    ip.extend([255; 4]);
    let checksum = checksum(&ip);
    ip[10..12].copy_from_slice(&checksum);
    frame.extend(ip);
    frame.extend(67u16.to_be_bytes());
    frame.extend(68u16.to_be_bytes());
    frame.extend(length(8 + message.len()));
    // UDP over IPv4 may go without a checksum (RFC 768).
    frame.extend([0, 0]);
    frame.extend(message);
    frame
}

fn checksum(header: &[u8]) -> [u8; 2] {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!(folded as u16)).to_be_bytes()
}
