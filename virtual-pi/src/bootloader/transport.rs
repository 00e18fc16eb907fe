//! How the bootloader reaches a web server: over a cable of its own, or over this machine's network.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::wire::Stack;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the next bytes.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection.
pub trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A network. IPv4 alone: the boot modes speak IPv6 only with `USE_IPV6`, which is not imitated.
pub trait Transport {
    /// A host's address.
    ///
    /// # Errors
    /// When it has none.
    fn resolve(&mut self, host: &str) -> io::Result<Ipv4Addr>;

    /// A TCP connection, whose reads and writes end in an error after 30 s of silence.
    ///
    /// # Errors
    /// When there is none within that time.
    fn connect(&mut self, to: SocketAddrV4) -> io::Result<Box<dyn Stream + '_>>;
}

/// This machine's own network, whatever it is.
#[derive(Clone, Copy, Debug)]
pub struct HostNetwork;

impl Transport for HostNetwork {
    fn resolve(&mut self, host: &str) -> io::Result<Ipv4Addr> {
        let mut addresses = (host, 0).to_socket_addrs()?;
        let found = addresses.find_map(|address| match address {
            SocketAddr::V4(address) => Some(*address.ip()),
            SocketAddr::V6(_) => None,
        });
        found.ok_or_else(|| io::Error::other("it has no IPv4 address"))
    }

    fn connect(&mut self, to: SocketAddrV4) -> io::Result<Box<dyn Stream + '_>> {
        let stream = TcpStream::connect_timeout(&to.into(), CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_write_timeout(Some(READ_TIMEOUT))?;
        Ok(Box::new(stream))
    }
}

impl Transport for Stack {
    fn resolve(&mut self, host: &str) -> io::Result<Ipv4Addr> {
        self.lookup(host)
    }

    fn connect(&mut self, to: SocketAddrV4) -> io::Result<Box<dyn Stream + '_>> {
        Ok(Box::new(Self::connect(self, to)?))
    }
}
