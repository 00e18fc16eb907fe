//! The DHCP client of one interface (RFC 2131, figure 5): asks until somebody answers, takes the best offer, renews the
//! lease, and starts over when it is lost. It has no last try. Time is tokio's and the network a [`Wire`], so that
//! `simulation` can let days go by.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout_at};

use super::chance::Chance;
use super::message::{Answer, Lease, Purpose, Transaction};
use super::offers::Offers;
use super::wire::Wire;

/// A lease, and since when it is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What was granted.
    pub lease: Lease,
    /// When it was asked for: from then on its time runs (RFC 2131, section 4.4.1).
    pub since: Instant,
}

impl Granted {
    /// How long it still is ours.
    pub fn left(&self) -> Duration {
        self.lease.lifetime.saturating_sub(self.since.elapsed())
    }

    /// When it ends.
    fn end(&self) -> Instant {
        self.since + self.lease.lifetime
    }
}

/// What the client has to say of its interface.
#[derive(Clone, Debug)]
pub enum News {
    /// A lease: new, or renewed.
    Bound(Granted),
    /// The lease is over.
    Lost,
    /// What it is doing, in words.
    State(String),
}

/// RFC 2131 section 4.1 begins with 4 seconds and ends with 64; a machine out of reach asks sooner and more often.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(16);
/// How long each request for a lease waits for its answer.
const REQUESTS: [Duration; 3] = [FIRST_WAIT, Duration::from_secs(2), Duration::from_secs(4)];
/// A renewal is asked for again after half of the time that is left (RFC 2131, section 4.4.5), but within these.
const RENEW_AGAIN: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(300));
/// After an address turned out to be taken (RFC 2131, section 3.1).
const AFTER_CONFLICT: Duration = Duration::from_secs(10);
/// So many are declined, one after the other. Who answers for every address must not keep us from having one.
const CONFLICTS: u32 = 3;

/// One interface's client.
pub struct Client {
    /// The interface's index, which goes with the news.
    pub index: u32,
    /// Its name.
    pub device: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// By what servers know it (option 61).
    pub client_id: Vec<u8>,
    /// Where the news go.
    pub news: Sender<(u32, News)>,
    /// A lease from before: of a predecessor of this process, or of another cable. Its address is in use meanwhile.
    pub held: Option<Granted>,
    /// For transactions' numbers and for pauses.
    pub chance: Chance,
}

impl Client {
    /// Runs for as long as the interface has a carrier; `open` gives the way to its network.
    pub async fn run<W: Wire>(self, open: impl Fn() -> Result<W> + Send) {
        let mut session = Session { client: self, broken: Vec::new(), conflicts: 0 };
        loop {
            let error = match open() {
                Ok(wire) => session.live(&wire).await.map_or_else(|error| error, |never| match never {}),
                Err(error) => error,
            };
            session.say(News::State(format!("DHCP: {error:#}; trying again"))).await;
            tracing::warn!("{}: DHCP: {error:#}; trying again", session.client.device);
            sleep(LAST_WAIT / 4).await;
        }
    }
}

/// The client at work.
struct Session {
    client: Client,
    /// Servers that did not keep what they offered: others come before them.
    broken: Vec<Ipv4Addr>,
    /// How many addresses in a row were taken.
    conflicts: u32,
}

impl Session {
    async fn live<W: Wire>(&mut self, wire: &W) -> Result<Infallible> {
        let mut granted = match self.confirm(wire).await? {
            Some(granted) => granted,
            None => self.acquire(wire).await?,
        };
        loop {
            self.client.held = Some(granted.clone());
            self.say(News::Bound(granted.clone())).await;
            granted = match self.keep(wire, &granted).await? {
                Some(renewed) => renewed,
                None => {
                    self.lose().await;
                    self.acquire(wire).await?
                }
            };
        }
    }

    async fn say(&self, news: News) {
        // Nobody listens any more only when the whole network child ends.
        let _ = self.client.news.send((self.client.index, news)).await;
    }

    async fn lose(&mut self) {
        if let Some(held) = self.client.held.take() {
            tracing::warn!("{}: the lease of {} is over", self.client.device, held.lease.address);
            self.say(News::Lost).await;
        }
    }

    /// Whether a lease from before is good here (INIT-REBOOT). `None`: ask for a new one; where nobody said no, the old
    /// one stays until it ends or a new one comes.
    async fn confirm<W: Wire>(&mut self, wire: &W) -> Result<Option<Granted>> {
        let Some(held) = self.client.held.clone().filter(|held| !held.left().is_zero()) else {
            self.lose().await;
            return Ok(None);
        };
        let address = held.lease.address;
        self.say(News::State(format!("DHCP: asking whether {address} is still ours"))).await;
        let (number, since) = (self.client.chance.number() as u32, Instant::now());
        for wait in REQUESTS {
            let until = Instant::now() + self.client.chance.about(wait);
            let transaction = self.client.transaction(number, since);
            wire.send(&transaction.request(&held.lease, Purpose::Confirm), Ipv4Addr::BROADCAST).await?;
            while let Some(answer) = hear(wire, &transaction, until).await? {
                match answer {
                    Answer::Ack(lease) if lease.address == address => {
                        return Ok(Some(Granted { lease, since }));
                    }
                    Answer::Nak(_) => {
                        self.lose().await;
                        return Ok(None);
                    }
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    /// DISCOVER, OFFER, REQUEST, ACK: for as long as it takes.
    async fn acquire<W: Wire>(&mut self, wire: &W) -> Result<Granted> {
        let began = Instant::now();
        let mut wait = FIRST_WAIT;
        let mut asked = 0;
        // One number for all: an offer may be slower than our patience.
        let number = self.client.chance.number() as u32;
        loop {
            let until = Instant::now() + self.client.chance.about(wait);
            if self.client.held.as_ref().is_some_and(|held| held.left().is_zero()) {
                self.lose().await;
            }
            let wanted = self.client.held.as_ref().map(|held| held.lease.address);
            let transaction = self.client.transaction(number, began);
            wire.send(&transaction.discover(wanted), Ipv4Addr::BROADCAST).await?;
            asked += 1;
            let mut offers = self.offers(wire, number, began, until, wanted).await?;
            let came = !offers.is_empty();
            while let Some(offer) = offers.next() {
                if let Some(granted) = self.take(wire, number, began, offer, &mut offers).await? {
                    return Ok(granted);
                }
            }
            let seconds = began.elapsed().as_secs();
            let words = match came {
                true => format!("DHCP: offers, and no lease, in {asked} requests and {seconds} s"),
                false => format!("DHCP: {asked} requests in {seconds} s without an answer"),
            };
            if asked % 4 == 0 {
                tracing::warn!("{}: {words}", self.client.device);
            }
            self.say(News::State(words)).await;
            // Also where answers came at once: a server that always says no is not to be asked without pause.
            rest(wire, until).await?;
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// What is offered until `until`, or until there is one that none could be better than.
    async fn offers<W: Wire>(
        &self,
        wire: &W,
        number: u32,
        began: Instant,
        until: Instant,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Offers> {
        let mut offers = Offers::new(wanted, self.broken.clone());
        let transaction = self.client.transaction(number, began);
        while let Some(answer) = hear(wire, &transaction, offers.patience().min(until)).await? {
            if let Answer::Offer(offer) = answer {
                offers.add(offer);
            }
        }
        Ok(offers)
    }

    /// Takes an offer. What others offer meanwhile goes to `others`. `None`: it is not to be had.
    async fn take<W: Wire>(
        &mut self,
        wire: &W,
        number: u32,
        began: Instant,
        offer: Lease,
        others: &mut Offers,
    ) -> Result<Option<Granted>> {
        let is_ours = self.client.held.as_ref().is_some_and(|held| held.lease.address == offer.address);
        // Beside each other: neither waits for the other.
        let (granted, taken) = tokio::join!(self.ask(wire, number, began, &offer, others), async {
            !is_ours
                && wire.is_taken(offer.address).await.unwrap_or_else(|error| {
                    tracing::debug!("looking whether {} is taken: {error:#}", offer.address);
                    false
                })
        });
        let Some(granted) = granted? else {
            tracing::warn!(
                "{}: {} offered {} and did not give it",
                self.client.device,
                offer.server,
                offer.address
            );
            self.broken.retain(|server| *server != offer.server);
            self.broken.push(offer.server);
            if self.broken.len() > Offers::MOST {
                self.broken.remove(0);
            }
            return Ok(None);
        };
        self.broken.retain(|server| *server != offer.server);
        if !taken {
            self.conflicts = 0;
            return Ok(Some(granted));
        }
        self.conflicts += 1;
        let words = format!("DHCP: another host has the address {} already", offer.address);
        tracing::warn!("{}: {words}", self.client.device);
        if self.conflicts > CONFLICTS {
            return Ok(Some(granted));
        }
        self.say(News::State(words)).await;
        let number = self.client.chance.number() as u32;
        let decline = self.client.transaction(number, Instant::now()).decline(&granted.lease);
        wire.send(&decline, Ipv4Addr::BROADCAST).await?;
        rest(wire, Instant::now() + AFTER_CONFLICT).await?;
        Ok(None)
    }

    async fn ask<W: Wire>(
        &mut self,
        wire: &W,
        number: u32,
        began: Instant,
        offer: &Lease,
        others: &mut Offers,
    ) -> Result<Option<Granted>> {
        let since = Instant::now();
        for wait in REQUESTS {
            let until = Instant::now() + self.client.chance.about(wait);
            let transaction = self.client.transaction(number, began);
            wire.send(&transaction.request(offer, Purpose::Take), Ipv4Addr::BROADCAST).await?;
            while let Some(answer) = hear(wire, &transaction, until).await? {
                match answer {
                    Answer::Ack(lease) if (lease.address, lease.server) == (offer.address, offer.server) => {
                        return Ok(Some(Granted { lease, since }));
                    }
                    // Another server's no does not concern this offer.
                    Answer::Nak(from) if from == Some(offer.server) => return Ok(None),
                    Answer::Offer(other) => others.add(other),
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    /// Waits for T1, then asks the server, from T2 on everybody, until the lease ends (RFC 2131 section 4.4.5). `None`: it
    /// is over.
    async fn keep<W: Wire>(&mut self, wire: &W, held: &Granted) -> Result<Option<Granted>> {
        let lease = &held.lease;
        rest(wire, held.since + lease.renew_after).await?;
        let rebind_at = held.since + lease.rebind_after;
        let mut told = false;
        while !held.left().is_zero() {
            let since = Instant::now();
            let rebinding = since >= rebind_at;
            let (to, end) =
                if rebinding { (Ipv4Addr::BROADCAST, held.end()) } else { (lease.server, rebind_at) };
            if rebinding && !told {
                told = true;
                let left = held.left().as_secs();
                let words =
                    format!("DHCP: {} does not answer; asking every server, {left} s are left", lease.server);
                tracing::warn!("{}: {words}", self.client.device);
                self.say(News::State(words)).await;
            }
            let number = self.client.chance.number() as u32;
            let transaction = self.client.transaction(number, since);
            // A server out of reach is no failure yet.
            let _ = wire.send(&transaction.request(lease, Purpose::Renew), to).await;
            let half = (end - since) / 2;
            let wait = self.client.chance.about(half.clamp(RENEW_AGAIN.0, RENEW_AGAIN.1));
            let transaction = self.client.transaction(number, since);
            while let Some(answer) = hear(wire, &transaction, (since + wait).min(held.end())).await? {
                match answer {
                    Answer::Ack(renewed) if renewed.address == lease.address => {
                        return Ok(Some(Granted { lease: renewed, since }));
                    }
                    Answer::Nak(from) if rebinding || from == Some(lease.server) => return Ok(None),
                    _ => {}
                }
            }
        }
        Ok(None)
    }
}

impl Client {
    fn transaction(&self, id: u32, began: Instant) -> Transaction<'_> {
        let seconds = u16::try_from(began.elapsed().as_secs()).unwrap_or(u16::MAX);
        Transaction { mac: self.mac, client_id: &self.client_id, id, seconds }
    }
}

/// The next answer to the transaction until `until`.
async fn hear<W: Wire>(wire: &W, transaction: &Transaction<'_>, until: Instant) -> Result<Option<Answer>> {
    let mut buffer = [0; 1500];
    // Looked at each time: where packets come without pause a timeout alone would never be.
    while Instant::now() < until {
        let Ok(received) = timeout_at(until, wire.receive(&mut buffer)).await else { return Ok(None) };
        if let Some(answer) = buffer.get(..received?).and_then(|packet| transaction.read(packet)) {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

/// Waits, and drops what comes meanwhile: others' packets must not fill the socket when an answer is waited for.
async fn rest<W: Wire>(wire: &W, until: Instant) -> Result<()> {
    let mut buffer = [0; 1500];
    while let Ok(received) = timeout_at(until, wire.receive(&mut buffer)).await {
        received.context("waiting")?;
        if Instant::now() >= until {
            break;
        }
    }
    Ok(())
}
