//! Sessions on a network that loses, doubles, delays and reorders packets, with clients as the RFCs describe them. Time is
//! made up: a boot over a bad line takes milliseconds here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::options::Agreed;
use super::packet::{ErrorCode, Packet};
use super::session::{End, Heard, Session, Wanted, low_half};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Per mille, and milliseconds.
#[derive(Clone, Copy, Debug)]
struct Network {
    loss: u64,
    duplicates: u64,
    reordered: u64,
    delay: u64,
}

const CLEAR: Network = Network { loss: 0, duplicates: 0, reordered: 0, delay: 1 };

/// A client: in order only, an ACK at the end of each window, at a gap, and when it has waited for long.
struct Client {
    window: u64,
    block: usize,
    /// The next block that it takes, counted from 1 without wrapping.
    expected: u64,
    in_window: u64,
    gap_told: bool,
    got: Vec<u8>,
    done: bool,
    deadline: Instant,
}

impl Client {
    const WAIT: Duration = Duration::from_secs(2);

    fn take(&mut self, block: u16, bytes: &[u8], now: Instant) -> Option<u16> {
        self.deadline = now + Self::WAIT;
        let before = low_half(self.expected - 1);
        if block == low_half(self.expected) && !self.done {
            self.got.extend_from_slice(bytes);
            self.expected += 1;
            self.in_window += 1;
            self.gap_told = false;
            self.done = bytes.len() < self.block;
            let tell = self.done || self.in_window == self.window;
            if tell {
                self.in_window = 0;
            }
            tell.then_some(block)
        } else if block == before {
            // Its ACK was lost, maybe; inside of a window none is due.
            (self.in_window == 0).then_some(before)
        } else {
            let ahead = block.wrapping_sub(before) < 0x8000;
            let tell = ahead && !self.gap_told;
            self.gap_told |= ahead;
            self.in_window = 0;
            tell.then_some(before)
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Arrival {
    AtServer(u16),
    AtClient(Vec<u8>),
}

struct World {
    network: Network,
    random: u64,
    now: Instant,
    under_way: BinaryHeap<Reverse<(Instant, u64, Arrival)>>,
    number: u64,
    packets: u64,
}

impl World {
    fn new(network: Network, seed: u64) -> Self {
        let now = Instant::now();
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { network, random, now, under_way: BinaryHeap::new(), number: 0, packets: 0 }
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < per_mille
    }

    fn send(&mut self, make: impl Fn() -> Arrival) {
        self.packets += 1;
        if self.chance(self.network.loss) {
            return;
        }
        let copies = if self.chance(self.network.duplicates) { 2 } else { 1 };
        for copy in 0..copies {
            let late = if self.chance(self.network.reordered) { 7 } else { 0 };
            self.number += 1;
            let at = self.now + ms(self.network.delay + late + copy);
            self.under_way.push(Reverse((at, self.number, make())));
        }
    }
}

struct Outcome {
    got: Vec<u8>,
    session: Session,
    packets: u64,
    took: Duration,
}

fn agreed(block: u16, window: u16) -> Agreed {
    let asked = [("blksize".to_owned(), block.to_string()), ("windowsize".to_owned(), window.to_string())];
    let agreed = Agreed::on(&asked, 0, 65464);
    assert_eq!((agreed.block, agreed.window), (block, window));
    agreed
}

fn transfer(file: &[u8], agreed: &Agreed, network: Network, seed: u64) -> Outcome {
    let mut world = World::new(network, seed);
    let began = world.now;
    let mut session = Session::new(agreed, file.len() as u64, world.now);
    let mut client = Client {
        window: u64::from(agreed.window),
        block: usize::from(agreed.block),
        expected: 1,
        in_window: 0,
        gap_told: false,
        got: Vec::new(),
        done: false,
        deadline: world.now + Client::WAIT,
    };
    while session.end().is_none() {
        match session.wanted() {
            Wanted::OptionAck => {
                world.send(|| Arrival::AtClient(agreed.answer().unwrap().to_bytes()));
                session.sent_option_ack(world.now);
            }
            Wanted::Blocks { first, count } => {
                for block in first..first + count {
                    let (offset, length) = session.place(block);
                    let start = usize::try_from(offset).unwrap();
                    let bytes = &file[start..start + length];
                    let packet = Packet::Data { block: low_half(block), bytes }.to_bytes();
                    world.send(|| Arrival::AtClient(packet.clone()));
                }
                session.sent(count, world.now);
            }
            Wanted::Nothing => step(&mut world, &mut session, &mut client),
        }
        assert!(world.now - began < Duration::from_secs(7200), "it does not end");
    }
    Outcome { got: client.got, session, packets: world.packets, took: world.now - began }
}

/// The next thing that happens.
fn step(world: &mut World, session: &mut Session, client: &mut Client) {
    let arrival = world.under_way.peek().map(|Reverse((at, ..))| *at);
    let timers = if client.done { session.deadline() } else { session.deadline().min(client.deadline) };
    if arrival.is_none_or(|at| at > timers) {
        world.now = world.now.max(timers);
        session.expire(world.now);
        if client.deadline <= world.now {
            client.deadline = world.now + Client::WAIT;
            client.in_window = 0;
            let before = low_half(client.expected - 1);
            world.send(|| Arrival::AtServer(before));
        }
        return;
    }
    let Reverse((at, _, arrival)) = world.under_way.pop().unwrap();
    world.now = world.now.max(at);
    match arrival {
        Arrival::AtServer(number) => session.hear(Heard::Ack(number), world.now),
        Arrival::AtClient(bytes) => {
            let answer = match Packet::parse(&bytes).unwrap() {
                Packet::Data { block, bytes } => client.take(block, bytes, world.now),
                Packet::OptionAck(_) => (client.expected == 1).then_some(0),
                other => panic!("{other:?}"),
            };
            if let Some(number) = answer {
                world.send(|| Arrival::AtServer(number));
            }
        }
    }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Whether the client has the file, and the server knows or had to guess it.
fn arrived(file: &[u8], outcome: &Outcome) -> bool {
    outcome.got == file && matches!(outcome.session.end(), Some(End::Complete | End::Unconfirmed))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn files_arrive_as_they_are(
        size in prop_oneof![0usize..4000, Just(512), Just(1024), Just(8 * 1468)],
        block in prop_oneof![Just(8u16), Just(512), Just(1024), Just(1468), 8u16..3000],
        window in 1u16..=43,
        network in (0u64..250, 0u64..250, 0u64..250, 0u64..300)
            .prop_map(|(loss, duplicates, reordered, delay)| Network { loss, duplicates, reordered, delay }),
        seed in any::<u64>(),
    ) {
        let file = noise(size, seed);
        let outcome = transfer(&file, &agreed(block, window), network, seed);
        prop_assert!(arrived(&file, &outcome), "{:?}: {} of {size} bytes", outcome.session.end(), outcome.got.len());
    }
}

#[test]
fn a_client_that_goes_on_speaking_is_waited_for() {
    let (block, size) = (8, 11_744);
    let network = Network { loss: 231, duplicates: 28, reordered: 59, delay: 174 };
    let file = noise(size, 1);
    // The first one has half a minute in which nothing gets on.
    for seed in [4_113_137_042_325_237_619, 1, 2, 3] {
        let outcome = transfer(&file, &agreed(block, 38), network, seed);
        assert!(arrived(&file, &outcome), "seed {seed}: {:?}", outcome.session.end());
    }
}

#[test]
fn block_numbers_wrap() {
    for (window, network) in [
        (1, CLEAR),
        (16, CLEAR),
        (64, CLEAR),
        (1, Network { loss: 10, duplicates: 30, ..CLEAR }),
        (64, Network { loss: 2, reordered: 10, ..CLEAR }),
    ] {
        let file = noise(8 * 140_000 + 3, 7);
        let outcome = transfer(&file, &agreed(8, window), network, 42);
        assert!(arrived(&file, &outcome), "window {window}, {network:?}: {:?}", outcome.session.end());
    }
}

#[test]
fn nothing_is_sent_twice_where_nothing_is_lost() {
    for window in [1, 7, 64] {
        for delay in [0, 1, 90, 400] {
            let file = noise(512 * 300, 1);
            let outcome = transfer(&file, &agreed(512, window), Network { delay, ..CLEAR }, 1);
            assert!(arrived(&file, &outcome));
            assert_eq!(outcome.session.retransmissions(), 0, "window {window}, delay {delay} ms");
        }
    }
}

/// The Sorcerer's Apprentice: where each packet comes twice, each block would be sent more and more often.
#[test]
fn doubles_are_not_answered_twice() {
    let network = Network { duplicates: 1000, delay: 20, ..CLEAR };
    let file = noise(512 * 2000, 1);
    let outcome = transfer(&file, &agreed(512, 1), network, 1);
    assert!(arrived(&file, &outcome));
    assert_eq!(outcome.session.retransmissions(), 0);
    let outcome = transfer(&file, &agreed(512, 16), network, 1);
    assert!(arrived(&file, &outcome));
    assert!(outcome.session.retransmissions() <= 16, "{}", outcome.session.retransmissions());
}

/// What a lost packet costs is not a second, as it is with a fixed timeout.
#[test]
fn a_bad_line_is_not_that_slow() {
    let file = noise(1468 * 1000, 1);
    let outcome = transfer(&file, &agreed(1468, 1), Network { loss: 100, ..CLEAR }, 3);
    assert!(arrived(&file, &outcome));
    // About 210 of 1000 round trips lose one of two packets, some more than once.
    assert!(outcome.took < Duration::from_secs(90), "{:?}", outcome.took);
    let outcome = transfer(&file, &agreed(1468, 16), Network { loss: 10, ..CLEAR }, 3);
    assert!(arrived(&file, &outcome));
    assert!(outcome.packets < 3000, "{}", outcome.packets);
}

fn begun(options: bool) -> (Session, Instant) {
    let now = Instant::now();
    let asked: Vec<_> = if options { vec![("tsize".to_owned(), "0".to_owned())] } else { Vec::new() };
    let mut session = Session::new(&Agreed::on(&asked, 5000, 1468), 5000, now);
    match session.wanted() {
        Wanted::OptionAck => session.sent_option_ack(now),
        Wanted::Blocks { count, .. } => session.sent(count, now),
        Wanted::Nothing => panic!("nothing to send"),
    }
    assert_eq!(session.wanted(), Wanted::Nothing);
    (session, now)
}

#[test]
fn a_probe_is_a_normal_end() {
    for options in [true, false] {
        let (mut session, now) = begun(options);
        session.hear(Heard::Error(ErrorCode::OTHER, "Early terminate".into()), now);
        assert_eq!(session.end(), Some(&End::Probe));
        assert_eq!(session.wanted(), Wanted::Nothing);
    }
    let (mut session, now) = begun(true);
    session.hear(Heard::Error(ErrorCode::OPTIONS, "no".into()), now);
    assert_eq!(session.end(), Some(&End::GivenUp(ErrorCode::OPTIONS, "no".into())));
    let (mut session, now) = begun(false);
    session.hear(Heard::Ack(1), now);
    session.hear(Heard::Error(ErrorCode::OTHER, "full".into()), now);
    assert_eq!(session.end(), Some(&End::GivenUp(ErrorCode::OTHER, "full".into())));
}

#[test]
fn a_question_that_comes_again_gets_the_same_answer() {
    let (mut session, now) = begun(true);
    session.hear(Heard::AskedAgain, now);
    assert_eq!(session.wanted(), Wanted::OptionAck);
    session.sent_option_ack(now);
    session.hear(Heard::Ack(0), now);
    assert_eq!(session.wanted(), Wanted::Blocks { first: 1, count: 1 });
    session.sent(1, now);
    session.hear(Heard::AskedAgain, now);
    assert_eq!(session.wanted(), Wanted::Nothing, "an old copy of the question");
    let (mut session, now) = begun(false);
    session.hear(Heard::AskedAgain, now);
    assert_eq!(session.wanted(), Wanted::Blocks { first: 1, count: 1 });
}

#[test]
fn who_never_answers_gets_few_packets() {
    for options in [true, false] {
        let (mut session, began) = begun(options);
        let mut packets = 1;
        while session.end().is_none() {
            let now = session.deadline();
            session.expire(now);
            match session.wanted() {
                Wanted::OptionAck => session.sent_option_ack(now),
                Wanted::Blocks { count, .. } => session.sent(count, now),
                Wanted::Nothing => continue,
            }
            packets += 1;
        }
        assert_eq!(session.end(), Some(&End::Unheard));
        assert!(packets <= 4, "{packets}");
        assert!(session.deadline() - began < Duration::from_secs(20));
    }
}

/// Somebody who says the same over and over does not keep a place for ever, and who says nothing not for long.
#[test]
fn who_says_nothing_new_is_given_up() {
    for (repeats, seconds) in [(true, 120..130), (false, 30..40)] {
        let (mut session, began) = begun(false);
        session.hear(Heard::Ack(1), began);
        let mut now = began;
        while session.end().is_none() {
            if let Wanted::Blocks { count, .. } = session.wanted() {
                session.sent(count, now);
            }
            now += ms(100);
            if repeats {
                session.hear(Heard::Ack(1), now);
            }
            session.expire(now);
            assert!(now - began < Duration::from_secs(200));
        }
        assert_eq!(session.end(), Some(&End::Silent));
        assert!(seconds.contains(&(now - began).as_secs()), "{:?}", now - began);
    }
}

#[test]
fn acks_of_what_was_not_sent_count_for_nothing() {
    let (mut session, now) = begun(false);
    for number in [0, 2, 3, 0x8000, 0xffff] {
        session.hear(Heard::Ack(number), now);
        assert_eq!(session.wanted(), Wanted::Nothing, "{number}");
    }
    let (mut session, now) = begun(true);
    session.hear(Heard::Ack(1), now);
    assert_eq!(session.wanted(), Wanted::Nothing);
}

proptest! {
    /// Whatever a client says, blocks that are asked for are in the file, in bounded number.
    #[test]
    fn nothing_that_a_client_says_leads_out_of_the_file(
        size in 0u64..100_000,
        window in 1u16..=64,
        said in prop::collection::vec((prop_oneof![0u16..20, any::<u16>()], 0u64..3000, any::<bool>()), 0..200),
    ) {
        let mut now = Instant::now();
        let mut session = Session::new(&agreed(64, window), size, now);
        for (number, wait, again) in said {
            match session.wanted() {
                Wanted::OptionAck => session.sent_option_ack(now),
                Wanted::Blocks { first, count } => {
                    prop_assert!(first >= 1 && count <= u64::from(window));
                    prop_assert!(first + count - 1 <= session.last());
                    session.sent(count, now);
                }
                Wanted::Nothing => {}
            }
            now += ms(wait);
            session.expire(now);
            session.hear(if again { Heard::AskedAgain } else { Heard::Ack(number) }, now);
        }
    }
}
