//! Who gets a process: at most so many connections, and few of them from people who have not logged in, so that
//! clients that connect and wait cannot keep anyone out. Who connects often waits ([`Rate`]), and so does who comes while
//! others are being let in: a burst of honest logins goes through one after the other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::rate::Rate;

/// How many connections are served at most.
pub const CONNECTIONS: usize = 32;
/// How many of them may be from people who have not logged in.
pub const UNAUTHENTICATED: usize = 10;
/// How many wait to be served.
pub const QUEUE: usize = 64;
/// For so long nobody who is logging in has to make room for another one from the same address. A login takes a
/// fraction of it.
pub const GRACE: Duration = Duration::from_secs(10);

/// The connections that there are.
#[derive(Debug, Default)]
pub struct Admission {
    next: u64,
    connections: BTreeMap<u64, Entry>,
    rate: Rate,
}

#[derive(Debug)]
struct Entry {
    from: IpAddr,
    state: State,
    leave: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    /// Served since then, and not logged in.
    Unauthenticated(Instant),
    Authenticated,
    /// Told to leave, still there.
    Leaving,
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Ticket {
    /// Its number.
    pub number: u64,
    /// How long it has to wait until it may ask for its turn.
    pub wait: Duration,
    /// Notified when it has to make room for another.
    pub leave: Arc<Notify>,
}

/// Whether it is a connection's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is: serve it.
    Now,
    /// Ask again when something changes, or then.
    Later(Instant),
    /// There is no room, and none is to be expected.
    Never,
}

impl Admission {
    /// Puts a connection into the queue. Where that is full, the oldest of the address that has most in it goes.
    /// None: [`CONNECTIONS`] are logged in.
    pub fn admit(&mut self, from: IpAddr, now: Instant) -> Option<Ticket> {
        if self.count(|state| state == State::Authenticated) >= CONNECTIONS {
            return None;
        }
        if self.count(|state| state == State::Queued) >= QUEUE
            && let Some((number, _)) = self.oldest_of_most(|state| state == State::Queued)
        {
            self.send_away(number);
        }
        let number = self.next;
        self.next += 1;
        let leave = Arc::new(Notify::new());
        self.connections.insert(number, Entry { from, state: State::Queued, leave: leave.clone() });
        Some(Ticket { number, wait: self.rate.wait(from, now), leave })
    }

    /// Whether it is the turn of the connection `number`; with [`Turn::Now`] it counts as served. Where
    /// [`UNAUTHENTICATED`] are served that have not logged in, the oldest of the address that has most of them makes
    /// room: whoever floods pays, and a login always gets through.
    pub fn turn(&mut self, number: u64, now: Instant) -> Turn {
        let authenticated = self.count(|state| state == State::Authenticated);
        if authenticated >= CONNECTIONS {
            return Turn::Never;
        }
        let room = UNAUTHENTICATED.min(CONNECTIONS - authenticated);
        if self.count(is_unauthenticated) >= room {
            let Some((oldest, since)) = self.oldest_of_most(is_unauthenticated) else { return Turn::Never };
            if self.from(oldest) == self.from(number) && now < since + GRACE {
                return Turn::Later(since + GRACE);
            }
            self.send_away(oldest);
        }
        match self.connections.get_mut(&number) {
            Some(entry) if entry.state == State::Queued => {
                entry.state = State::Unauthenticated(now);
                Turn::Now
            }
            _ => Turn::Never,
        }
    }

    /// The connection has logged in.
    pub fn authenticated(&mut self, number: u64) {
        if let Some(entry) = self.connections.get_mut(&number) {
            entry.state = State::Authenticated;
        }
    }

    /// The connection is over.
    pub fn left(&mut self, number: u64) {
        self.connections.remove(&number);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    fn count(&self, wanted: impl Fn(State) -> bool) -> usize {
        self.connections.values().filter(|entry| wanted(entry.state)).count()
    }

    fn from(&self, number: u64) -> Option<IpAddr> {
        self.connections.get(&number).map(|entry| entry.from)
    }

    fn send_away(&mut self, number: u64) {
        if let Some(entry) = self.connections.get_mut(&number) {
            entry.state = State::Leaving;
            entry.leave.notify_one();
        }
    }

    /// Of the connections in a wanted state: the oldest of the address that has most, and since when it is served.
    fn oldest_of_most(&self, wanted: impl Fn(State) -> bool) -> Option<(u64, Instant)> {
        let mut most: BTreeMap<IpAddr, (usize, u64, Instant)> = BTreeMap::new();
        for (number, entry) in self.connections.iter().filter(|(_, entry)| wanted(entry.state)) {
            let since = match entry.state {
                State::Unauthenticated(since) => since,
                _ => Instant::now(),
            };
            most.entry(entry.from).or_insert((0, *number, since)).0 += 1;
        }
        let oldest = most.into_values().max_by_key(|(count, oldest, _)| (*count, u64::MAX - oldest));
        oldest.map(|(_, number, since)| (number, since))
    }
}

fn is_unauthenticated(state: State) -> bool {
    matches!(state, State::Unauthenticated(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn state(admission: &Admission, ticket: &Ticket) -> State {
        admission.connections[&ticket.number].state
    }

    fn served(admission: &mut Admission, from: IpAddr, now: Instant) -> Ticket {
        let ticket = admission.admit(from, now).unwrap();
        assert_eq!(admission.turn(ticket.number, now), Turn::Now);
        ticket
    }

    #[test]
    fn who_floods_makes_room_for_others() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        let flood: Vec<Ticket> = (0..UNAUTHENTICATED).map(|_| served(&mut admission, ip(2), now)).collect();
        let more = admission.admit(ip(2), now).unwrap();
        assert_eq!(admission.turn(more.number, now), Turn::Later(now + GRACE), "its own have some time");
        let other = served(&mut admission, ip(1), now);
        assert_eq!(state(&admission, &flood[0]), State::Leaving, "another's goes in at once");
        let later = now + GRACE;
        assert_eq!(admission.turn(more.number, later), Turn::Now);
        assert_eq!(state(&admission, &flood[1]), State::Leaving);
        assert_eq!(state(&admission, &other), State::Unauthenticated(now));
        assert_eq!(admission.count(is_unauthenticated), UNAUTHENTICATED);
    }

    #[test]
    fn a_burst_of_logins_goes_through() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        let burst: Vec<Ticket> = (0..CONNECTIONS).map(|_| admission.admit(ip(1), now).unwrap()).collect();
        for (index, ticket) in burst.iter().enumerate() {
            let turn = admission.turn(ticket.number, now);
            assert_eq!(turn == Turn::Now, index < UNAUTHENTICATED, "{index}: {turn:?}");
        }
        for ticket in &burst {
            let _ = admission.turn(ticket.number, now);
            assert!(is_unauthenticated(state(&admission, ticket)), "{}", ticket.number);
            admission.authenticated(ticket.number);
        }
        assert!(admission.admit(ip(2), now).is_none());
    }

    #[test]
    fn no_more_than_the_limit_are_served() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        for _ in 1..CONNECTIONS {
            let ticket = served(&mut admission, ip(1), now);
            admission.authenticated(ticket.number);
        }
        let waiting = served(&mut admission, ip(2), now);
        // The last place is taken by one who has not logged in: it goes for the next.
        let next = served(&mut admission, ip(3), now);
        assert_eq!(state(&admission, &waiting), State::Leaving);
        let queued = admission.admit(ip(4), now).unwrap();
        admission.authenticated(next.number);
        assert_eq!(admission.turn(queued.number, now), Turn::Never);
        admission.left(7);
        assert_eq!(admission.turn(queued.number, now), Turn::Now);
    }

    #[test]
    fn the_queue_is_bounded_and_the_flood_leaves_it() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        let other = admission.admit(ip(1), now).unwrap();
        let flood: Vec<Ticket> = (0..1000).map(|_| admission.admit(ip(2), now).unwrap()).collect();
        assert_eq!(admission.count(|state| state == State::Queued), QUEUE);
        assert_eq!(state(&admission, &other), State::Queued);
        assert_eq!(state(&admission, &flood[0]), State::Leaving);
        assert_eq!(admission.turn(flood[0].number, now), Turn::Never);
    }
}
