//! Name servers that IPv6 routers announce (RFC 8106): the kernel hands those options on to whoever listens, in messages of
//! rtnetlink (`struct nduseroptmsg` in `include/uapi/linux/rtnetlink.h`).

use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::sync::mpsc::Sender;

/// `RTNLGRP_ND_USEROPT`, as a bit.
const GROUP: u32 = 1 << (20 - 1);
/// `RTM_NEWNDUSEROPT`.
const NEW_OPTION: u16 = 68;
/// RFC 8106, section 5.1.
const RDNSS: u8 = 25;
/// No router needs more.
const SERVERS: usize = 8;

/// What a router said on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    /// The interface's index.
    pub(super) index: u32,
    /// The name servers.
    pub(super) servers: Vec<Ipv6Addr>,
    /// For how long they are to be used; zero: no longer.
    pub(super) lifetime: Duration,
}

/// Starts to listen, in a thread of its own.
///
/// # Errors
/// When the kernel has no such messages.
pub(super) fn listen(to: Sender<Announced>) -> Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )
    .context("opening a netlink socket")?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP)).context("asking for what routers announce")?;
    let thread = std::thread::Builder::new().name("rdnss".into());
    thread.spawn(move || hear(&socket, &to)).context("starting a thread").map(drop)
}

fn hear(socket: &OwnedFd, to: &Sender<Announced>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, length)) => {
                for announced in messages(buffer.get(..length).unwrap_or_default()) {
                    if to.blocking_send(announced).is_err() {
                        return;
                    }
                }
            }
            // Routers say it again.
            Err(Errno::INTR | Errno::NOBUFS) => {}
            Err(error) => return tracing::error!("listening for what routers announce: {error}"),
        }
    }
}

/// The name servers in a datagram of netlink messages.
fn messages(mut bytes: &[u8]) -> Vec<Announced> {
    let mut all = Vec::new();
    // struct nlmsghdr: length with this header, type, flags, sequence, sender.
    while let (Some(length), Some(kind)) = (native_u32(bytes, 0), native_u16(bytes, 4)) {
        let Some(message) = bytes.get(16..length as usize) else { break };
        if kind == NEW_OPTION {
            all.extend(message_to_announced(message));
        }
        bytes = bytes.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// `struct nduseroptmsg`: family, padding, the options' length, the interface, ICMP's type and code, padding; then options.
fn message_to_announced(message: &[u8]) -> Option<Announced> {
    let length = usize::from(native_u16(message, 2)?);
    let index = native_u32(message, 4)?;
    let mut options = message.get(16..)?.get(..length)?;
    loop {
        // RFC 4861, section 4.6: type, length in units of 8 bytes.
        let [kind, units, ..] = options else { return None };
        let (option, rest) =
            options.split_at_checked(usize::from(*units) * 8).filter(|(one, _)| !one.is_empty())?;
        if *kind == RDNSS {
            let seconds = u32::from_be_bytes(option.get(4..8)?.try_into().ok()?);
            let servers =
                option.get(8..)?.chunks_exact(16).filter_map(|bytes| <[u8; 16]>::try_from(bytes).ok());
            let servers = servers.map(Ipv6Addr::from).filter(is_usable).take(SERVERS).collect();
            return Some(Announced { index, servers, lifetime: Duration::from_secs(seconds.into()) });
        }
        options = rest;
    }
}

/// One that is link-local is of use with its interface only, which our resolver cannot say.
fn is_usable(address: &Ipv6Addr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_unicast_link_local()
        && !address.is_loopback()
}

fn native_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn native_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(options: &[u8]) -> Vec<u8> {
        let mut bytes = (32 + options.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(NEW_OPTION.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([10, 0]);
        bytes.extend((options.len() as u16).to_ne_bytes());
        bytes.extend(3u32.to_ne_bytes());
        bytes.extend([134, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes
    }

    fn rdnss(addresses: &[&str], seconds: u32) -> Vec<u8> {
        let mut option = vec![RDNSS, (1 + 2 * addresses.len()) as u8, 0, 0];
        option.extend(seconds.to_be_bytes());
        for address in addresses {
            option.extend(address.parse::<Ipv6Addr>().unwrap().octets());
        }
        option
    }

    #[test]
    fn name_servers_of_use_are_taken() {
        let mut datagram = message(&rdnss(&["2001:db8::53", "fe80::1", "2001:db8::54"], 600));
        datagram.extend(message(&rdnss(&["2001:db8::53"], 0)));
        let all = messages(&datagram);
        assert_eq!(all.len(), 2);
        assert_eq!(
            all[0].servers,
            ["2001:db8::53", "2001:db8::54"].map(|text| text.parse::<Ipv6Addr>().unwrap())
        );
        assert_eq!((all[0].index, all[0].lifetime.as_secs(), all[1].lifetime.as_secs()), (3, 600, 0));
        // Another option before it, and one of no length.
        let mut options = vec![3, 1, 0, 0, 0, 0, 0, 0];
        options.extend(rdnss(&["2001:db8::53"], 1));
        assert_eq!(messages(&message(&options)).len(), 1);
        assert_eq!(messages(&message(&[0; 24])), []);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), options in proptest::collection::vec(any::<u8>(), 0..80)) {
            messages(&bytes);
            messages(&message(&options));
        }
    }
}
