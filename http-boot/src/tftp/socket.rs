//! UDP sockets: one that is asked, which tells at which of this machine's addresses, and the ones that answer from there.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmsg, sendmmsg, sendmsg,
    setsockopt, sockopt,
};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::options::largest_block;
use super::packet::{LONGEST, Packet};
use super::session::Heard;

/// As much of an ACK or ERROR is looked at, in bytes.
const LONGEST_ANSWER: usize = 128;
/// So many packets that say nothing are read in one go.
const MOST_UNREAD: usize = 64;
/// More packets than this are not sent by one system call.
const AT_ONCE: usize = 64;

/// A socket that clients ask.
#[derive(Debug)]
pub struct Listener {
    socket: UdpSocket,
    is_ipv6: bool,
}

/// Where a packet came from, and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address of this machine that it was sent to.
    pub local: IpAddr,
    /// The number of the interface where it came in.
    interface: u32,
    /// It was sent to more than this machine.
    pub to_many: bool,
}

impl Listener {
    /// Listens. Belongs to the runtime that it is called in.
    ///
    /// # Errors
    /// As bind(2); when the kernel does not tell destinations.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        // A site that comes back from a power cut asks all at once. The kernel gives what it may.
        let _less_is_fine = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1024 * 1024);
        Ok(Self { socket: UdpSocket::from_std(socket)?, is_ipv6: address.is_ipv6() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next packet, of which the buffer takes the first bytes.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub async fn receive(&self, buffer: &mut [u8; LONGEST]) -> io::Result<(usize, Route)> {
        self.socket.async_io(Interest::READABLE, || self.receive_now(buffer)).await
    }

    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<(usize, Route)> {
        let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
        let mut slices = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), MsgFlags::empty())?;
        let peer = message.address.as_ref().and_then(to_address).ok_or(io::ErrorKind::InvalidData)?;
        let mut route = Route { peer, local: peer.ip(), interface: 0, to_many: true };
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    let asked = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                    route.local = asked.into();
                    route.interface = u32::try_from(info.ipi_ifindex).unwrap_or(0);
                    route.to_many = info.ipi_addr.s_addr != info.ipi_spec_dst.s_addr;
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    let asked = Ipv6Addr::from(info.ipi6_addr.s6_addr).to_canonical();
                    route.local = asked;
                    route.interface = info.ipi6_ifindex;
                    route.to_many = asked.is_multicast() || asked == IpAddr::V4(Ipv4Addr::BROADCAST);
                }
                _ => {}
            }
        }
        Ok((message.bytes, route))
    }

    /// Sends one packet on the way back.
    ///
    /// # Errors
    /// As sendmsg(2); at once, when there is no room.
    pub fn send(&self, packet: &[u8], route: &Route) -> io::Result<()> {
        self.socket.try_io(Interest::WRITABLE, || {
            let (fd, packet) = (self.socket.as_raw_fd(), [IoSlice::new(packet)]);
            // Where an address says nothing of the interface, the routes may.
            let interface = if is_link_local(route.local) { route.interface } else { 0 };
            if self.is_ipv6 {
                let local = mapped(route.local);
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: local.octets() },
                    ipi6_ifindex: interface,
                };
                let port = route.peer.port();
                let peer = SocketAddr::V6(match route.peer {
                    SocketAddr::V6(peer) => peer,
                    SocketAddr::V4(peer) => SocketAddrV6::new(peer.ip().to_ipv6_mapped(), port, 0, 0),
                });
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                let to = SockaddrStorage::from(peer);
                sendmsg(fd, &packet, &control, MsgFlags::empty(), Some(&to))?;
            } else {
                let IpAddr::V4(local) = route.local else { return Err(io::ErrorKind::InvalidInput.into()) };
                let local = libc::in_addr { s_addr: u32::from(local).to_be() };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: local, ipi_addr: local };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                let to = SockaddrStorage::from(route.peer);
                sendmsg(fd, &packet, &control, MsgFlags::empty(), Some(&to))?;
            }
            Ok(())
        })
    }
}

fn to_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let address = match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::new(v4.ip().into(), v4.port()),
        (_, Some(v6)) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
        _ => return None,
    };
    (address.port() != 0).then_some(address)
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// What a transfer sends on.
#[derive(Debug)]
pub enum Line {
    /// A socket of its own, with a port of its own (RFC 1350, section 4), connected to the client: the kernel tells packets
    /// of others apart, and that the client's port is closed.
    Own(UdpSocket),
    /// The socket that was asked. What the client says comes from there.
    Shared(Arc<Listener>, Route),
}

impl Line {
    /// A socket for one transfer. Belongs to the runtime that it is called in.
    ///
    /// # Errors
    /// As bind(2) and connect(2).
    pub fn own(route: &Route) -> io::Result<Self> {
        let socket = answering(route)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Own(UdpSocket::from_std(socket)?))
    }

    /// How large a block may be on the way to the client ([`largest_block`]).
    pub fn largest_block(&self) -> u16 {
        match self {
            Self::Own(socket) => of_path(socket.as_fd(), socket.peer_addr().is_ok_and(|peer| peer.is_ipv6())),
            // Only a connected socket knows its path.
            Self::Shared(_, route) => match answering(route) {
                Ok(socket) => of_path(socket.as_fd(), route.peer.is_ipv6()),
                Err(_) => largest_block(0, false),
            },
        }
    }

    /// Sends packets until there is no room for more; says how many.
    ///
    /// # Errors
    /// As sendmsg(2), if none was sent. `WouldBlock`: there is no room for any; wait for [`Line::writable`].
    pub fn send(&self, packets: &[[IoSlice<'_>; 1]]) -> io::Result<usize> {
        match (self, packets) {
            (_, []) => Ok(0),
            (Self::Own(socket), [[packet]]) => socket.try_send(packet).map(|_| 1),
            (Self::Own(socket), packets) => {
                socket.try_io(Interest::WRITABLE, || send_many(socket.as_raw_fd(), packets))
            }
            (Self::Shared(listener, route), packets) => {
                let mut sent = 0;
                for [packet] in packets {
                    match listener.send(packet, route) {
                        Ok(()) => sent += 1,
                        Err(_) if sent > 0 => break,
                        Err(error) => return Err(error),
                    }
                }
                Ok(sent)
            }
        }
    }

    /// Waits until there may be room again.
    pub async fn writable(&self) {
        let socket = match self {
            Self::Own(socket) => socket,
            Self::Shared(listener, _) => &listener.socket,
        };
        let _shows_at_the_next_send = socket.writable().await;
    }

    /// What the client says next. On a shared socket, never.
    ///
    /// What is behind it in the queue makes no event of its own: who goes on from here without an answer for the client has to
    /// read on by [`Line::hear_now`] until there is one, or nothing left. A client that waits for each block says one thing at a
    /// time, so this saves a system call for each, which would find nothing.
    pub async fn hear(&self) -> Heard {
        let Self::Own(socket) = self else { return std::future::pending().await };
        loop {
            // This task alone receives here, so the cheaper way to wait is enough.
            let _shows_at_once = poll_fn(|context| socket.poll_recv_ready(context)).await;
            // Forgets this event, before reading: what comes later makes another one.
            let _forgotten =
                socket.try_io(Interest::READABLE, || Err::<(), io::Error>(io::ErrorKind::WouldBlock.into()));
            if let Some(heard) = self.hear_now() {
                return heard;
            }
        }
    }

    /// What the client has said already.
    pub fn hear_now(&self) -> Option<Heard> {
        let Self::Own(socket) = self else { return None };
        for _ in 0..MOST_UNREAD {
            let mut buffer = [0; LONGEST_ANSWER];
            match rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => match Packet::parse(buffer.get(..length).unwrap_or_default()) {
                    Ok(Packet::Ack(number)) => return Some(Heard::Ack(number)),
                    Ok(Packet::Error { code, text }) => return Some(Heard::Error(code, text)),
                    _ => {}
                },
                Err(Errno::CONNREFUSED) => return Some(Heard::Unreachable),
                Err(_) => return None,
            }
        }
        None
    }
}

/// Bound to the address that was asked, connected to who asked.
fn answering(route: &Route) -> io::Result<std::net::UdpSocket> {
    let local = match route.local {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SocketAddrV6::new(v6, 0, 0, route.interface).into(),
        other => SocketAddr::new(other, 0),
    };
    let socket = std::net::UdpSocket::bind(local)?;
    socket.connect(route.peer)?;
    Ok(socket)
}

fn of_path(socket: std::os::fd::BorrowedFd<'_>, ipv6: bool) -> u16 {
    let mtu =
        if ipv6 { rustix::net::sockopt::ipv6_mtu(socket) } else { rustix::net::sockopt::ip_mtu(socket) };
    largest_block(mtu.unwrap_or(0), ipv6)
}

thread_local! {
    static HEADERS: RefCell<MultiHeaders<SockaddrStorage>> = RefCell::new(MultiHeaders::preallocate(AT_ONCE, None));
}

/// Many packets by one system call, on a connected socket.
fn send_many(fd: std::os::fd::RawFd, packets: &[[IoSlice<'_>; 1]]) -> io::Result<usize> {
    HEADERS.with_borrow_mut(|headers| {
        let packets = packets.get(..AT_ONCE).unwrap_or(packets);
        let to_peer = vec![None; packets.len()];
        let none: [ControlMessage<'_>; 0] = [];
        let sent = sendmmsg(fd, headers, packets, to_peer, none, MsgFlags::empty())?;
        Ok(sent.count())
    })
}

/// What a failed send says of the client: `None` when the packet may just be lost.
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
