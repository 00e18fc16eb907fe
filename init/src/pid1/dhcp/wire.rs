//! The way to the servers: [`Wire`], which a test can stand in for, and the real one.
//!
//! The real one is an ordinary UDP socket that is bound to the interface. Servers are asked to answer by broadcast while
//! there is no address (RFC 2131, section 4.1), so that no packet socket and no IP header of our own are needed.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};
use tokio::net::UdpSocket;

use super::arp;

/// What a client needs of a network.
pub trait Wire: Send + Sync {
    /// Sends a packet to a server, or to all of them (255.255.255.255).
    fn send(&self, packet: &[u8], to: Ipv4Addr) -> impl Future<Output = Result<()>> + Send;

    /// The next packet that comes; may be dropped half way.
    fn receive(&self, buffer: &mut [u8]) -> impl Future<Output = Result<usize>> + Send;

    /// Whether another host has this address. Takes a fraction of a second.
    fn is_taken(&self, address: Ipv4Addr) -> impl Future<Output = Result<bool>> + Send;
}

/// An interface of this machine.
pub struct UdpWire {
    socket: UdpSocket,
    index: u32,
    mac: [u8; 6],
}

impl UdpWire {
    /// Opens the client's port on an interface.
    ///
    /// # Errors
    /// When the interface is gone, or the kernel refuses.
    pub fn open(device: &str, index: u32, mac: [u8; 6]) -> Result<Self> {
        let socket = open(device).with_context(|| format!("opening UDP port 68 on {device}"))?;
        Ok(UdpWire { socket, index, mac })
    }
}

fn open(device: &str) -> Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    socket::setsockopt(&fd, sockopt::BindToDevice, &device.into())?;
    socket::setsockopt(&fd, sockopt::Broadcast, &true)?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    socket::bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)))?;
    Ok(UdpSocket::from_std(fd.into())?)
}

impl Wire for UdpWire {
    async fn send(&self, packet: &[u8], to: Ipv4Addr) -> Result<()> {
        let sent = self.socket.send_to(packet, (to, 67)).await;
        sent.map(drop).with_context(|| format!("sending to {to} port 67"))
    }

    async fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        self.socket.recv(buffer).await.context("receiving on port 68")
    }

    async fn is_taken(&self, address: Ipv4Addr) -> Result<bool> {
        arp::is_taken(self.index, self.mac, address).await
    }
}
