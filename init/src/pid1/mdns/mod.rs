//! Multicast DNS (RFC 6762, RFC 6763): the Pi is `NAME.local` on every link that it is on, and says that SSH is there. So a
//! person finds it who knows neither its address nor the DHCP server.
//!
//! [`responder`] owns the order: probe, announce, answer, give way; [`presence`] is its part on one interface. They stand on [`records`] (what we have to say) and
//! [`message`] (how it is written). This file owns the thread and its sockets ([`socket`]).

pub mod message;
mod presence;
pub mod records;
pub mod responder;
mod socket;

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use signal_hook::consts::SIGTERM;

use responder::{Outgoing, Responder};
use socket::Socket;

/// RFC 6762 section 3.
const MDNS_PORT: u16 = 5353;
/// Section 17: no packet is larger.
const PACKET_LIMIT: usize = 9000;
/// So many packets of a socket are taken before the others have their turn.
const TURN: usize = 32;
/// A machine without a better name.
const DEFAULT_LABEL: &str = "lifeboat";

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An interface that has addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub device: String,
    /// Its addresses: what is announced there.
    pub addresses: Vec<IpAddr>,
}

/// What is to be announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The host's name, in one label.
    pub label: String,
    /// Where.
    pub links: Vec<Link>,
}

/// The thread, as the network child has it.
pub struct Handle {
    wanted: Sender<Wanted>,
    wake: OwnedFd,
    last: Option<Wanted>,
}

impl Handle {
    /// Tells the thread what is to be announced from now on.
    pub fn update(&mut self, wanted: Wanted) {
        if self.last.as_ref() == Some(&wanted) {
            return;
        }
        // Where the thread has ended, it has said why.
        let _ = self.wanted.send(wanted.clone());
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        self.last = Some(wanted);
    }
}

/// Starts the thread. `tell` is called with each name that it is found by; `None`: by none, for now. On SIGTERM it takes
/// back what it announced, and ends the process.
///
/// # Errors
/// When the kernel has no threads or files left.
pub fn start(tell: impl FnMut(Option<String>) + Send + 'static) -> Result<Handle> {
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("making an eventfd")?;
    let woken = wake.try_clone().context("copying an eventfd")?;
    let (end, ended) = UnixStream::pair().context("making a pair of sockets")?;
    signal_hook::low_level::pipe::register(SIGTERM, ended).context("catching SIGTERM")?;
    let (sender, wanted) = channel();
    let mut thread = Thread { wanted, woken, end, sockets: Vec::new() };
    let builder = std::thread::Builder::new().name("mdns".into());
    builder.spawn(move || thread.run(tell)).context("starting a thread")?;
    Ok(Handle { wanted: sender, wake, last: None })
}

/// A host name as a label: what is before the first dot.
pub fn label(hostname: Option<&str>) -> String {
    let first = hostname.unwrap_or_default().split('.').next().unwrap_or_default();
    let is_good = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let label: String = first.chars().filter(is_good).take(63).collect();
    if label.is_empty() { DEFAULT_LABEL.into() } else { label }
}

struct Thread {
    wanted: Receiver<Wanted>,
    woken: OwnedFd,
    /// Readable once SIGTERM came.
    end: UnixStream,
    sockets: Vec<Socket>,
}

impl Thread {
    fn run(&mut self, mut tell: impl FnMut(Option<String>)) {
        let mut responder = Responder::new(random);
        let (mut buffer, mut told) = (vec![0; PACKET_LIMIT], None);
        let mut due = None;
        loop {
            let ready = self.wait(due);
            if ready.get(1) == Some(&true) {
                responder.goodbye(&mut |outgoing| send(&self.sockets, outgoing));
                // As if nobody had caught it.
                let _ = signal_hook::low_level::emulate_default_handler(SIGTERM);
            }
            for (socket, _) in self.sockets.iter().zip(ready.iter().skip(2)).filter(|(_, ready)| **ready) {
                for _ in 0..TURN {
                    let Some((length, from)) = socket.receive(&mut buffer) else { break };
                    let packet = buffer.get(..length).unwrap_or_default();
                    let send = &mut |outgoing| send(&self.sockets, outgoing);
                    responder.hear(Instant::now(), socket.index, socket.family, from, packet, send);
                }
            }
            if ready.first() == Some(&true) {
                let _ = rustix::io::read(&self.woken, &mut [0; 8]);
            }
            while let Ok(wanted) = self.wanted.try_recv() {
                self.open_and_close(&wanted);
                responder.update(Instant::now(), wanted, &mut |outgoing| send(&self.sockets, outgoing));
            }
            due = responder.tick(Instant::now(), &mut |outgoing| send(&self.sockets, outgoing));
            let name = responder.name();
            if name != told {
                tell(name.clone());
                told = name;
            }
        }
    }

    /// Which of wake, end and the sockets have something.
    fn wait(&self, due: Option<Instant>) -> Vec<bool> {
        let sources = [self.woken.as_fd(), self.end.as_fd()].into_iter();
        let sources = sources.chain(self.sockets.iter().map(|socket| socket.fd.as_fd()));
        let mut polled: Vec<PollFd> = sources.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        if poll(&mut polled, timeout.as_ref()).is_err() {
            // An interrupted wait only means another round; a failure that stays must not take all of the processor.
            std::thread::sleep(Duration::from_millis(10));
            return Vec::new();
        }
        polled.iter().map(|one| !one.revents().is_empty()).collect()
    }

    /// A socket for each family that an interface has addresses of.
    fn open_and_close(&mut self, wanted: &Wanted) {
        self.sockets.retain(|socket| wanted.links.iter().any(|link| link.index == socket.index));
        for link in &wanted.links {
            for family in [Family::V4, Family::V6] {
                let is_wanted =
                    link.addresses.iter().any(|address| address.is_ipv4() == (family == Family::V4));
                let is_open = |socket: &Socket| socket.index == link.index && socket.family == family;
                if !is_wanted || self.sockets.iter().any(is_open) {
                    continue;
                }
                match Socket::open(link, family) {
                    Ok(socket) => self.sockets.push(socket),
                    Err(error) => tracing::warn!("{}: mDNS ({family:?}): {error}", link.device),
                }
            }
        }
    }
}

/// By the sockets of its interface; `true`: by one at least.
fn send(sockets: &[Socket], outgoing: Outgoing) -> bool {
    let packet = outgoing.message.encode();
    let is_meant = |socket: &&Socket| {
        socket.index == outgoing.index && outgoing.family.is_none_or(|family| family == socket.family)
    };
    // Each gets its own, whatever became of the one before.
    sockets.iter().filter(is_meant).fold(false, |sent, socket| socket.send(outgoing.to, &packet) | sent)
}

/// A number below `limit`, so that not all speak at once.
fn random(limit: u64) -> u64 {
    let mut bytes = [0; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::INSECURE);
    u64::from_ne_bytes(bytes).checked_rem(limit).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_one_label() {
        for (name, wanted) in [
            (None, "lifeboat"),
            (Some("cm4-7.site.example"), "cm4-7"),
            (Some("a_b c"), "abc"),
            (Some("."), "lifeboat"),
        ] {
            assert_eq!(label(name), wanted);
        }
    }
}
