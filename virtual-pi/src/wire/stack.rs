//! The IP stack of a Pi whose kernel does not run yet, on its end of the cable: IPv4 with UDP, TCP and DNS, by `smoltcp`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use init::mac::Mac;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, Medium, RxToken, TunTapInterface, TxToken};
use smoltcp::socket::{dns, tcp, udp};
use smoltcp::time::Instant as Time;
use smoltcp::wire::{
    DnsQueryType, EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint, Ipv4Cidr,
};

use super::tap::Tap;

/// How long to wait for a connection, an answer of a name server, or the next bytes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Room for what came and was not read yet, in bytes.
const TCP_BUFFER: usize = 256 << 10;
/// The first port of those that a client takes (RFC 6335, section 6).
const FIRST_PORT: u16 = 49152;

/// A card, and the stack on it once it has an address.
pub struct Stack {
    device: TunTapInterface,
    mac: Mac,
    interface: Interface,
    sockets: SocketSet<'static>,
    dns: Vec<Ipv4Addr>,
    next_port: u16,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("mac", &self.mac).field("dns", &self.dns).finish_non_exhaustive()
    }
}

impl Stack {
    /// Opens the card. It has no address.
    ///
    /// # Errors
    /// When the tap device cannot be opened: without root, or while QEMU has it.
    pub fn open(tap: &Tap, mac: Mac) -> io::Result<Self> {
        let mut device = TunTapInterface::new(tap.name(), Medium::Ethernet)?;
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        // Ports and sequence numbers of a card that is powered on twice should differ.
        config.random_seed = std::process::id().into();
        let interface = Interface::new(config, &mut device, Time::now());
        let next_port = FIRST_PORT + (std::process::id() & 0xfff) as u16;
        Ok(Self { device, mac, interface, sockets: SocketSet::new(Vec::new()), dns: Vec::new(), next_port })
    }

    /// The card's Ethernet address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Sends a frame.
    pub fn send_frame(&mut self, frame: &[u8]) {
        if let Some(token) = self.device.transmit(Time::now()) {
            token.consume(frame.len(), |room| room.copy_from_slice(frame));
        }
    }

    /// The next frame, if one comes before `end`.
    ///
    /// # Errors
    /// When waiting for the device fails.
    pub fn receive_frame(&mut self, end: Instant) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some((token, _)) = self.device.receive(Time::now()) {
                return Ok(Some(token.consume(<[u8]>::to_vec)));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            phy::wait(self.device.as_raw_fd(), Some(left.into()))?;
        }
    }

    /// Takes an address, a router for all that is farther away, and name servers.
    pub fn configure(&mut self, address: Ipv4Addr, prefix: u8, router: Option<Ipv4Addr>, dns: &[Ipv4Addr]) {
        self.interface.update_ip_addrs(|all| {
            all.clear();
            // There is room for one.
            let _full = all.push(IpCidr::Ipv4(Ipv4Cidr::new(address, prefix.min(32))));
        });
        self.interface.routes_mut().remove_default_ipv4_route();
        if let Some(router) = router {
            // There is room for one.
            let _full = self.interface.routes_mut().add_default_ipv4_route(router);
        }
        self.dns = dns.to_vec();
    }

    /// A socket with a port of its own.
    ///
    /// # Errors
    /// When there is no port left, which cannot be.
    pub fn udp(&mut self) -> io::Result<Udp<'_>> {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 32], vec![0; 64 << 10]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        let port = self.port();
        socket.bind(port).map_err(|error| io::Error::other(error.to_string()))?;
        let handle = self.sockets.add(socket);
        Ok(Udp { stack: self, handle, port })
    }

    /// A connection.
    ///
    /// # Errors
    /// When nobody answers, or the answer is no.
    pub fn connect(&mut self, to: SocketAddrV4) -> io::Result<Tcp<'_>> {
        let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        let port = self.port();
        socket
            .connect(self.interface.context(), endpoint(to), port)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let handle = self.sockets.add(socket);
        let mut connection = Tcp { stack: self, handle };
        let state = connection.wait(|socket| socket.may_send() || !socket.is_open())?;
        if state == tcp::State::Closed {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        Ok(connection)
    }

    /// Asks the name servers, one after the other, for a host's first address.
    ///
    /// # Errors
    /// When there is none, or no answer.
    pub fn lookup(&mut self, host: &str) -> io::Result<Ipv4Addr> {
        if let Ok(address) = host.parse() {
            return Ok(address);
        }
        let mut failure = io::Error::other("DHCP gave no name server");
        for server in self.dns.clone() {
            match self.ask(server, host) {
                Ok(address) => return Ok(address),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn ask(&mut self, server: Ipv4Addr, host: &str) -> io::Result<Ipv4Addr> {
        let mut socket = dns::Socket::new(&[server.into()], vec![]);
        let query = socket
            .start_query(self.interface.context(), host, DnsQueryType::A)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let handle = self.sockets.add(socket);
        let answer = self.poll_until(Instant::now() + PATIENCE, |sockets| {
            match sockets.get_mut::<dns::Socket<'_>>(handle).get_query_result(query) {
                Err(dns::GetQueryResultError::Pending) => None,
                result => Some(result),
            }
        });
        self.sockets.remove(handle);
        let addresses =
            answer?.ok_or(ErrorKind::TimedOut)?.map_err(|error| io::Error::other(error.to_string()))?;
        let IpAddress::Ipv4(address) =
            *addresses.first().ok_or_else(|| io::Error::other("the name has no address"))?;
        Ok(address)
    }

    fn port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        self.next_port
    }

    /// Lets frames come and go until `look` finds something or the time is over.
    fn poll_until<T>(
        &mut self,
        end: Instant,
        mut look: impl FnMut(&mut SocketSet<'static>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        loop {
            self.interface.poll(Time::now(), &mut self.device, &mut self.sockets);
            if let Some(found) = look(&mut self.sockets) {
                return Ok(Some(found));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let due = self.interface.poll_delay(Time::now(), &self.sockets);
            let left = smoltcp::time::Duration::from(left);
            phy::wait(self.device.as_raw_fd(), Some(due.map_or(left, |due| due.min(left))))?;
        }
    }
}

fn endpoint(to: SocketAddrV4) -> IpEndpoint {
    IpEndpoint::new((*to.ip()).into(), to.port())
}

/// A UDP socket.
#[derive(Debug)]
pub struct Udp<'a> {
    stack: &'a mut Stack,
    handle: SocketHandle,
    port: u16,
}

impl Udp<'_> {
    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// When the last ones are still waiting for their receiver's Ethernet address.
    pub fn send(&mut self, to: SocketAddrV4, bytes: &[u8]) -> io::Result<()> {
        let socket = self.stack.sockets.get_mut::<udp::Socket<'_>>(self.handle);
        socket.send_slice(bytes, endpoint(to)).map_err(|error| io::Error::other(error.to_string()))
    }

    /// The next datagram, if one comes before `end`.
    ///
    /// # Errors
    /// When waiting for the device fails.
    pub fn receive(&mut self, end: Instant) -> io::Result<Option<(SocketAddrV4, Vec<u8>)>> {
        let handle = self.handle;
        self.stack.poll_until(end, |sockets| {
            let (bytes, from) = sockets.get_mut::<udp::Socket<'_>>(handle).recv().ok()?;
            let IpAddress::Ipv4(address) = from.endpoint.addr;
            Some((SocketAddrV4::new(address, from.endpoint.port), bytes.to_vec()))
        })
    }
}

impl Drop for Udp<'_> {
    fn drop(&mut self) {
        // What was sent last goes out: nothing else would make it.
        self.stack.interface.poll(Time::now(), &mut self.stack.device, &mut self.stack.sockets);
        self.stack.sockets.remove(self.handle);
    }
}

/// A TCP connection. Reads and writes give up after 30 s without anything new.
#[derive(Debug)]
pub struct Tcp<'a> {
    stack: &'a mut Stack,
    handle: SocketHandle,
}

impl Tcp<'_> {
    /// Waits until the connection is so; gives its state.
    fn wait(&mut self, mut is_so: impl FnMut(&mut tcp::Socket<'static>) -> bool) -> io::Result<tcp::State> {
        let handle = self.handle;
        let found = self.stack.poll_until(Instant::now() + PATIENCE, |sockets| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
            is_so(socket).then(|| socket.state())
        })?;
        found.ok_or_else(|| ErrorKind::TimedOut.into())
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.stack.sockets.get_mut(self.handle)
    }
}

impl Read for Tcp<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(|socket| socket.can_recv() || !socket.may_recv())?;
        match self.socket().recv_slice(buffer) {
            Ok(count) => Ok(count),
            Err(tcp::RecvError::Finished) => Ok(0),
            Err(tcp::RecvError::InvalidState) => Err(ErrorKind::ConnectionReset.into()),
        }
    }
}

impl Write for Tcp<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(|socket| socket.can_send() || !socket.may_send())?;
        self.socket().send_slice(bytes).map_err(|_| ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wait(|socket| socket.send_queue() == 0 || !socket.is_open()).map(drop)
    }
}

impl Drop for Tcp<'_> {
    fn drop(&mut self) {
        self.socket().abort();
        self.stack.interface.poll(Time::now(), &mut self.stack.device, &mut self.stack.sockets);
        self.stack.sockets.remove(self.handle);
    }
}
