//! The sockets of an interface: one for each family, bound to the group's address, so that nothing from beyond the link can
//! reach them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;

use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, sendto, socket_with,
    sockopt,
};

use super::{Family, Link, MDNS_PORT};

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// RFC 6762 section 11: receivers may look at it.
const TTL: u32 = 255;

/// One of them.
pub(super) struct Socket {
    pub(super) index: u32,
    pub(super) family: Family,
    pub(super) fd: OwnedFd,
}

impl Socket {
    /// Opens one on this interface.
    ///
    /// # Errors
    /// When the kernel refuses: there is no such interface any more, or no such family.
    pub(super) fn open(link: &Link, family: Family) -> Result<Self, Errno> {
        let kind = match family {
            Family::V4 => AddressFamily::INET,
            Family::V6 => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(kind, SocketType::DGRAM, flags, None)?;
        // The OS in a container on the same machine may want the port as well.
        sockopt::set_socket_reuseaddr(&fd, true)?;
        let device = link.device.as_str().into();
        setsockopt(&fd, BindToDevice, &device).map_err(|error| Errno::from_raw_os_error(error as i32))?;
        match family {
            Family::V4 => {
                sockopt::set_ip_ttl(&fd, TTL)?;
                sockopt::set_ip_multicast_ttl(&fd, TTL)?;
                sockopt::set_ip_multicast_loop(&fd, false)?;
                let any = Ipv4Addr::UNSPECIFIED;
                sockopt::set_ip_add_membership_with_ifindex(&fd, &GROUP_V4, &any, link.index)?;
            }
            Family::V6 => {
                sockopt::set_ipv6_v6only(&fd, true)?;
                sockopt::set_ipv6_unicast_hops(&fd, Some(TTL as u8))?;
                sockopt::set_ipv6_multicast_hops(&fd, TTL)?;
                sockopt::set_ipv6_multicast_loop(&fd, false)?;
                sockopt::set_ipv6_add_membership(&fd, &GROUP_V6, link.index)?;
            }
        }
        bind(&fd, &group(family, link.index))?;
        Ok(Socket { index: link.index, family, fd })
    }

    /// A packet that has come, and from whom; `None`: there is none any more.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        loop {
            match recvfrom(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Ok((_, length, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    if let Some(from) = from {
                        return Some((length, from));
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Sends to somebody, or to all on the link. `false`: the kernel refuses it, for want of an address.
    pub(super) fn send(&self, to: Option<SocketAddr>, packet: &[u8]) -> bool {
        let to = to.unwrap_or_else(|| group(self.family, self.index));
        sendto(&self.fd, packet, SendFlags::DONTWAIT, &to).is_ok()
    }
}

fn group(family: Family, index: u32) -> SocketAddr {
    match family {
        Family::V4 => SocketAddrV4::new(GROUP_V4, MDNS_PORT).into(),
        Family::V6 => SocketAddrV6::new(GROUP_V6, MDNS_PORT, 0, index).into(),
    }
}
