//! Which questions get a transfer. Each costs a socket and a file, and anybody can ask in anybody's name, so there is a limit
//! for all of them and one for each address; where it is reached, those that never answered give way to newer ones, oldest
//! first, then those that have been silent for a while. Who is in the middle of a transfer never has to go.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::packet::Request;
use super::session::Heard;

/// A transfer that was silent for so long may have to go.
const IDLE: Duration = Duration::from_secs(5);
/// An unchanged question counts as one that was doubled on its way for so long after the last sign of life; later, the client
/// has started anew.
const DOUBLED: Duration = Duration::from_secs(1);
/// What may wait for a transfer's attention. More is as good as lost on the way.
const INBOX: usize = 64;

/// How many transfers there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub total: usize,
    /// Of one address. A Pi has one, and some that it has forgotten.
    pub of_one_client: usize,
}

/// Who talks to whom: one transfer for each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The client.
    pub peer: SocketAddr,
    /// The address that it asked.
    pub local: IpAddr,
}

/// A transfer's signs of life, which its task sets and the table looks at.
#[derive(Debug, Default)]
pub struct Life {
    heard: AtomicBool,
    /// Milliseconds since the table began.
    last: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    request: Request,
    inbox: mpsc::Sender<Heard>,
    life: Arc<Life>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    by_client: HashMap<IpAddr, Vec<(Key, u64)>>,
    /// Those that were never heard, oldest first, among others that are no more or were heard since.
    unheard: VecDeque<(Key, u64)>,
    next: u64,
}

/// All transfers.
#[derive(Debug)]
pub struct Table {
    limits: Limits,
    began: Instant,
    stops: AtomicBool,
    entries: Mutex<Entries>,
}

/// What becomes of a question.
#[derive(Debug)]
pub enum Admission {
    /// It gets a transfer.
    New(Seat, mpsc::Receiver<Heard>),
    /// It has one.
    Known,
    /// There is no room, and nobody who has to go.
    Full,
}

/// A transfer's place; free again when this is dropped. When the inbox that came with it is closed, somebody else has it.
#[derive(Debug)]
pub struct Seat {
    table: Arc<Table>,
    key: Key,
    number: u64,
    life: Arc<Life>,
}

impl Table {
    /// An empty one.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            began: Instant::now(),
            stops: AtomicBool::new(false),
            entries: Mutex::default(),
        })
    }

    /// Decides about a question.
    pub fn admit(self: &Arc<Self>, key: Key, request: &Request) -> Admission {
        let now = self.now();
        let mut entries = self.entries();
        if let Some(entry) = entries.by_key.get(&key) {
            if entry.request == *request && !entry.life.is_over(now) {
                let _full = entry.inbox.try_send(Heard::AskedAgain);
                return Admission::Known;
            }
            // Another question from the same port: the client is done with the old one.
            let number = entry.number;
            entries.remove(key, number);
        }
        if !entries.make_room(key.peer.ip(), self.limits, now) {
            return Admission::Full;
        }
        let life = Arc::new(Life { heard: AtomicBool::new(false), last: AtomicU64::new(now) });
        let (inbox, messages) = mpsc::channel(INBOX);
        let number = entries.insert(key, request.clone(), inbox, Arc::clone(&life), self.limits);
        Admission::New(Seat { table: Arc::clone(self), key, number, life }, messages)
    }

    /// Tells a transfer what its client says. False when there is none.
    pub fn tell(&self, key: Key, what: Heard) -> bool {
        let entries = self.entries();
        let Some(entry) = entries.by_key.get(&key) else { return false };
        let _full = entry.inbox.try_send(what);
        true
    }

    /// Takes all places away: the server stops.
    pub fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
        let mut entries = self.entries();
        let all: Vec<_> = entries.by_key.iter().map(|(key, entry)| (*key, entry.number)).collect();
        all.into_iter().for_each(|(key, number)| entries.remove(key, number));
    }

    /// How many transfers there are.
    pub fn len(&self) -> usize {
        self.entries().by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    fn at(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Whether the place was taken away because the server stops.
    pub fn stops(&self) -> bool {
        self.table.stops.load(Ordering::Relaxed)
    }

    /// The client said something at this time.
    pub fn heard(&self, now: Instant) {
        self.life.last.store(self.table.at(now), Ordering::Relaxed);
        self.life.heard.store(true, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.table.entries().remove(self.key, self.number);
    }
}

impl Life {
    fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    fn idle(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    /// Whether a client that asks the same again has begun anew.
    fn is_over(&self, now: u64) -> bool {
        self.is_heard() && self.idle(now) > DOUBLED
    }
}

impl Entries {
    fn insert(
        &mut self,
        key: Key,
        request: Request,
        inbox: mpsc::Sender<Heard>,
        life: Arc<Life>,
        limits: Limits,
    ) -> u64 {
        self.next += 1;
        let number = self.next;
        self.by_key.insert(key, Entry { number, request, inbox, life });
        self.by_client.entry(key.peer.ip()).or_default().push((key, number));
        self.unheard.push_back((key, number));
        if self.unheard.len() > 2 * limits.total + 64 {
            let by_key = &self.by_key;
            self.unheard.retain(|(key, number)| {
                by_key.get(key).is_some_and(|entry| entry.number == *number && !entry.life.is_heard())
            });
        }
        number
    }

    fn remove(&mut self, key: Key, number: u64) {
        if self.by_key.get(&key).is_none_or(|entry| entry.number != number) {
            return;
        }
        self.by_key.remove(&key);
        let client = key.peer.ip();
        if let Some(of_client) = self.by_client.get_mut(&client) {
            of_client.retain(|(_, other)| *other != number);
            if of_client.is_empty() {
                self.by_client.remove(&client);
            }
        }
    }

    fn make_room(&mut self, client: IpAddr, limits: Limits, now: u64) -> bool {
        let of_client = self.by_client.get(&client).map_or(&[][..], Vec::as_slice);
        if of_client.len() >= limits.of_one_client {
            let goes = self.first_to_go(of_client, now);
            let Some((key, number)) = goes else { return false };
            self.remove(key, number);
        }
        if self.by_key.len() < limits.total {
            return true;
        }
        while let Some((key, number)) = self.unheard.pop_front() {
            let entry = self.by_key.get(&key).filter(|entry| entry.number == number);
            if entry.is_some_and(|entry| !entry.life.is_heard()) {
                self.remove(key, number);
                return true;
            }
        }
        let all = self.by_key.iter().map(|(key, entry)| (*key, entry.number));
        let idle = all.max_by_key(|(key, _)| self.idle(key, now));
        match idle.filter(|(key, _)| self.idle(key, now) >= IDLE) {
            Some((key, number)) => {
                self.remove(key, number);
                true
            }
            None => false,
        }
    }

    /// The oldest that was never heard, else the one that is silent for longest.
    fn first_to_go(&self, among: &[(Key, u64)], now: u64) -> Option<(Key, u64)> {
        let unheard =
            among.iter().find(|(key, _)| self.by_key.get(key).is_some_and(|entry| !entry.life.is_heard()));
        let silent = || among.iter().max_by_key(|(key, _)| self.idle(key, now));
        unheard.or_else(|| silent().filter(|(key, _)| self.idle(key, now) >= IDLE)).copied()
    }

    fn idle(&self, key: &Key, now: u64) -> Duration {
        self.by_key.get(key).map_or(Duration::ZERO, |entry| entry.life.idle(now))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::packet::Mode;
    use super::*;

    const LIMITS: Limits = Limits { total: 100, of_one_client: 8 };

    fn key(host: u32, port: u16) -> Key {
        let peer = SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + host).into(), port);
        Key { peer, local: Ipv4Addr::LOCALHOST.into() }
    }

    fn request(name: &str) -> Request {
        Request { name: name.into(), mode: Mode::Octet, options: Vec::new() }
    }

    fn new(table: &Arc<Table>, key: Key) -> (Seat, mpsc::Receiver<Heard>) {
        match table.admit(key, &request("f")) {
            Admission::New(seat, inbox) => (seat, inbox),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flood_does_not_reach_who_is_in_the_middle() {
        let table = Table::new(LIMITS);
        let (seat, mut inbox) = new(&table, key(1, 1));
        seat.heard(Instant::now());
        let mut seats = VecDeque::new();
        for host in 2..20_000 {
            seats.push_back(new(&table, key(host, 9)));
            assert!(table.len() <= LIMITS.total);
            assert!(table.entries().unheard.len() <= 2 * LIMITS.total + 64);
            // The tasks of those that had to go end.
            while seats.front().is_some_and(|(_, inbox)| inbox.is_closed()) {
                seats.pop_front();
            }
        }
        assert_eq!(inbox.try_recv().unwrap_err(), mpsc::error::TryRecvError::Empty);
        assert!(table.tell(key(1, 1), Heard::Ack(1)));
        assert_eq!(inbox.try_recv().unwrap(), Heard::Ack(1));
        drop((seats, seat));
        assert!(table.is_empty());
        assert!(table.entries().by_client.is_empty());
    }

    #[test]
    fn one_address_does_not_take_all() {
        let table = Table::new(LIMITS);
        let mut seats: Vec<_> = (0..50).map(|port| new(&table, key(1, port))).collect();
        assert_eq!(table.len(), LIMITS.of_one_client);
        seats.retain(|(_, inbox)| !inbox.is_closed());
        assert_eq!(seats.len(), LIMITS.of_one_client);
        seats.iter().for_each(|(seat, _)| seat.heard(Instant::now()));
        assert!(matches!(table.admit(key(1, 99), &request("f")), Admission::Full));
        let _another = new(&table, key(2, 1));
    }

    #[test]
    fn where_all_are_busy_the_new_one_waits() {
        let table = Table::new(LIMITS);
        let seats: Vec<_> = (0..100).map(|host| new(&table, key(host, 1))).collect();
        seats.iter().for_each(|(seat, _)| seat.heard(Instant::now()));
        assert!(matches!(table.admit(key(1000, 1), &request("f")), Admission::Full));
        let now = table.now() + 6000;
        assert!(table.entries().make_room(key(1000, 1).peer.ip(), LIMITS, now));
        assert_eq!(table.len(), 99);
    }

    #[test]
    fn the_same_question_and_another_one() {
        let table = Table::new(LIMITS);
        let (seat, mut inbox) = new(&table, key(1, 1));
        assert!(matches!(table.admit(key(1, 1), &request("f")), Admission::Known));
        assert_eq!(inbox.try_recv().unwrap(), Heard::AskedAgain);
        let Admission::New(other, _inbox) = table.admit(key(1, 1), &request("g")) else { panic!("not new") };
        assert_eq!(inbox.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
        drop(seat);
        assert_eq!(table.len(), 1, "the old one does not take the new one's place along");
        other.heard(Instant::now());
        assert!(!other.life.is_over(table.now()));
        assert!(other.life.is_over(table.now() + 1500));
        assert!(!table.tell(key(3, 3), Heard::Ack(1)));
    }
}
