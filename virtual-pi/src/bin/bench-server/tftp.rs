//! TFTP clients as bootloaders are: `octet`, `tsize 0`, `blksize`, one block at a time, a new port for each file. Any number
//! of them run in one loop, so that the bench needs little of the processor itself.
//!
//! The line's delay is in here: what a client says goes out so much later. A server sees no difference to a long cable,
//! and no relay takes processor time from it.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

/// What a Pi 4's EEPROM asks for since 2022-10.
pub(crate) const BLOCK: usize = 1468;
/// A client that hears nothing for so long says the same again.
const AGAIN: Duration = Duration::from_secs(1);
/// So often the loop looks for such clients.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often a client says the same.
const MOST_AGAIN: u32 = 30;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) name: String,
    /// Only whether it is there.
    pub(crate) is_probe: bool,
}

/// What became of a question.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The file came, or is there.
    Got(Vec<u8>),
    /// There is none.
    Missing,
}

/// What a client wants, one thing after the other.
pub(crate) trait Script {
    /// The next question. `None`: it is done. `before`: what became of the one before.
    fn next(&mut self, before: Option<Answer>) -> Result<Option<Question>>;
}

/// How it went.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// When each client was done, in seconds since the start of all.
    pub(crate) seconds: Vec<f64>,
    pub(crate) bytes: u64,
    /// How often a client had to say something again.
    pub(crate) again: u32,
}

/// Runs clients until all are done. `round_trip`: see the top.
pub(crate) fn run(
    server: SocketAddrV4,
    clients: Vec<(Ipv4Addr, Box<dyn Script>)>,
    round_trip: Duration,
) -> Result<Outcome> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("making an epoll")?;
    let now = Instant::now();
    let outcome = Outcome { seconds: vec![0.0; clients.len()], bytes: 0, again: 0 };
    let mut crowd = Crowd {
        server,
        round_trip,
        epoll,
        clients: Vec::new(),
        held: VecDeque::new(),
        began: now,
        look_at: now + LOOK_AGAIN,
        open: clients.len(),
        outcome,
    };
    for (address, mut script) in clients {
        let question = script.next(None)?.context("a client that wants nothing")?;
        let talk = Talk::about(question, address, now)?;
        crowd.clients.push(Client { address, script, talk, is_done: false });
    }
    for number in 0..crowd.clients.len() {
        crowd.ask(number, now)?;
    }
    while crowd.open > 0 {
        crowd.turn()?;
    }
    Ok(crowd.outcome)
}

struct Client {
    address: Ipv4Addr,
    script: Box<dyn Script>,
    talk: Talk,
    is_done: bool,
}

/// One question and what follows from it.
struct Talk {
    question: Question,
    socket: Rc<UdpSocket>,
    /// Whether it is known where the server answers from.
    is_connected: bool,
    /// What the client said last, when, and how often.
    said: Vec<u8>,
    said_at: Instant,
    times: u32,
    expected: u16,
    size: Option<usize>,
    got: Vec<u8>,
}

/// What follows from a packet.
enum Heard {
    Nothing,
    /// The client has something to say.
    Word,
    /// That was it. The client may have a last word.
    End(Answer),
}

impl Talk {
    fn about(question: Question, address: Ipv4Addr, now: Instant) -> Result<Self> {
        let socket = UdpSocket::bind(SocketAddrV4::new(address, 0)).context("making a client's socket")?;
        socket.set_nonblocking(true).context("making a client's socket")?;
        let options = format!("\0octet\0tsize\x000\0blksize\0{BLOCK}\0");
        let said = [b"\0\x01", question.name.as_bytes(), options.as_bytes()].concat();
        Ok(Self {
            question,
            socket: Rc::new(socket),
            is_connected: false,
            said,
            said_at: now,
            times: 0,
            expected: 1,
            size: None,
            got: Vec::new(),
        })
    }

    fn hear(&mut self, packet: &[u8]) -> Result<Heard> {
        let name = &self.question.name;
        match packet {
            [0, 3, high, low, bytes @ ..] => {
                let size = self.size.with_context(|| format!("{name}: data without an OACK"))?;
                if u16::from_be_bytes([*high, *low]) != self.expected {
                    return Ok(Heard::Nothing);
                }
                self.got.extend_from_slice(bytes);
                self.expected = self.expected.wrapping_add(1);
                if bytes.len() < BLOCK {
                    ensure!(size == self.got.len(), "{name}: {} bytes of {size} came", self.got.len());
                    self.say(&[0, 4, *high, *low]);
                    return Ok(Heard::End(Answer::Got(std::mem::take(&mut self.got))));
                }
                self.say(&[0, 4, *high, *low]);
            }
            [0, 6, options @ ..] if self.size.is_none() => {
                let size = agreed(options).with_context(|| format!("{name}: a bad OACK"))?;
                self.size = Some(size);
                if self.question.is_probe {
                    self.say(b"\0\x05\0\0Early terminate\0");
                    return Ok(Heard::End(Answer::Got(Vec::new())));
                }
                self.got.reserve_exact(size);
                self.say(&[0, 4, 0, 0]);
            }
            [0, 6, ..] => return Ok(Heard::Nothing),
            [0, 5, 0, 1, ..] => {
                self.said.clear();
                return Ok(Heard::End(Answer::Missing));
            }
            other => bail!("{name}: the server says {}", other.escape_ascii()),
        }
        Ok(Heard::Word)
    }

    fn say(&mut self, packet: &[u8]) {
        self.said.clear();
        self.said.extend_from_slice(packet);
        self.times = 0;
    }
}

/// The size in an OACK that grants what was asked for.
fn agreed(options: &[u8]) -> Option<usize> {
    let words: Vec<_> = options.split(|byte| *byte == 0).collect();
    let value = |name: &[u8]| words.chunks(2).find(|pair| pair.first() == Some(&name))?.get(1).copied();
    let number = |name| std::str::from_utf8(value(name)?).ok()?.parse::<usize>().ok();
    number(b"tsize").filter(|_| number(b"blksize") == Some(BLOCK))
}

/// A packet on its long way.
struct Held {
    at: Instant,
    socket: Rc<UdpSocket>,
    /// `None`: to where the socket is connected.
    to: Option<SocketAddrV4>,
    packet: Vec<u8>,
}

struct Crowd {
    server: SocketAddrV4,
    round_trip: Duration,
    epoll: OwnedFd,
    clients: Vec<Client>,
    /// In the order in which they go out.
    held: VecDeque<Held>,
    began: Instant,
    /// When to look for clients that have to say something again.
    look_at: Instant,
    open: usize,
    outcome: Outcome,
}

impl Crowd {
    /// Asks a client's next question.
    fn ask(&mut self, number: usize, now: Instant) -> Result<()> {
        let Some(client) = self.clients.get(number) else { return Ok(()) };
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.epoll, &*client.talk.socket, data, epoll::EventFlags::IN)
            .context("watching a socket")?;
        self.say(number, now);
        Ok(())
    }

    /// Sends what a client has to say, or puts it on its way.
    fn say(&mut self, number: usize, now: Instant) {
        let Some(Client { talk, .. }) = self.clients.get_mut(number) else { return };
        if talk.said.is_empty() {
            return;
        }
        talk.said_at = now + self.round_trip;
        talk.times += 1;
        let to = (!talk.is_connected).then_some(self.server);
        if self.round_trip.is_zero() {
            send(&talk.socket, to, &talk.said);
        } else {
            let (socket, packet) = (Rc::clone(&talk.socket), talk.said.clone());
            self.held.push_back(Held { at: talk.said_at, socket, to, packet });
        }
    }

    /// Sends what is due and takes what comes next.
    fn turn(&mut self) -> Result<()> {
        let now = Instant::now();
        while self.held.front().is_some_and(|held| held.at <= now) {
            if let Some(Held { socket, to, packet, .. }) = self.held.pop_front() {
                send(&socket, to, &packet);
            }
        }
        let mut wait = LOOK_AGAIN;
        if let Some(held) = self.held.front() {
            // epoll_wait(2) knows whole milliseconds only.
            let due = held.at.saturating_duration_since(now).min(LOOK_AGAIN);
            let due = Timespec { tv_sec: 0, tv_nsec: due.subsec_nanos().into() };
            let _interrupted = poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&due));
            wait = Duration::ZERO;
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let mut events = [const { MaybeUninit::uninit() }; 64];
        let (ready, _) = epoll::wait(&self.epoll, &mut events, Some(&wait)).context("waiting for packets")?;
        for event in ready.iter() {
            self.receive(usize::try_from(event.data.u64())?)?;
        }
        if now >= self.look_at {
            self.look_at = now + LOOK_AGAIN;
            self.say_again(now)?;
        }
        Ok(())
    }

    fn receive(&mut self, number: usize) -> Result<()> {
        let mut buffer = [0; 2048];
        let Some(Client { talk, .. }) = self.clients.get_mut(number) else { return Ok(()) };
        // An empty socket or a closed port: it is asked again later.
        let received = if talk.is_connected {
            talk.socket.recv(&mut buffer).ok()
        } else {
            talk.socket.recv_from(&mut buffer).ok().and_then(|(length, from)| {
                talk.is_connected = talk.socket.connect(from).is_ok();
                talk.is_connected.then_some(length)
            })
        };
        let Some(packet) = received.and_then(|length| buffer.get(..length)) else { return Ok(()) };
        let (heard, now) = (talk.hear(packet)?, Instant::now());
        match heard {
            Heard::Nothing => {}
            Heard::Word => self.say(number, now),
            Heard::End(answer) => {
                self.say(number, now);
                self.go_on(number, answer, now)?;
            }
        }
        Ok(())
    }

    fn go_on(&mut self, number: usize, answer: Answer, now: Instant) -> Result<()> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        if let Answer::Got(bytes) = &answer {
            self.outcome.bytes += bytes.len() as u64;
        }
        // Its last word may still be on its way, and keeps the socket open.
        epoll::delete(&self.epoll, &*client.talk.socket).context("leaving a socket")?;
        match client.script.next(Some(answer))? {
            Some(question) => {
                client.talk = Talk::about(question, client.address, now)?;
                self.ask(number, now)
            }
            None => {
                client.is_done = true;
                self.open -= 1;
                if let Some(seconds) = self.outcome.seconds.get_mut(number) {
                    *seconds = (now - self.began).as_secs_f64();
                }
                Ok(())
            }
        }
    }

    fn say_again(&mut self, now: Instant) -> Result<()> {
        for number in 0..self.clients.len() {
            let Some(Client { talk, is_done: false, .. }) = self.clients.get(number) else { continue };
            if now.saturating_duration_since(talk.said_at) < AGAIN {
                continue;
            }
            let name = &talk.question.name;
            ensure!(talk.times < MOST_AGAIN, "{name}: the server is silent after {} bytes", talk.got.len());
            self.outcome.again += 1;
            self.say(number, now);
        }
        Ok(())
    }
}

fn send(socket: &UdpSocket, to: Option<SocketAddrV4>, packet: &[u8]) {
    // What is lost here is said again.
    let _lost = match to {
        Some(server) => socket.send_to(packet, SocketAddr::V4(server)),
        None => socket.send(packet),
    };
}
