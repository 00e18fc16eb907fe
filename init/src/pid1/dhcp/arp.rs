//! Asks on the link whether somebody has an address already (RFC 5227, section 2.1.1). The RFC's own pace takes seven seconds,
//! which nobody who waits for SSH has; hosts answer within a millisecond.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, sendto, socket,
};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

const PROBES: u32 = 2;
/// How long an answer to each is waited for.
const PATIENCE: Duration = Duration::from_millis(100);
/// `include/uapi/linux/if_ether.h`.
const ETH_P_ARP: u16 = 0x0806;
/// Ethernet, IPv4, and the lengths of their addresses (RFC 826).
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];

/// Whether another host than `mac` answers for the address, or asks for it as well.
///
/// # Errors
/// When the kernel refuses a packet socket.
pub(super) async fn is_taken(index: u32, mac: [u8; 6], address: Ipv4Addr) -> Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket =
        socket(AddressFamily::Packet, SockType::Datagram, flags, None).context("opening a packet socket")?;
    let everybody = link_address(index, [0xff; 6])?;
    bind(socket.as_raw_fd(), &everybody).context("listening for ARP")?;
    // SAFETY: an OwnedFd is the same open descriptor until it is dropped, here with the AsyncFd.
    #[allow(unsafe_code, reason = "tokio leaves this promise to its caller")]
    let socket = unsafe { AsyncFd::register(socket) }.context("listening for ARP")?;
    let probe = probe(mac, address);
    for _ in 0..PROBES {
        sendto(socket.as_raw_fd(), &probe, &everybody, MsgFlags::empty()).context("sending an ARP probe")?;
        let end = Instant::now() + PATIENCE;
        while let Ok(packet) = timeout_at(end, receive(&socket)).await {
            if is_anothers(&packet?, mac, address) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

async fn receive(socket: &AsyncFd<OwnedFd>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 128];
    loop {
        let mut ready = socket.readable().await.context("listening for ARP")?;
        match ready.try_io(|socket| Ok(rustix::io::read(socket.get_ref(), &mut buffer)?)) {
            Ok(read) => {
                buffer.truncate(read.context("listening for ARP")?);
                return Ok(buffer);
            }
            Err(_would_block) => {}
        }
    }
}

/// `struct sockaddr_ll` (packet(7)).
fn link_address(index: u32, mac: [u8; 6]) -> Result<LinkAddr> {
    let [a, b, c, d, e, f] = mac;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ETH_P_ARP.to_be(),
        sll_ifindex: index.try_into().context("an interface's index")?,
        sll_hatype: libc::ARPHRD_ETHER,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to a whole sockaddr_ll of that length, which is copied before the call is over.
    #[allow(unsafe_code, reason = "nix makes this address from the kernel's bytes only")]
    let made = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    made.context("a link's address")
}

/// A request with no sender: nobody is to believe that the address is ours.
fn probe(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let parts: [&[u8]; 6] = [&ETHERNET_IPV4, &REQUEST, &mac, &[0; 4], &[0; 6], &address.octets()];
    parts.concat()
}

fn is_anothers(packet: &[u8], mac: [u8; 6], address: Ipv4Addr) -> bool {
    let field = |from: usize, length: usize| packet.get(from..from + length).unwrap_or_default();
    let (sender, has, wants) = (field(8, 6), field(14, 4), field(24, 4));
    let is_probe = field(6, 2) == REQUEST && has == [0; 4];
    packet.starts_with(&ETHERNET_IPV4)
        && sender != mac
        && (has == address.octets() || (is_probe && wants == address.octets()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    #[test]
    fn others_are_told_from_us() {
        let ours = probe(US, ADDRESS);
        assert_eq!(ours.len(), 28);
        assert!(!is_anothers(&ours, US, ADDRESS));
        assert!(is_anothers(&probe([2, 0, 0, 0, 0, 2], ADDRESS), US, ADDRESS), "it wants it as well");
        assert!(!is_anothers(&probe([2, 0, 0, 0, 0, 2], Ipv4Addr::new(192, 0, 2, 8)), US, ADDRESS));
        let mut answer = probe([2, 0, 0, 0, 0, 2], Ipv4Addr::new(192, 0, 2, 99));
        answer[7] = 2;
        answer[14..18].copy_from_slice(&ADDRESS.octets());
        assert!(is_anothers(&answer, US, ADDRESS));
        for length in 0..28 {
            assert!(!is_anothers(&answer[..length.min(17)], US, ADDRESS));
        }
    }
}
