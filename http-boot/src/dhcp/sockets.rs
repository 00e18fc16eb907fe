//! The sockets of one interface. They take CAP_NET_BIND_SERVICE (port 67) and CAP_NET_RAW (packets to clients that have no
//! address yet, and a look at what other servers say), no more.

use std::ffi::OsString;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use init::mac::Mac;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessage, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrLike, bind,
    recv, recvfrom, sendmsg, sendto, setsockopt, socket, sockopt,
};

use super::answer::{CLIENT_PORT, Destination, SERVER_PORT};
use super::datagram;
use super::interface::Interface;
use super::proxy::PROXY_PORT;
use super::settings::Link;

const FLAGS: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);
const BROADCAST_MAC: Mac = Mac([0xff; 6]);

/// Where something comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// UDP port 67.
    Server,
    /// UDP port 4011, where a proxy is.
    Proxy,
    /// IPv4 packets to port 68; and the way to a client without an address.
    Clients,
    /// ARP, where addresses are given.
    Arp,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Server, Self::Proxy, Self::Clients, Self::Arp];
}

/// The sockets of one interface.
#[derive(Debug)]
pub struct Sockets {
    server: OwnedFd,
    proxy: Option<OwnedFd>,
    clients: OwnedFd,
    arp: Option<OwnedFd>,
    index: u32,
    mac: Mac,
    identity: Ipv4Addr,
}

impl Sockets {
    /// Opens them; those of a proxy, or those of a server that gives addresses.
    ///
    /// # Errors
    /// Where one cannot be opened; says what it takes.
    pub fn open(link: &Link, is_proxy: bool) -> Result<Self> {
        let name = &link.interface.name;
        let index = link.interface.index;
        Ok(Self {
            server: udp(name, SERVER_PORT)?,
            proxy: is_proxy.then(|| udp(name, PROXY_PORT)).transpose()?,
            clients: packets(name, index, libc::ETH_P_IP, Some(&TO_CLIENTS))?,
            arp: (!is_proxy).then(|| packets(name, index, libc::ETH_P_ARP, None)).transpose()?,
            index,
            mac: link.interface.mac,
            identity: link.identity,
        })
    }

    /// From now on answers come from this address.
    pub fn set_identity(&mut self, identity: Ipv4Addr) {
        self.identity = identity;
    }

    /// Whether they are still those of this interface: one that was unplugged comes back as another.
    pub fn are_of(&self, interface: &Interface) -> bool {
        self.index == interface.index && self.mac == interface.mac
    }

    /// The socket of a door, where there is one.
    pub fn of(&self, door: Door) -> Option<&OwnedFd> {
        match door {
            Door::Server => Some(&self.server),
            Door::Proxy => self.proxy.as_ref(),
            Door::Clients => Some(&self.clients),
            Door::Arp => self.arp.as_ref(),
        }
    }

    /// Reads what came in at a door; `None`: there is nothing now. Of a packet, the sender is said in itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn receive<'a>(
        &self,
        door: Door,
        buffer: &'a mut [u8],
    ) -> Result<Option<(&'a [u8], SocketAddrV4)>, Errno> {
        let Some(socket) = self.of(door) else { return Ok(None) };
        let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let received = match door {
            Door::Server | Door::Proxy => recvfrom::<SockaddrIn>(socket.as_raw_fd(), buffer),
            Door::Clients | Door::Arp => {
                recv(socket.as_raw_fd(), buffer, MsgFlags::empty()).map(|length| (length, None))
            }
        };
        match received {
            Ok((length, from)) => {
                let from = from.map_or(nobody, |from| SocketAddrV4::new(from.ip(), from.port()));
                Ok(buffer.get(..length).map(|bytes| (bytes, from)))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, to: Destination, bytes: &[u8]) -> Result<(), Errno> {
        let (mac, address) = match to {
            Destination::Routed(address) => return self.send_routed(address, bytes),
            Destination::Broadcast => (BROADCAST_MAC, Ipv4Addr::BROADCAST),
            Destination::Hardware(mac, address) => (mac, address),
        };
        let from = SocketAddrV4::new(self.identity, SERVER_PORT);
        let packet = datagram::write(from, SocketAddrV4::new(address, CLIENT_PORT), bytes);
        let to = link_address(self.index, libc::ETH_P_IP, mac)?;
        sendto(self.clients.as_raw_fd(), &packet.ok_or(Errno::EMSGSIZE)?, &to, MsgFlags::empty()).map(drop)
    }

    /// From the address by which we are known, which need not be the interface's first.
    fn send_routed(&self, to: SocketAddrV4, bytes: &[u8]) -> Result<(), Errno> {
        let info = libc::in_pktinfo {
            ipi_ifindex: self.index.try_into().map_err(|_| Errno::ENODEV)?,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(self.identity.octets()) },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let to = SockaddrIn::from(to);
        let (bytes, info) = ([IoSlice::new(bytes)], [ControlMessage::Ipv4PacketInfo(&info)]);
        sendmsg(self.server.as_raw_fd(), &bytes, &info, MsgFlags::empty(), Some(&to)).map(drop)
    }

    /// Asks by ARP who has an address, as one that has none (RFC 5227, section 2.1.1).
    ///
    /// # Errors
    /// The kernel's.
    pub fn ask_who_has(&self, address: Ipv4Addr) -> Result<(), Errno> {
        let Some(arp) = &self.arp else { return Ok(()) };
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
        packet.extend(self.mac.0);
        packet.extend([0; 10]);
        packet.extend(address.octets());
        let to = link_address(self.index, libc::ETH_P_ARP, BROADCAST_MAC)?;
        sendto(arp.as_raw_fd(), &packet, &to, MsgFlags::empty()).map(drop)
    }
}

/// The sender that an ARP packet names: its Ethernet address and its IPv4 address.
pub fn arp_sender(packet: &[u8]) -> Option<(Mac, Ipv4Addr)> {
    let known = packet.starts_with(&[0, 1, 8, 0, 6, 4]);
    let (mac, rest) = packet.get(8..)?.split_first_chunk::<6>().filter(|_| known)?;
    Some((Mac(*mac), Ipv4Addr::from(*rest.first_chunk::<4>()?)))
}

fn udp(interface: &str, port: u16) -> Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Inet, SockType::Datagram, FLAGS, None).context("opening a UDP socket")?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface))
        .with_context(|| format!("binding a socket to {interface}"))?;
    setsockopt(&socket, sockopt::Broadcast, &true).context("permitting broadcasts")?;
    match bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port)) {
        Ok(()) => Ok(socket),
        // Shared, each unicast would go to one of both alone, and leases would not be renewed.
        Err(Errno::EADDRINUSE) => bail!(
            "UDP port {port} on {interface} is in use: another DHCP server runs on this machine (`ss -lunp` names it). Stop it \
             and use --dhcp full, or let it say where the boot files are, or put this server on another machine"
        ),
        Err(Errno::EACCES | Errno::EPERM) => bail!(
            "not permitted to listen on UDP port {port}: it takes root or CAP_NET_BIND_SERVICE (and CAP_NET_RAW)"
        ),
        Err(error) => Err(error).with_context(|| format!("listening on UDP port {port} of {interface}")),
    }
}

pub(crate) type Filter = [(u16, u8, u8, u32)];

/// Which IPv4 packets the kernel gives us: UDP, the first part of a datagram, to port 68. Classic BPF, as (code, jump if
/// true, jump if false, number); without it we would be woken by all the server's traffic.
const TO_CLIENTS: [(u16, u8, u8, u32); 9] = [
    (0x30, 0, 0, 9),                  // the protocol
    (0x15, 0, 6, 17),                 // is UDP, else drop
    (0x28, 0, 0, 6),                  // the fragment's offset
    (0x45, 4, 0, 0x1fff),             // is 0, else drop
    (0xb1, 0, 0, 0),                  // behind the header
    (0x48, 0, 0, 2),                  // the port
    (0x15, 0, 1, CLIENT_PORT as u32), // is the clients'
    (0x06, 0, 0, 0xffff),             // take it
    (0x06, 0, 0, 0),                  // drop it
];

/// A socket for what goes to clients on an interface, without a server's others.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    index: u32,
}

impl PacketSocket {
    /// Opens it.
    ///
    /// # Errors
    /// Where it cannot be opened; says what it takes.
    pub(crate) fn of_clients(name: &str, index: u32) -> Result<Self> {
        Ok(Self { socket: packets(name, index, libc::ETH_P_IP, Some(&TO_CLIENTS))?, index })
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Sends an IPv4 packet to all.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn broadcast(&self, packet: &[u8]) -> Result<(), Errno> {
        let to = link_address(self.index, libc::ETH_P_IP, BROADCAST_MAC)?;
        sendto(self.socket.as_raw_fd(), packet, &to, MsgFlags::empty()).map(drop)
    }
}

/// What came in at a packet socket; `None`: there is nothing now.
pub(crate) fn read<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = recv(socket.as_raw_fd(), buffer, MsgFlags::empty()).ok()?;
    buffer.get(..length)
}

/// Hears what goes to a group of hosts (packet(7), `PACKET_ADD_MEMBERSHIP`).
///
/// # Errors
/// The kernel's.
pub(crate) fn join(socket: &OwnedFd, index: u32, group: [u8; 6]) -> Result<(), Errno> {
    let [a, b, c, d, e, f] = group;
    let request = libc::packet_mreq {
        mr_ifindex: index.try_into().map_err(|_| Errno::ENODEV)?,
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: 6,
        mr_address: [a, b, c, d, e, f, 0, 0],
    };
    set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// A packet socket on one interface, for one protocol; without the packets that we send ourselves.
pub(crate) fn packets(name: &str, index: u32, protocol: i32, filter: Option<&Filter>) -> Result<OwnedFd> {
    let socket = match socket(AddressFamily::Packet, SockType::Datagram, FLAGS, None) {
        Ok(socket) => socket,
        Err(Errno::EPERM | Errno::EACCES) => {
            bail!("not permitted to open a packet socket on {name}: it takes root or CAP_NET_RAW")
        }
        Err(error) => return Err(error).with_context(|| format!("opening a packet socket on {name}")),
    };
    set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32)
        .with_context(|| format!("leaving out our own packets on {name}"))?;
    if let Some(filter) = filter {
        attach(&socket, filter).with_context(|| format!("filtering packets on {name}"))?;
    }
    // It has had no protocol yet, and so no packet that the filter did not see.
    let address = link_address(index, protocol, BROADCAST_MAC)?;
    bind(socket.as_raw_fd(), &address).with_context(|| format!("binding a packet socket to {name}"))?;
    Ok(socket)
}

fn attach(socket: &OwnedFd, filter: &Filter) -> Result<(), Errno> {
    let mut program: Vec<_> = filter
        .iter()
        .map(|(code, jt, jf, k)| libc::sock_filter { code: *code, jt: *jt, jf: *jf, k: *k })
        .collect();
    let len = program.len().try_into().map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn set<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> Result<(), Errno> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads as many bytes as the value has, and what a filter points to, which outlives the call; it keeps
    // none of the addresses.
    #[allow(unsafe_code, reason = "nix does not have these options")]
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const *value).cast(), length) };
    Errno::result(result).map(drop)
}

/// `struct sockaddr_ll` (packet(7)).
fn link_address(index: u32, protocol: i32, mac: Mac) -> Result<LinkAddr, Errno> {
    let [a, b, c, d, e, f] = mac.0;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: index.try_into().map_err(|_| Errno::ENODEV)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to a whole sockaddr_ll of that length, which is copied before the call is over.
    #[allow(unsafe_code, reason = "nix makes this address from the kernel's bytes only")]
    let made = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    made.ok_or(Errno::EINVAL)
}
