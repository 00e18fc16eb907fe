//! A thousand Pis that are switched on at once, and one server: sessions and their table, with a processor and a line that are
//! shared by all, in a time that is made up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::options::Agreed;
use super::packet::{ErrorCode, Mode, Request};
use super::session::{Heard, Session, Wanted, low_half};
use super::table::{Admission, Key, Limits, Seat, Table};

const PIS: usize = 1000;
/// A bootloader's since 2022-10.
const BLOCK: u64 = 1468;
/// What a file's reader says again after so long.
const AGAIN: Duration = Duration::from_secs(2);
/// What the server needs for a packet, to take it or to send it.
const HANDLING: Duration = Duration::from_micros(3);
/// From one end to the other.
const WAY: Duration = Duration::from_micros(100);
/// Of a Gbit/s, with Ethernet's, IP's, UDP's and TFTP's heads.
const NANOSECONDS_EACH_BYTE: u64 = 8;
const HEADS: u64 = 70;

/// A boot's files in their order: bytes, `None` for one that is not there; and whether it is only looked for. They are a
/// tenth of real ones.
const FILES: [(Option<u64>, bool); 14] = [
    (Some(226_000), true),
    (Some(900), false),
    (None, false),
    (None, false),
    (Some(226_000), false),
    (Some(5_400), false),
    (None, true),
    (Some(900), false),
    (Some(400_000), false),
    (Some(56_000), false),
    (Some(300), false),
    (None, true),
    (Some(400_000), true),
    (Some(400_000), false),
];

/// What is on the line. Each names the file that it is about, so that late ones are known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ask,
    Ack(u16),
    Stop,
    OptionAck,
    Data(u64),
    Missing,
    /// The session's deadline.
    ServerTimer,
    /// The client's, if it said so often something since.
    ClientTimer(u64),
}

struct Pi {
    file: usize,
    expected: u64,
    said: Event,
    words: u64,
    session: Option<(Session, Seat, mpsc::Receiver<Heard>)>,
    timer_set: bool,
    booted: Option<Instant>,
}

type Due = (Instant, u64, usize, usize, Event);

struct World {
    /// Per mille.
    loss: u64,
    random: u64,
    now: Instant,
    number: u64,
    under_way: BinaryHeap<Reverse<Due>>,
    processor_free: Instant,
    line_free: Instant,
    table: Arc<Table>,
    pis: Vec<Pi>,
}

fn agreed(size: u64) -> Agreed {
    let asked = [("tsize".to_owned(), "0".to_owned()), ("blksize".to_owned(), BLOCK.to_string())];
    Agreed::on(&asked, size, 1468)
}

fn key(pi: usize, file: usize) -> Key {
    let address = Ipv4Addr::from(0x0a00_0000 + u32::try_from(pi).unwrap());
    let peer = SocketAddr::new(address.into(), 10_000 + u16::try_from(file).unwrap());
    Key { peer, local: IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

impl World {
    fn new(loss: u64) -> Self {
        let now = Instant::now();
        let pi = |_| Pi {
            file: 0,
            expected: 1,
            said: Event::Ask,
            words: 0,
            session: None,
            timer_set: false,
            booted: None,
        };
        Self {
            loss,
            random: 0x9e37_79b9_7f4a_7c15,
            now,
            number: 0,
            under_way: BinaryHeap::new(),
            processor_free: now,
            line_free: now,
            table: Table::new(Limits { total: 4096, of_one_client: 64 }),
            pis: (0..PIS).map(pi).collect(),
        }
    }

    fn is_lost(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < self.loss
    }

    fn at(&mut self, time: Instant, pi: usize, file: usize, event: Event) {
        self.number += 1;
        self.under_way.push(Reverse((time, self.number, pi, file, event)));
    }

    /// A Pi says something, and waits.
    fn say(&mut self, pi: usize, what: Event) {
        let this = &mut self.pis[pi];
        this.words += 1;
        this.said = what.clone();
        let (file, words) = (this.file, this.words);
        if !self.is_lost() {
            self.at(self.now + WAY, pi, file, what);
        }
        self.at(self.now + AGAIN, pi, file, Event::ClientTimer(words));
    }

    /// The server sends something: when its processor and its line have time.
    fn send(&mut self, pi: usize, file: usize, what: Event, bytes: u64) {
        self.processor_free = self.processor_free.max(self.now) + HANDLING;
        let takes = Duration::from_nanos((bytes + HEADS) * NANOSECONDS_EACH_BYTE);
        self.line_free = self.line_free.max(self.processor_free) + takes;
        if !self.is_lost() {
            self.at(self.line_free + WAY, pi, file, what);
        }
    }

    fn run(&mut self) {
        for pi in 0..PIS {
            self.say(pi, Event::Ask);
        }
        while let Some(Reverse((time, _, pi, file, event))) = self.under_way.pop() {
            self.now = self.now.max(time);
            if self.pis[pi].file != file || self.pis[pi].booted.is_some() {
                continue;
            }
            match event {
                Event::Ask | Event::Ack(_) | Event::Stop | Event::ServerTimer => {
                    self.at_server(pi, file, event)
                }
                _ => self.at_pi(pi, event),
            }
        }
    }

    fn at_server(&mut self, pi: usize, file: usize, event: Event) {
        self.processor_free = self.processor_free.max(self.now) + HANDLING;
        let now = self.processor_free;
        let Some(size) = FILES[file].0 else { return self.send(pi, file, Event::Missing, 20) };
        let heard = match event {
            Event::Ask => {
                let request = Request { name: vec![b'f'], mode: Mode::Octet, options: Vec::new() };
                match self.table.admit(key(pi, file), &request) {
                    Admission::New(seat, inbox) => {
                        let session = Session::new(&agreed(size), size, now);
                        self.pis[pi].session = Some((session, seat, inbox));
                        self.pis[pi].timer_set = false;
                        None
                    }
                    Admission::Known => Some(Heard::AskedAgain),
                    Admission::Full => panic!("there is a place for each"),
                }
            }
            Event::Ack(number) => Some(Heard::Ack(number)),
            Event::Stop => Some(Heard::Error(ErrorCode::OTHER, String::new())),
            _ => {
                self.pis[pi].timer_set = false;
                None
            }
        };
        let Some((session, ..)) = &mut self.pis[pi].session else { return };
        match heard {
            Some(heard) => session.hear(heard, now),
            None => session.expire(now),
        }
        self.answer(pi, file, now);
    }

    fn answer(&mut self, pi: usize, file: usize, now: Instant) {
        let Some((mut session, seat, inbox)) = self.pis[pi].session.take() else { return };
        loop {
            match session.wanted() {
                Wanted::Nothing => break,
                Wanted::OptionAck => {
                    self.send(pi, file, Event::OptionAck, 30);
                    session.sent_option_ack(now);
                }
                Wanted::Blocks { first, count } => {
                    for block in first..first + count {
                        self.send(pi, file, Event::Data(block), session.place(block).1 as u64);
                    }
                    session.sent(count, now);
                }
            }
        }
        if session.end().is_some() {
            return;
        }
        let deadline = session.deadline();
        self.pis[pi].session = Some((session, seat, inbox));
        if !std::mem::replace(&mut self.pis[pi].timer_set, true) {
            self.at(deadline, pi, file, Event::ServerTimer);
        }
    }

    fn at_pi(&mut self, pi: usize, event: Event) {
        let this = &mut self.pis[pi];
        let (size, is_probe) = FILES[this.file];
        match event {
            Event::ClientTimer(words) if words == this.words => {
                let said = this.said.clone();
                self.say(pi, said);
            }
            Event::Missing => self.next_file(pi),
            Event::OptionAck if is_probe => {
                self.say(pi, Event::Stop);
                self.next_file(pi);
            }
            Event::OptionAck if this.expected == 1 => self.say(pi, Event::Ack(0)),
            Event::Data(block) if block == this.expected => {
                this.expected += 1;
                let is_last = block == size.unwrap() / BLOCK + 1;
                self.say(pi, Event::Ack(low_half(block)));
                if is_last {
                    self.next_file(pi);
                }
            }
            Event::Data(block) if block + 1 == this.expected => self.say(pi, Event::Ack(low_half(block))),
            _ => {}
        }
    }

    fn next_file(&mut self, pi: usize) {
        let this = &mut self.pis[pi];
        this.session = None;
        this.timer_set = false;
        if this.file + 1 == FILES.len() {
            this.booted = Some(self.now);
            return;
        }
        this.file += 1;
        this.expected = 1;
        self.say(pi, Event::Ask);
    }
}

/// All boot, and none has to wait much longer than the others: also where packets are lost.
#[test]
fn a_thousand_pis_boot_alike() {
    for loss in [0, 2] {
        let mut world = World::new(loss);
        let began = world.now;
        world.run();
        let took: Vec<_> =
            world.pis.iter().map(|pi| (pi.booted.expect("booted") - began).as_secs_f64()).collect();
        let (slowest, mean) = (took.iter().copied().fold(0.0, f64::max), took.iter().sum::<f64>() / 1000.0);
        println!("loss {loss} per mille: mean {mean:.2} s, slowest {slowest:.2} s");
        assert!(slowest <= 1.5 * mean, "loss {loss} per mille: mean {mean} s, slowest {slowest} s");
        assert!(world.table.is_empty());
    }
}
