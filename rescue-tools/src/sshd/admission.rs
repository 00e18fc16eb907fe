//! Who gets a process: at most so many connections, and few of them from people who have not logged in, so that
//! clients that connect and wait cannot keep anyone out. Who connects often waits ([`Rate`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::rate::Rate;

/// How many connections there are at most.
pub const CONNECTIONS: usize = 32;
/// How many of them may be from people who have not logged in.
pub const UNAUTHENTICATED: usize = 10;

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
    Unauthenticated,
    Authenticated,
    /// Told to leave, still there.
    Leaving,
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Ticket {
    /// Its number.
    pub number: u64,
    /// How long it has to wait until it is served.
    pub wait: Duration,
    /// Notified when it has to make room for another.
    pub leave: Arc<Notify>,
}

impl Admission {
    /// Lets a connection in. Where [`UNAUTHENTICATED`] ones wait already, the oldest of the address that has most of
    /// them goes: whoever floods pays, and a login always gets through. None: [`CONNECTIONS`] are logged in.
    pub fn admit(&mut self, from: IpAddr) -> Option<Ticket> {
        let waiting = self.count(State::Unauthenticated);
        if waiting >= UNAUTHENTICATED || (waiting > 0 && self.staying() >= CONNECTIONS) {
            self.make_room();
        }
        if self.staying() >= CONNECTIONS {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let leave = Arc::new(Notify::new());
        let entry = Entry { from, state: State::Unauthenticated, leave: leave.clone() };
        self.connections.insert(number, entry);
        Some(Ticket { number, wait: self.rate.wait(from, Instant::now()), leave })
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

    fn count(&self, state: State) -> usize {
        self.connections.values().filter(|entry| entry.state == state).count()
    }

    fn staying(&self) -> usize {
        self.connections.len() - self.count(State::Leaving)
    }

    fn make_room(&mut self) {
        let mut most: BTreeMap<IpAddr, (usize, u64)> = BTreeMap::new();
        for (number, entry) in &self.connections {
            if entry.state == State::Unauthenticated {
                most.entry(entry.from).or_insert((0, *number)).0 += 1;
            }
        }
        let oldest = most.into_values().max_by_key(|(count, oldest)| (*count, u64::MAX - oldest));
        if let Some(entry) = oldest.and_then(|(_, number)| self.connections.get_mut(&number)) {
            entry.state = State::Leaving;
            entry.leave.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn who_floods_makes_room_for_others() {
        let mut admission = Admission::default();
        let other = admission.admit(ip(1)).unwrap();
        let flood: Vec<Ticket> = (0..100).map(|_| admission.admit(ip(2)).unwrap()).collect();
        assert_eq!(admission.count(State::Unauthenticated), UNAUTHENTICATED);
        assert_eq!(admission.connections[&other.number].state, State::Unauthenticated);
        assert_eq!(admission.connections[&flood[0].number].state, State::Leaving);
        assert_eq!(admission.connections[&flood[99].number].state, State::Unauthenticated);
    }

    #[test]
    fn no_more_than_the_limit_are_logged_in() {
        let mut admission = Admission::default();
        for _ in 0..CONNECTIONS {
            let ticket = admission.admit(ip(1)).unwrap();
            admission.authenticated(ticket.number);
        }
        assert!(admission.admit(ip(2)).is_none());
        admission.left(7);
        let waiting = admission.admit(ip(2)).unwrap();
        // The last place is taken by one who has not logged in: it goes for the next.
        let next = admission.admit(ip(3)).unwrap();
        assert_eq!(admission.connections[&waiting.number].state, State::Leaving);
        assert_eq!(admission.connections[&next.number].state, State::Unauthenticated);
    }
}
