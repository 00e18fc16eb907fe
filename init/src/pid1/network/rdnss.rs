//! Name servers and search domains that IPv6 routers announce (RFC 8106): the kernel hands those options on to whoever listens, in messages of
//! rtnetlink (`struct nduseroptmsg` in `include/uapi/linux/rtnetlink.h`).

use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::sync::mpsc::Sender;

use crate::pid1::dhcp::options::domains;
use crate::pid1::dhcp6::address::is_usable;

/// `RTNLGRP_ND_USEROPT`, as a bit.
const GROUP: u32 = 1 << (20 - 1);
/// `RTM_NEWNDUSEROPT`.
const NEW_OPTION: u16 = 68;
/// RFC 8106, sections 5.1 and 5.2.
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;
/// No router needs more; so many are known of an interface, too: anybody on the link can announce more.
const MOST: usize = 8;
/// A router's "for ever" is no longer than this.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// What a router said on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The interface's index.
    pub index: u32,
    /// Name servers, at most eight.
    pub servers: Vec<Ipv6Addr>,
    /// Search domains, at most eight.
    pub domains: Vec<String>,
    /// For how long they are to be used; zero: no longer.
    pub lifetime: Duration,
}

/// What routers announced on an interface, each until its time is over.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    servers: Vec<(Ipv6Addr, Instant)>,
    domains: Vec<(String, Instant)>,
}

impl Known {
    /// Takes it; what is announced anew has a new time, or none any more.
    pub(super) fn take(&mut self, announced: Announced, now: Instant) {
        fn put<T: PartialEq>(known: &mut Vec<(T, Instant)>, new: Vec<T>, now: Instant, lifetime: Duration) {
            known.retain(|(one, until)| *until > now && !new.contains(one));
            if !lifetime.is_zero() {
                known.extend(new.into_iter().map(|one| (one, now + lifetime.min(LONGEST))));
                known.truncate(MOST);
            }
        }
        put(&mut self.servers, announced.servers, now, announced.lifetime);
        put(&mut self.domains, announced.domains, now, announced.lifetime);
    }

    /// The name servers that are good at this time.
    pub(super) fn servers(&self, now: Instant) -> impl Iterator<Item = Ipv6Addr> {
        self.servers.iter().filter(move |(_, until)| *until > now).map(|(server, _)| *server)
    }

    /// The search domains that are good at this time.
    pub(super) fn domains(&self, now: Instant) -> impl Iterator<Item = &str> {
        self.domains.iter().filter(move |(_, until)| *until > now).map(|(domain, _)| domain.as_str())
    }
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

/// What a datagram of netlink messages has of them.
pub fn messages(mut bytes: &[u8]) -> Vec<Announced> {
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
        if matches!(*kind, RDNSS | DNSSL) {
            let seconds = u32::from_be_bytes(option.get(4..8)?.try_into().ok()?);
            let value = option.get(8..)?;
            let mut announced = Announced {
                index,
                servers: Vec::new(),
                domains: Vec::new(),
                lifetime: Duration::from_secs(seconds.into()),
            };
            if *kind == RDNSS {
                let servers = value.chunks_exact(16).filter_map(|bytes| <[u8; 16]>::try_from(bytes).ok());
                announced.servers = servers.map(Ipv6Addr::from).filter(is_usable).take(MOST).collect();
            } else {
                // Zeros behind the last one fill the option up: no names.
                announced.domains = domains(value).into_iter().take(MOST).collect();
            }
            return Some(announced);
        }
        options = rest;
    }
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

    #[test]
    fn search_domains_are_taken() {
        let mut option = vec![DNSSL, 4, 0, 0, 0, 0, 2, 88];
        option.extend(b"\x04site\x07example\x00\x03b_d\x00\x01a\x00\x00\x00");
        let all = messages(&message(&option));
        assert_eq!(
            (all[0].domains.as_slice(), all[0].servers.len()),
            (&["site.example".into(), "a".into()][..], 0)
        );
        assert_eq!(all[0].lifetime.as_secs(), 600);
    }

    #[test]
    fn what_is_announced_ends_with_its_time() {
        let server = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
        let announce = |servers: Vec<Ipv6Addr>, domain: &str, seconds| Announced {
            index: 3,
            servers,
            domains: vec![domain.into()],
            lifetime: Duration::from_secs(seconds),
        };
        let (mut known, start) = (Known::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        known.take(announce(vec![server(1)], "a", 60), at(0));
        known.take(announce(vec![server(2)], "b", 30), at(0));
        let all =
            |known: &Known, seconds| (known.servers(at(seconds)).count(), known.domains(at(seconds)).count());
        assert_eq!((all(&known, 29), all(&known, 30), all(&known, 60)), ((2, 2), (1, 1), (0, 0)));
        // Said again, and said to be over.
        known.take(announce(vec![server(2)], "b", 300), at(20));
        known.take(announce(vec![server(1)], "a", 0), at(20));
        assert_eq!((known.servers(at(299)).collect::<Vec<_>>(), all(&known, 320)), (vec![server(2)], (0, 0)));
        for n in 0..100 {
            known.take(
                announce((0..8).map(|m| server(n * 8 + m)).collect(), &n.to_string(), u64::MAX),
                at(40),
            );
        }
        assert_eq!(all(&known, 41), (MOST, MOST));
        assert_eq!(all(&known, 40 + 31 * 86_400), (0, 0));
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), options in proptest::collection::vec(any::<u8>(), 0..80)) {
            messages(&bytes);
            messages(&message(&options));
        }
    }
}
