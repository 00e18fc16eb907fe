//! The bootloader's DHCP client (facts, section 2): who offers an address, and who has boot files, may be two servers.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder};

use super::eeprom::Eeprom;
use super::log::Log;
use super::refusal::{Kind, Refusal};
use crate::board::Pi;
use crate::wire::{Stack, dhcp_frame};

/// What it asks for: option 55, byte for byte.
const WANTED: [u8; 14] = [1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135];
/// It says of itself that it is an x86 PC: option 60.
const VENDOR_CLASS: &[u8; 32] = b"PXEClient:Arch:00000:UNDI:002001";

/// What DHCP gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The Pi's address.
    pub address: Ipv4Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The way out.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Where the boot files are, if somebody said so.
    pub tftp: Option<Ipv4Addr>,
}

/// What is asked of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// An address, as boot mode HTTP.
    Address,
    /// An address and a server with boot files, as boot mode NETWORK.
    BootFiles,
}

/// Asks for an address, within `DHCP_TIMEOUT`.
///
/// # Errors
/// With [`Kind::NoAddress`] when there was no offer that would do.
pub fn ask(pi: &Pi, eeprom: &Eeprom, stack: &mut Stack, want: Want, log: &mut Log) -> Result<Lease, Refusal> {
    let end = Instant::now() + eeprom.dhcp_timeout;
    let mut client = Client { pi, eeprom, stack, want, log, transaction: first_transaction(pi), end };
    while Instant::now() < end {
        client.transaction = client.transaction.wrapping_add(1);
        let next = (Instant::now() + eeprom.dhcp_req_timeout).min(end);
        if let Some(lease) = client.exchange()? {
            return Ok(lease);
        }
        // After a NAK, too: nobody is asked more often than that.
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    client.log.line("NETBOOT init failed");
    let why = match want {
        Want::Address => "no DHCP server offered an address",
        Want::BootFiles => {
            "no DHCP server offered an address and a server with boot files (option 43 with PXE_OPTION43's text, or option 66)"
        }
    };
    let seconds = eeprom.dhcp_timeout.as_secs();
    Err(Refusal::new(Kind::NoAddress, format!("{why} within {seconds} s (DHCP_TIMEOUT)")))
}

/// Powered on again, it shall not take late answers to the last time for new ones.
fn first_transaction(pi: &Pi) -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    now.subsec_nanos() ^ (pi.serial.0 & 0xffff_ffff) as u32
}

struct Client<'a> {
    pi: &'a Pi,
    eeprom: &'a Eeprom,
    stack: &'a mut Stack,
    want: Want,
    log: &'a mut Log,
    transaction: u32,
    end: Instant,
}

/// The offers of one DISCOVER: the first with an address, and the first who has boot files.
#[derive(Default)]
struct Offers {
    address: Option<Message>,
    boot: Option<Ipv4Addr>,
}

impl Client<'_> {
    /// DISCOVER, OFFERs, REQUEST, ACK. Nothing, where one of them did not come in time or was no.
    fn exchange(&mut self) -> Result<Option<Lease>, Refusal> {
        let Some((offer, boot)) = self.offers()? else { return Ok(None) };
        let Some(server) = server_of(&offer) else { return Ok(None) };
        let request = self.message(&[
            &[53, 1, 3],
            &[&[50, 4][..], &offer.yiaddr().octets()].concat(),
            &[&[54, 4][..], &server.octets()].concat(),
            &self.identity(),
            &vendor_class(),
        ]);
        self.send(&request);
        let until = (Instant::now() + self.eeprom.dhcp_req_timeout).min(self.end);
        while let Some((_, answer)) = self.next_answer(until)? {
            match answer.opts().msg_type() {
                Some(MessageType::Ack) if answer.yiaddr() == offer.yiaddr() => {
                    return Ok(Some(lease(&offer, &answer, boot)));
                }
                Some(MessageType::Nak) => {
                    self.log.note(format_args!("{server} said no (NAK)"));
                    return Ok(None);
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The offers that together say enough, if they come in time.
    fn offers(&mut self) -> Result<Option<(Message, Option<Ipv4Addr>)>, Refusal> {
        let discover = self.message(&[
            &[53, 1, 1],
            &[&[55, 14][..], &WANTED].concat(),
            &[93, 2, 0, 0],
            &[94, 3, 1, 2, 1],
            &self.identity(),
            &vendor_class(),
        ]);
        self.send(&discover);
        let mut offers = Offers::default();
        let until = (Instant::now() + self.eeprom.dhcp_req_timeout).min(self.end);
        while let Some((from, offer)) = self.next_answer(until)? {
            if offer.opts().msg_type() != Some(MessageType::Offer) {
                continue;
            }
            self.show(from, &offer);
            offers.boot = offers.boot.or_else(|| self.boot_server(from, &offer));
            if !offer.yiaddr().is_unspecified() && offers.address.is_none() {
                offers.address = Some(offer);
            }
            let is_enough = self.want == Want::Address || offers.boot.is_some();
            if let Some(offer) = offers.address.take_if(|_| is_enough) {
                return Ok(Some((offer, offers.boot)));
            }
        }
        Ok(None)
    }

    fn show(&mut self, from: Ipv4Addr, offer: &Message) {
        self.log.line(format_args!("DHCP src: {from}"));
        self.log.line(format_args!("YI_ADDR {}", offer.yiaddr()));
        self.log.line(format_args!("SI_ADDR {}", offer.siaddr()));
        if let Some(name) = tftp_name(offer) {
            self.log.line(format_args!("[66]: {}", String::from_utf8_lossy(name)));
        }
    }

    /// Where an offer says that boot files are: option 66 before siaddr before its sender. Only option 43 with the text, or a
    /// dotted quad in 66, makes it such an offer.
    fn boot_server(&self, from: Ipv4Addr, offer: &Message) -> Option<Ipv4Addr> {
        let named = tftp_name(offer)
            .and_then(|name| std::str::from_utf8(name).ok()?.trim_end_matches('\0').parse().ok());
        let text = self.eeprom.pxe_option43.as_bytes();
        let is_marked = match offer.opts().get(OptionCode::VendorExtensions) {
            Some(DhcpOption::VendorExtensions(bytes)) => {
                !text.is_empty() && bytes.windows(text.len()).any(|part| part == text)
            }
            _ => false,
        };
        let siaddr = Some(offer.siaddr()).filter(|address| !address.is_unspecified());
        named.or_else(|| is_marked.then(|| siaddr.unwrap_or(from)))
    }

    /// The next answer to this transaction, and who sent it.
    fn next_answer(&mut self, until: Instant) -> Result<Option<(Ipv4Addr, Message)>, Refusal> {
        let mac = self.pi.mac;
        loop {
            let frame = self.stack.receive_frame(until).map_err(|error| {
                Refusal::new(Kind::NoAddress, format!("waiting for DHCP's answers: {error}"))
            })?;
            let Some(frame) = frame else { return Ok(None) };
            let Some((from, bytes)) = dhcp_frame::read(mac, &frame) else { continue };
            let Ok(message) = Message::decode(&mut Decoder::new(bytes)) else { continue };
            if message.xid() == self.transaction && message.chaddr() == mac.0 {
                return Ok(Some((from, message)));
            }
        }
    }

    fn send(&mut self, message: &[u8]) {
        let frame = dhcp_frame::write(self.pi.mac, message);
        self.stack.send_frame(&frame);
    }

    /// A message with options in this order, each with its code and length. `flags` is 0: answers come to the new address.
    fn message(&self, options: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; 240];
        // op, htype, hlen, hops; RFC 2131 section 2.
        put(&mut bytes, 0, &[1, 1, 6, 0]);
        put(&mut bytes, 4, &self.transaction.to_be_bytes());
        put(&mut bytes, 28, &self.pi.mac.0);
        put(&mut bytes, 236, &[99, 130, 83, 99]);
        bytes.extend(options.iter().copied().flatten());
        bytes.push(255);
        // RFC 1542, section 2.1: some relays drop shorter ones.
        bytes.resize(bytes.len().max(300), 0);
        bytes
    }

    /// Option 97: which Pi asks.
    fn identity(&self) -> Vec<u8> {
        let serial = ((self.pi.serial.0 & 0xffff_ffff) as u32).to_le_bytes();
        let [_, _, mac @ ..] = self.pi.mac.0;
        let words = match self.eeprom.dhcp_option97 {
            0 => [serial; 4],
            prefix => [prefix.to_le_bytes(), self.pi.revision().to_le_bytes(), mac, serial],
        };
        [&[97, 17, 0][..], words.as_flattened()].concat()
    }
}

fn vendor_class() -> Vec<u8> {
    [&[60, 32][..], VENDOR_CLASS].concat()
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

fn tftp_name(offer: &Message) -> Option<&[u8]> {
    match offer.opts().get(OptionCode::TFTPServerName) {
        Some(DhcpOption::TFTPServerName(name)) => Some(name),
        _ => None,
    }
}

fn server_of(offer: &Message) -> Option<Ipv4Addr> {
    match offer.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(address)) => Some(*address),
        _ => None,
    }
}

/// The lease of an ACK. The REQUEST has no option 55, so that the offer may have said more.
fn lease(offer: &Message, ack: &Message, tftp: Option<Ipv4Addr>) -> Lease {
    let option = |code| ack.opts().get(code).or_else(|| offer.opts().get(code));
    let prefix = match option(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => mask.to_bits().leading_ones() as u8,
        _ => 24,
    };
    let router = match option(OptionCode::Router) {
        Some(DhcpOption::Router(routers)) => routers.first().copied(),
        _ => None,
    };
    let dns = match option(OptionCode::DomainNameServer) {
        Some(DhcpOption::DomainNameServer(servers)) => servers.clone(),
        _ => Vec::new(),
    };
    Lease { address: ack.yiaddr(), prefix, router, dns, tftp }
}
