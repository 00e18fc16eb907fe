//! The way to the servers of a link: a UDP socket that is bound to the interface.

use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn6, sockopt};
use tokio::net::UdpSocket;

/// All_DHCP_Relay_Agents_and_Servers, the clients' port and the servers' (RFC 8415 sections 7.1 and 7.2).
const EVERYBODY: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;

/// What a client speaks over; tests have one in memory.
pub trait Wire: Send + Sync + 'static {
    /// Sends a message to all servers of the link.
    fn send(&self, message: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
    /// The next message that comes; its length in `buffer`.
    fn receive(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
}

/// A UDP socket on one interface.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    index: u32,
}

impl Udp {
    /// Opens the clients' port on the interface `device` with the number `index`.
    ///
    /// # Errors
    /// When the kernel has no IPv6, or the port is taken.
    pub fn open(device: &str, index: u32) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let open = || -> Result<UdpSocket> {
            let fd = socket::socket(AddressFamily::Inet6, SockType::Datagram, flags, None)?;
            socket::setsockopt(&fd, sockopt::BindToDevice, &device.into())?;
            socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
            socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
            let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0);
            socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(any))?;
            Ok(UdpSocket::from_std(fd.into())?)
        };
        let socket = open().with_context(|| format!("opening UDP port {CLIENT_PORT} on {device}"))?;
        Ok(Udp { socket, index })
    }
}

impl Wire for Udp {
    async fn send(&self, message: &[u8]) -> io::Result<()> {
        self.socket.send_to(message, SocketAddrV6::new(EVERYBODY, SERVER_PORT, 0, self.index)).await.map(drop)
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer).await
    }
}
