//! Places for a limited number of clients, shared out fairly among their addresses.
//!
//! While there is room, an address may hold as many as it likes: a whole site may come from behind one address translation.
//! When all are taken, who holds few of them gets one of those who hold many. What waits for its client goes before what is
//! being answered, and what has waited longest goes first, so that connections that are only held open keep nobody out.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A client that has just come is not sent away for one that holds nearly as little: it may be about to ask.
const FRESH: Duration = Duration::from_secs(5);
/// An answer that has taken so long may end for a client whose address holds nothing: a slow reader goes on by Range, and many
/// addresses with one slow reader each keep nobody out.
const LONG: Duration = Duration::from_secs(600);
/// How often the log says that all are taken.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// All places of one kind.
#[derive(Debug)]
pub struct Seats {
    /// What they are, for the log: `connections`.
    what: &'static str,
    most: usize,
    table: Mutex<Table>,
}

/// Who sits where, in orders that know at once who leaves next, however many there are: a flood comes in by thousands a second.
#[derive(Debug, Default)]
struct Table {
    by_number: HashMap<u64, Sitting>,
    clients: HashMap<IpAddr, Client>,
    /// Of each client that has such, the seat that has waited longest.
    waiting: BTreeSet<Rank>,
    /// Of each client that has such, the seat that has been answered longest.
    answered: BTreeSet<Rank>,
    next: u64,
    complained: Option<Instant>,
}

/// How many seats its client holds, since when it waits or is answered, its number. The first leaves first.
type Rank = (Reverse<usize>, Instant, u64);

/// An address's seats.
#[derive(Debug, Default)]
struct Client {
    waiting: BTreeSet<(Instant, u64)>,
    answered: BTreeSet<(Instant, u64)>,
}

impl Client {
    fn held(&self) -> usize {
        self.waiting.len() + self.answered.len()
    }

    fn seats(&mut self, is_answered: bool) -> &mut BTreeSet<(Instant, u64)> {
        if is_answered { &mut self.answered } else { &mut self.waiting }
    }
}

#[derive(Debug)]
struct Sitting {
    address: IpAddr,
    is_answered: bool,
    /// Since when it waits for its client, or is answered.
    since: Instant,
    leave: Arc<Notify>,
}

/// A place that a client holds; free again when this is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    number: u64,
    leave: Arc<Notify>,
}

/// A time in which a client is answered.
#[derive(Debug)]
pub struct Answering(Arc<Seat>);

impl Seats {
    /// So many of them.
    pub fn new(what: &'static str, most: usize) -> Arc<Self> {
        Arc::new(Self { what, most, table: Mutex::default() })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.table().by_number.len()
    }

    /// A place for a client that has come; another one may have to leave for it. `None`: it is this one that has to go.
    pub fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Seat> {
        let address = address.to_canonical();
        let mut table = self.table();
        if table.by_number.len() >= self.most {
            let leaves = table.first_to_leave(address, now);
            if table.complained.is_none_or(|last| now.saturating_duration_since(last) >= COMPLAIN_EVERY) {
                table.complained = Some(now);
                self.complain(&table);
            }
            if let Some(sitting) = table.take(leaves?) {
                sitting.leave.notify_one();
            }
        }
        let (number, leave) = (table.next, Arc::new(Notify::new()));
        table.next += 1;
        table.put(number, Sitting { address, is_answered: false, since: now, leave: leave.clone() });
        Some(Seat { seats: self.clone(), number, leave })
    }

    fn complain(&self, table: &Table) {
        let held = |(address, client): (&IpAddr, &Client)| (client.held(), *address);
        let Some((held, address)) = table.clients.iter().map(held).max() else { return };
        tracing::warn!(
            "all {} {} are taken, {held} of them by {address}: who holds most has to give some to others",
            self.most,
            self.what
        );
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Who leaves, for a client that has come (`it_is_the_first_of_all` in the tests has the rule without the orders).
    fn first_to_leave(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let client = self.clients.get(&address);
        let own = client.map_or(0, Client::held);
        // Where the first of an order may stay, all others may: they hold no more, or as much and for a shorter time.
        let goes = |order: &BTreeSet<Rank>, patience| {
            let (Reverse(held), since, number) = order.first().copied()?;
            let is_over = now.saturating_duration_since(since) >= patience;
            (held >= own + 2 || held > own && is_over).then_some(number)
        };
        goes(&self.waiting, FRESH)
            .or_else(|| client?.waiting.first().map(|(_, number)| *number))
            .or_else(|| goes(&self.answered, LONG))
    }

    fn put(&mut self, number: u64, sitting: Sitting) {
        let seat = (sitting.since, number);
        self.change(sitting.address, |client| client.seats(sitting.is_answered).insert(seat));
        self.by_number.insert(number, sitting);
    }

    fn take(&mut self, number: u64) -> Option<Sitting> {
        let sitting = self.by_number.remove(&number)?;
        let seat = (sitting.since, number);
        self.change(sitting.address, |client| client.seats(sitting.is_answered).remove(&seat));
        Some(sitting)
    }

    /// Changes what a client holds, and its ranks with it.
    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Client) -> bool) {
        let client = self.clients.entry(address).or_default();
        let ranks = |client: &Client| {
            let rank = |seats: &BTreeSet<(Instant, u64)>| {
                seats.first().map(|(since, number)| (Reverse(client.held()), *since, *number))
            };
            (rank(&client.waiting), rank(&client.answered))
        };
        let before = ranks(client);
        change(client);
        let after = ranks(client);
        if client.held() == 0 {
            self.clients.remove(&address);
        }
        for (order, before, after) in
            [(&mut self.waiting, before.0, after.0), (&mut self.answered, before.1, after.1)]
        {
            before.map(|rank| order.remove(&rank));
            after.map(|rank| order.insert(rank));
        }
    }
}

impl Seat {
    /// Waits until the place is needed for another client: for ever, mostly.
    pub async fn lost(&self) {
        self.leave.notified().await;
    }

    /// From now on, until what this gives is dropped, the client is being answered.
    pub fn answering(self: &Arc<Self>) -> Answering {
        self.mark(true);
        Answering(self.clone())
    }

    fn mark(&self, is_answered: bool) {
        let mut table = self.seats.table();
        if let Some(sitting) = table.take(self.number) {
            table.put(self.number, Sitting { is_answered, since: Instant::now(), ..sitting });
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.table().take(self.number);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.mark(false);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    /// So many seats for one client, a second apart.
    fn sit(seats: &Arc<Seats>, who: u8, count: u64, start: Instant) -> Vec<Arc<Seat>> {
        let one = |number| seats.admit(address(who), start + Duration::from_secs(number));
        (0..count).map(|number| Arc::new(one(number).unwrap())).collect()
    }

    fn is_lost(seat: &Seat) -> bool {
        !seat.seats.table().by_number.contains_key(&seat.number)
    }

    fn lost(seats: &[Arc<Seat>]) -> Vec<usize> {
        (0..seats.len()).filter(|at| is_lost(&seats[*at])).collect()
    }

    #[test]
    fn one_address_may_have_all_until_others_come() {
        let (seats, start) = (Seats::new("seats", 4), Instant::now());
        let many = sit(&seats, 1, 4, start);
        let one = seats.admit(address(2), start).unwrap();
        assert_eq!((lost(&many), is_lost(&one)), (vec![0], false), "the longest that waits goes");
        let more = seats.admit(address(1), start).unwrap();
        assert_eq!(lost(&many), [0, 1], "who holds most makes room for itself");
        assert!(!is_lost(&one) && !is_lost(&more));
        assert_eq!(seats.taken(), 4);
        drop((many, one, more));
        let table = seats.table();
        assert!(table.clients.is_empty() && table.waiting.is_empty() && table.answered.is_empty());
    }

    #[test]
    fn who_is_answered_stays_longer() {
        let (seats, start) = (Seats::new("seats", 3), Instant::now());
        let many = sit(&seats, 1, 3, start);
        let answers: Vec<_> = many[..2].iter().map(Seat::answering).collect();
        let second = seats.admit(address(2), start).unwrap();
        assert_eq!(lost(&many), [2]);
        assert!(seats.admit(address(1), start).is_none(), "all of its own are answered");
        assert!(seats.admit(address(1), start + LONG).is_none(), "nor is it sent away for itself");
        let third = seats.admit(address(3), start).unwrap();
        assert_eq!(lost(&many).len(), 2, "it holds two more than who comes");
        // Each holds one, and all are answered or fresh.
        assert!(seats.admit(address(4), start).is_none());
        assert!(seats.admit(address(4), start + FRESH).is_some(), "and then they only wait");
        assert_eq!([&second, &third].iter().filter(|seat| is_lost(seat)).count(), 1);
        // Nor do answers stay for ever that hardly get on.
        let (seats, start) = (Seats::new("seats", 2), Instant::now());
        let slow: Vec<_> = [1, 2].map(|who| sit(&seats, who, 1, start)).into_iter().flatten().collect();
        let slow_answers: Vec<_> = slow.iter().map(Seat::answering).collect();
        assert!(seats.admit(address(3), start + LONG / 2).is_none());
        let fresh = seats.admit(address(3), Instant::now() + LONG);
        assert!(fresh.is_some() && lost(&slow).len() == 1);
        drop((slow_answers, fresh));
        drop(answers);
        assert!(many.iter().all(|seat| seat.seats.table().by_number.values().all(|s| !s.is_answered)));
    }

    #[test]
    fn an_ipv4_address_is_one_however_it_is_written() {
        let (seats, start) = (Seats::new("seats", 2), Instant::now());
        let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped());
        let both = [seats.admit(address(1), start), seats.admit(mapped, start)];
        assert_eq!(seats.table().clients.get(&address(1)).map(Client::held), Some(2));
        drop(both);
    }

    #[tokio::test]
    async fn who_has_to_leave_hears_of_it() {
        let (seats, start) = (Seats::new("seats", 1), Instant::now());
        let first = seats.admit(address(1), start).unwrap();
        let _second = seats.admit(address(1), start).unwrap();
        first.lost().await;
    }

    /// The rule, with all seats looked at.
    fn first_of_all(table: &Table, client: IpAddr, now: Instant) -> Option<u64> {
        let held = |client: &IpAddr| table.clients.get(client).map_or(0, Client::held);
        let own = held(&client);
        let may_go = |(number, sitting): (&u64, &Sitting)| {
            let (held, since) = (held(&sitting.address), now.saturating_duration_since(sitting.since));
            let may = match sitting.is_answered {
                true => held >= own + 2 || held > own && since >= LONG,
                false => sitting.address == client || held >= own + 2 || held > own && since >= FRESH,
            };
            may.then_some((!sitting.is_answered, held, since, Reverse(*number)))
        };
        table.by_number.iter().filter_map(may_go).max().map(|(.., Reverse(number))| number)
    }

    proptest! {
        #[test]
        fn it_is_the_first_of_all(steps in proptest::collection::vec((0_u8..5, 0_u8..6, any::<bool>()), 0..80)) {
            let (start, mut table) = (Instant::now(), Table::default());
            let mut now = start;
            for (number, (kind, who, is_answered)) in steps.into_iter().enumerate() {
                now += [Duration::ZERO, Duration::from_secs(2), LONG / 3][number % 3];
                let some = table.by_number.keys().min().copied();
                match (kind, some) {
                    (0, Some(old)) => drop(table.take(old)),
                    (1, Some(old)) => {
                        let sitting = table.take(old).unwrap();
                        table.put(old, Sitting { is_answered, since: now, ..sitting });
                    }
                    _ => table.put(number as u64, Sitting { address: address(who), is_answered, since: now, leave: Arc::default() }),
                }
                for who in 0..6 {
                    prop_assert_eq!(table.first_to_leave(address(who), now), first_of_all(&table, address(who), now));
                }
            }
            for number in table.by_number.keys().copied().collect::<Vec<_>>() {
                table.take(number);
            }
            prop_assert!(table.clients.is_empty() && table.waiting.is_empty() && table.answered.is_empty());
        }
    }
}
