//! Asks on each interface as a Pi's bootloader does, and listens to who answers and to the switch. It takes CAP_NET_RAW.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::rivals::{self, Offer};
use super::spanning_tree;
use super::{Level, Line, ports};
use crate::dhcp::answer::{CLIENT_PORT, SERVER_PORT};
use crate::dhcp::datagram;
use crate::dhcp::interface::{self, Interface};
use crate::dhcp::message::{Kind, Message, Reply, Sender, code};
use crate::dhcp::sockets::{self, PacketSocket};

/// Questions, a second apart: fewer than what a server takes for a loop.
const QUESTIONS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// No Pi has this serial number: its own are made at random, and this says who asks.
const SERIAL: u32 = 0xd0c0_0000;
/// Groups that switches speak to: all bridges, and Cisco's own.
const BRIDGES: [[u8; 6]; 2] = [[0x01, 0x80, 0xc2, 0, 0, 0], [0x01, 0, 0x0c, 0xcc, 0xcc, 0xcd]];
/// Answers that are kept.
const MOST: usize = 64;

pub(super) fn check(names: &[String], wait: Duration) -> Vec<Line> {
    let all = match interface::all() {
        Ok(all) => all,
        Err(error) => {
            let found = format!("{error:#}");
            return vec![Line::new("dhcp", Level::Unknown, found, "run the doctor on the server's machine")];
        }
    };
    let ours: Vec<Ipv4Addr> =
        all.iter().flat_map(|one| one.addresses.iter().map(|(address, _)| *address)).collect();
    let mut lines = Vec::new();
    for name in names.iter().filter(|name| all.iter().all(|one| one.name != **name)) {
        let there: Vec<_> = all.iter().map(|one| one.name.as_str()).collect();
        let found = format!("there is no Ethernet interface {name}; there are: {}", there.join(", "));
        lines.push(Line::new("dhcp", Level::Problem, found, "correct --interface"));
    }
    let is_meant = |one: &&Interface| match names.is_empty() {
        true => !one.addresses.is_empty(),
        false => names.contains(&one.name),
    };
    let meant: Vec<_> = all.iter().filter(is_meant).collect();
    if meant.is_empty() && names.is_empty() {
        let found = "no Ethernet interface of this machine has an IPv4 address";
        lines.push(Line::new(
            "dhcp",
            Level::Problem,
            found,
            "give one an address, or name one with --interface",
        ));
    }
    let serves = ports::is_ours_on(SERVER_PORT);
    // At once: each takes the whole time.
    let heard: Vec<_> = std::thread::scope(|scope| {
        let listening: Vec<_> = meant.iter().map(|one| scope.spawn(|| listen(one, wait))).collect();
        listening.into_iter().map(|one| one.join().unwrap_or_else(|_| anyhow::bail!("it broke"))).collect()
    });
    for (one, heard) in meant.iter().zip(heard) {
        match heard {
            Ok(Heard { offers, delay }) => {
                lines.extend(rivals::judge(&one.name, &offers, &ours, serves));
                lines.push(spanning_tree::judge(&one.name, delay));
            }
            Err(error) => {
                let found = format!("{}: {error:#}", one.name);
                let advice = "run the doctor as root to ask as a Pi would";
                lines.push(Line::new("dhcp", Level::Unknown, found, advice));
            }
        }
    }
    lines
}

struct Heard {
    offers: Vec<Offer>,
    delay: Option<u16>,
}

fn listen(interface: &Interface, wait: Duration) -> Result<Heard> {
    let clients = PacketSocket::of_clients(&interface.name, interface.index)?;
    let bridges = sockets::packets(&interface.name, interface.index, libc::ETH_P_802_2, None)?;
    for group in BRIDGES {
        sockets::join(&bridges, interface.index, group)
            .with_context(|| format!("listening to switches on {}", interface.name))?;
    }
    let id = SERIAL ^ std::process::id();
    let question = datagram::write(
        SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT),
        SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT),
        &question(interface, id),
    )
    .context("writing a question")?;
    let mut heard = Heard { offers: Vec::new(), delay: None };
    let (start, mut asked) = (Instant::now(), 0);
    while start.elapsed() < wait {
        if asked < QUESTIONS && start.elapsed() >= PAUSE * asked {
            asked += 1;
            clients.broadcast(&question).with_context(|| format!("asking on {}", interface.name))?;
        }
        let next = if asked < QUESTIONS { PAUSE * asked } else { wait };
        pause([clients.socket(), &bridges], next.min(wait).saturating_sub(start.elapsed()))?;
        heard.read(&clients, &bridges, id);
    }
    Ok(heard)
}

fn pause(sockets: [&OwnedFd; 2], time: Duration) -> Result<()> {
    let timeout = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    let mut polled = sockets.map(|socket| PollFd::new(socket, PollFlags::IN));
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("waiting for answers"),
    }
}

impl Heard {
    fn read(&mut self, clients: &PacketSocket, bridges: &OwnedFd, id: u32) {
        let mut buffer = [0; 1500];
        while let Some(packet) = sockets::read(clients.socket(), &mut buffer) {
            let Some((from, _, payload)) = datagram::read(packet) else { continue };
            let Some(message) = Message::parse(payload) else { continue };
            if message.sender != Sender::Server || message.id != id {
                continue;
            }
            let next =
                payload.get(20..24).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).unwrap_or_default();
            let offer = Offer::of(&message, *from.ip(), Ipv4Addr::from(next));
            if let Some(offer) =
                offer.filter(|offer| !self.offers.contains(offer) && self.offers.len() < MOST)
            {
                self.offers.push(offer);
            }
        }
        while let Some(frame) = sockets::read(bridges, &mut buffer) {
            self.delay = spanning_tree::forward_delay(frame).or(self.delay);
        }
    }
}

/// As a Pi 4's bootloader asks (facts, section 2), by our own Ethernet address: a switch may let no other through.
fn question(interface: &Interface, id: u32) -> Vec<u8> {
    let [_, _, tail @ ..] = interface.mac.0;
    let machine = [&b"\0RPi4\x11\x31\xc0\0"[..], &tail, &SERIAL.to_le_bytes()].concat();
    let mut question = Reply::question(Kind::Discover, id, interface.mac)
        .with(code::PARAMETER_LIST, &[1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135])
        .with(code::CLIENT_ARCHITECTURE, &[0, 0])
        .with(code::CLIENT_INTERFACE, &[1, 2, 1])
        .with(code::CLIENT_MACHINE, &machine)
        .with(code::CLASS, b"PXEClient:Arch:00000:UNDI:002001");
    // The address that is offered is not ours, so that the kernel would drop what comes to it: the packet socket hears all.
    question.set_broadcast(true);
    question.done()
}
