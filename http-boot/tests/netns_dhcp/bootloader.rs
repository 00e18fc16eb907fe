//! A Pi's bootloader as far as DHCP goes: what the facts say it sends, takes and refuses.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use http_boot::dhcp::message::{Kind, Message, Reply, Sender, code};
use init::mac::Mac;

use super::wire::{Port, within};

/// A Pi that was switched on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pi {
    pub(crate) mac: Mac,
    pub(crate) serial: u32,
    /// `DHCP_REQ_TIMEOUT`: the EEPROM's least, since nothing here is far away.
    pub(crate) request_timeout: Duration,
    /// `DHCP_TIMEOUT`.
    pub(crate) timeout: Duration,
    /// Whether the text in option 43 counts, or the address in option 66 alone: captures have both.
    pub(crate) reads_option_43: bool,
}

/// What it goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Booted {
    pub(crate) address: Ipv4Addr,
    pub(crate) tftp: Ipv4Addr,
    pub(crate) router: Option<Ipv4Addr>,
    pub(crate) mask: Option<Ipv4Addr>,
}

const ALL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);

impl Pi {
    /// The Pi with this number: each has its own addresses.
    pub(crate) fn number(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        Pi {
            mac: Mac([0xdc, 0xa6, 0x32, 0, high, low]),
            serial: 0x5b15_0000 + u32::from(number),
            request_timeout: Duration::from_millis(500),
            timeout: Duration::from_secs(45),
            reads_option_43: true,
        }
    }

    pub(crate) fn question(&self, kind: Kind, id: u32) -> Reply {
        let [_, _, tail @ ..] = self.mac.0;
        let machine = [&b"\0RPi4\x11\x31\xa0\0"[..], &tail, &self.serial.to_le_bytes()].concat();
        let wanted = [1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135];
        let question = Reply::question(kind, id, self.mac);
        let question =
            if kind == Kind::Discover { question.with(code::PARAMETER_LIST, &wanted) } else { question };
        question
            .with(code::CLIENT_ARCHITECTURE, &[0, 0])
            .with(code::CLIENT_INTERFACE, &[1, 2, 1])
            .with(code::CLIENT_MACHINE, &machine)
            .with(code::CLASS, b"PXEClient:Arch:00000:UNDI:002001")
    }

    /// Boots on a host's `eth0`. `None`: `NETBOOT init failed`.
    pub(crate) fn boot(self, namespace: &str) -> Option<Booted> {
        within(namespace, move || self.boot_on(&Port::open("eth0"))).join().unwrap()
    }

    /// Boots on a port.
    pub(crate) fn boot_on(&self, port: &Port) -> Option<Booted> {
        let (end, mut id) = (Instant::now() + self.timeout, self.serial);
        while Instant::now() < end {
            id = id.wrapping_add(0x1000_0000);
            self.send(port, self.question(Kind::Discover, id));
            let mut offers = Offers::default();
            let Some(found) = self.collect(port, id, |answer, from| offers.add(self, answer, from)) else {
                continue;
            };
            let request = self
                .question(Kind::Request, id)
                .with(code::REQUESTED_ADDRESS, &found.0.address.octets())
                .with(code::SERVER, &found.1.octets());
            self.send(port, request);
            let ack = |answer: &Message, _| {
                (answer.kind == Kind::Ack && answer.given == found.0.address).then_some(())
            };
            if self.collect(port, id, ack).is_some() {
                return Some(found.0);
            }
        }
        None
    }

    fn send(&self, port: &Port, question: Reply) {
        port.broadcast(self.mac, NOBODY, ALL, &question.done());
    }

    /// Reads answers until one makes it whole, or the time for one question is over.
    fn collect<T>(
        &self,
        port: &Port,
        id: u32,
        mut add: impl FnMut(&Message, (Ipv4Addr, Ipv4Addr)) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + self.request_timeout;
        while Instant::now() < end {
            while let Some((from, to, payload)) = port.datagram(self.mac) {
                let Some(answer) = Message::parse(&payload).filter(|_| to.port() == 68) else { continue };
                let ours = answer.sender == Sender::Server && answer.id == id && answer.mac == self.mac;
                let next_server = Ipv4Addr::from(<[u8; 4]>::try_from(&payload[20..24]).unwrap());
                if ours && let Some(whole) = add(&answer, (*from.ip(), next_server)) {
                    return Some(whole);
                }
            }
            port.wait(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
        }
        None
    }
}

/// Offers that came: of an address, and of boot files; maybe of two servers.
#[derive(Default)]
struct Offers {
    address: Option<(Message, Ipv4Addr)>,
    tftp: Option<Ipv4Addr>,
}

impl Offers {
    fn add(
        &mut self,
        pi: &Pi,
        offer: &Message,
        (from, next_server): (Ipv4Addr, Ipv4Addr),
    ) -> Option<(Booted, Ipv4Addr)> {
        if offer.kind != Kind::Offer {
            return None;
        }
        let text = b"Raspberry Pi Boot";
        let said = |value: &[u8]| value.windows(text.len()).any(|part| part == text);
        let by_43 = offer.option(code::VENDOR_OPTIONS).is_some_and(said) && pi.reads_option_43;
        let by_66 =
            offer.option(code::TFTP_SERVER).and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        if by_43 || by_66.is_some() {
            // Option 66 beats siaddr, which beats where it came from.
            let siaddr = Some(next_server).filter(|address| !address.is_unspecified());
            self.tftp = by_66.or(siaddr).or(Some(from));
        }
        if let Some(server) = offer.address(code::SERVER).filter(|_| !offer.given.is_unspecified()) {
            self.address = Some((offer.clone(), server));
        }
        let (offer, server) = self.address.as_ref()?;
        let (router, mask) = (offer.address(code::ROUTER), offer.address(code::MASK));
        Some((Booted { address: offer.given, tftp: self.tftp?, router, mask }, *server))
    }
}
