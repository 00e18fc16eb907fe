//! The DHCPv6 client of one interface: asks until somebody answers, takes the lease, renews it, and starts over when it is
//! lost. It has no last try.

use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::answer::{Answer, Lease, Received, Status, read};
use super::options::Information;
use super::question::{Identity, Kind, Question};
use super::retransmission::{Retransmission, chance};
use super::wire::Wire;

/// What the client has to say of its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A lease: new, or renewed.
    Bound(Lease),
    /// What the site says, without an address.
    Informed(Information),
    /// The lease is over.
    Lost,
    /// What it is doing, in words.
    State(String),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wants {
    /// Name servers and the like.
    Information,
    /// Addresses too.
    Addresses,
}

/// RFC 8415 section 7.6: the first wait of each exchange, and the longest. A machine out of reach does not wait an hour for a
/// server that comes late (SOL_MAX_RT): two minutes, as in RFC 3315, unless the server says otherwise.
const FIRST: Duration = Duration::from_secs(1);
const SOLICIT_LONGEST: Duration = Duration::from_secs(120);
const REQUEST_LONGEST: Duration = Duration::from_secs(30);
const RENEW_FIRST: Duration = Duration::from_secs(10);
const RENEW_LONGEST: Duration = Duration::from_secs(600);
/// How often an offer is requested before all starts over, half a minute in all: another server may be alive.
const REQUESTS: u32 = 5;
/// DEC_MAX_RC.
const DECLINES: u32 = 4;
/// An address that somebody else has is not asked for again at once (RFC 2131 section 3.1 has the same for IPv4).
pub(super) const AFTER_DECLINE: Duration = Duration::from_secs(10);
/// So soon the kernel is asked again to send what it could not: the link-local address takes a second or two to be ours.
const CANNOT_SEND: Duration = Duration::from_millis(500);

/// One interface's client.
pub struct Client<W> {
    /// The interface's index, which goes with the news.
    pub index: u32,
    /// Its name.
    pub device: String,
    /// As whom it asks.
    pub who: Identity,
    /// What it asks for.
    pub wants: Wants,
    /// What it had before the link went away: it is asked for again.
    pub previous: Option<Lease>,
    /// The way to the servers.
    pub wire: W,
    /// Where the news go.
    pub news: Sender<(u32, News)>,
    /// Addresses of the lease that another machine on the link has.
    pub taken: Receiver<Ipv6Addr>,
}

/// How a lease goes on.
enum Next {
    Renewed(Lease),
    /// Nobody knows of it; the addresses stay until others come or their time is over.
    Unknown,
    Over,
}

/// When an exchange ends without an answer.
#[derive(Clone, Copy, Default)]
struct Limit {
    questions: Option<u32>,
    until: Option<Instant>,
}

impl<W: Wire> Client<W> {
    /// Runs for as long as the interface has a carrier.
    pub async fn run(mut self) {
        // Machines that get their power together do not ask together (RFC 8415 section 18.2.1).
        sleep(FIRST.mul_f64(chance().abs())).await;
        loop {
            let done = match self.wants {
                Wants::Information => self.inform().await,
                Wants::Addresses => self.lease_after_lease().await,
            };
            if let Err(error) = done {
                self.say(News::State(format!("DHCPv6: {error:#}; trying again"))).await;
                tracing::warn!("{}: DHCPv6: {error:#}; trying again", self.device);
                sleep(FIRST * 4).await;
            }
        }
    }

    async fn say(&self, news: News) {
        // Nobody listens any more only when the whole network child ends.
        let _ = self.news.send((self.index, news)).await;
    }

    async fn inform(&mut self) -> Result<()> {
        loop {
            let mut times = Retransmission::new(FIRST, SOLICIT_LONGEST);
            let answer = self.exchange(Kind::InformationRequest, None, &mut times, Limit::default()).await?;
            if let Some(Answer::Nothing(_, information, refresh)) = answer {
                self.say(News::Informed(information)).await;
                sleep(refresh).await;
            }
        }
    }

    async fn lease_after_lease(&mut self) -> Result<()> {
        let mut previous = self.previous.take();
        loop {
            let mut lease = self.acquire(previous.as_ref()).await?;
            loop {
                let began = Instant::now();
                self.say(News::Bound(lease.clone())).await;
                match self.hold(&lease, began).await? {
                    Next::Renewed(renewed) => lease = renewed,
                    Next::Unknown => {
                        previous = Some(lease);
                        break;
                    }
                    Next::Over => {
                        tracing::warn!("{}: the DHCPv6 lease is over", self.device);
                        self.say(News::Lost).await;
                        previous = None;
                        break;
                    }
                }
            }
        }
    }

    /// Solicit, Advertise, Request, Reply: for as long as it takes.
    async fn acquire(&mut self, previous: Option<&Lease>) -> Result<Lease> {
        let mut times = Retransmission::new(FIRST, SOLICIT_LONGEST);
        loop {
            let answer = self.exchange(Kind::Solicit, previous, &mut times, Limit::default()).await?;
            let offer = match answer {
                Some(Answer::Granted(lease)) => return Ok(lease),
                Some(Answer::Offer(offer, _)) => offer,
                _ => continue,
            };
            let mut asked = Retransmission::new(FIRST, REQUEST_LONGEST);
            let limit = Limit { questions: Some(REQUESTS), until: None };
            match self.exchange(Kind::Request, Some(&offer), &mut asked, limit).await? {
                Some(Answer::Granted(lease)) => return Ok(lease),
                // A server that offers and refuses is not asked without pause.
                Some(_) => sleep(times.wait(chance())).await,
                None => {}
            }
        }
    }

    /// Keeps a lease until it is renewed or over (RFC 8415 sections 18.2.4 and 18.2.5).
    async fn hold(&mut self, lease: &Lease, began: Instant) -> Result<Next> {
        let end = lease.lifetime.map(|lifetime| began + lifetime);
        let by = |time: Instant| end.map_or(time, |end| end.min(time));
        tokio::select! {
            () = sleep_until(by(began + lease.renew_after)) => {}
            Some(address) = taken_of(&mut self.taken, lease) => return self.decline(lease, address).await,
        }
        for (kind, until) in [(Kind::Renew, Some(by(began + lease.rebind_after))), (Kind::Rebind, end)] {
            let mut times = Retransmission::new(RENEW_FIRST, RENEW_LONGEST);
            let limit = Limit { questions: None, until };
            match self.exchange(kind, Some(lease), &mut times, limit).await? {
                Some(Answer::Granted(renewed)) => return Ok(Next::Renewed(renewed)),
                Some(Answer::Nothing(Status::NoBinding, ..)) => return Ok(Next::Unknown),
                Some(_) => return Ok(Next::Over),
                None => {}
            }
        }
        Ok(Next::Over)
    }

    /// Another machine has the address: the server is told, so that it gives another one (RFC 8415 section 18.2.8).
    async fn decline(&mut self, lease: &Lease, address: Ipv6Addr) -> Result<Next> {
        let words = format!("DHCPv6: another machine has {address}, asking for another one");
        tracing::warn!("{}: {words}", self.device);
        self.say(News::State(words)).await;
        let mut declined = lease.clone();
        declined.addresses.retain(|one| one.address == address);
        let mut times = Retransmission::new(FIRST, REQUEST_LONGEST);
        let limit = Limit { questions: Some(DECLINES), until: None };
        self.exchange(Kind::Decline, Some(&declined), &mut times, limit).await?;
        self.say(News::Lost).await;
        sleep(AFTER_DECLINE).await;
        Ok(Next::Over)
    }

    /// Asks until an answer settles it, or the limit is there.
    async fn exchange(
        &self,
        kind: Kind,
        lease: Option<&Lease>,
        times: &mut Retransmission,
        limit: Limit,
    ) -> Result<Option<Answer>> {
        let mut id = [0; 3];
        rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::INSECURE)
            .context("choosing a number")?;
        let question = Question { kind, id, who: &self.who, lease };
        let began = Instant::now();
        let mut asked = 0;
        while limit.questions.is_none_or(|most| asked < most)
            && limit.until.is_none_or(|until| Instant::now() < until)
        {
            let hundredths = u16::try_from(began.elapsed().as_millis() / 10).unwrap_or(u16::MAX);
            if let Err(error) = self.wire.send(&question.encode(hundredths)).await {
                self.say(News::State(format!("DHCPv6: sending: {error}"))).await;
                sleep(CANNOT_SEND).await;
                // Whoever counts questions has a limit, and the kernel may never be able to.
                asked += u32::from(limit.questions.is_some());
                continue;
            }
            asked += 1;
            let end = Instant::now() + times.wait(chance());
            let end = limit.until.map_or(end, |until| until.min(end));
            let heard = self.hear(&question, end, asked == 1).await?;
            if let Some(longest) = heard.longest_wait {
                times.set_longest(longest);
            }
            if heard.settled.is_some() {
                return Ok(heard.settled);
            }
            let words = words(kind, asked, began.elapsed(), heard.status);
            if asked.is_multiple_of(4) {
                tracing::warn!("{}: {words}", self.device);
            }
            self.say(News::State(words)).await;
        }
        Ok(None)
    }

    /// Listens until an answer settles the question. In its first time, offers are compared (RFC 8415 section 18.2.1).
    async fn hear(&self, question: &Question<'_>, end: Instant, compare: bool) -> Result<Heard> {
        let mut heard = Heard::default();
        let mut best: Option<(Lease, u8)> = None;
        let mut buffer = [0; 1500];
        while let Ok(received) = timeout_at(end, self.wire.receive(&mut buffer)).await {
            let count = received.context("receiving on port 546")?;
            let message = buffer.get(..count).and_then(|message| read(message, question.id, question.who));
            let Some(Received { answer, longest_wait }) = message else { continue };
            heard.longest_wait = longest_wait.or(heard.longest_wait);
            match answer {
                Answer::Offer(lease, preference) if question.kind == Kind::Solicit => {
                    if preference == 255 || !compare {
                        heard.settled = Some(Answer::Offer(lease, preference));
                        return Ok(heard);
                    }
                    if best.as_ref().is_none_or(|(_, known)| preference > *known) {
                        best = Some((lease, preference));
                    }
                }
                Answer::Offer(..) => {}
                answer if settles(question.kind, &answer) => {
                    heard.settled = Some(answer);
                    return Ok(heard);
                }
                Answer::Nothing(status, ..) => heard.status = Some(status),
                Answer::Granted(_) => {}
            }
        }
        heard.settled = best.map(|(lease, preference)| Answer::Offer(lease, preference));
        Ok(heard)
    }
}

#[derive(Default)]
struct Heard {
    settled: Option<Answer>,
    /// What a server said that settles nothing.
    status: Option<Status>,
    longest_wait: Option<Duration>,
}

/// Whether an answer ends the exchange.
fn settles(kind: Kind, answer: &Answer) -> bool {
    use Status::{NoAddress, NoBinding, NotOnLink};
    match (kind, answer) {
        (Kind::Decline, _) | (Kind::InformationRequest, Answer::Nothing(..)) => true,
        (Kind::InformationRequest, _) => false,
        (_, Answer::Granted(_)) => true,
        (Kind::Request, Answer::Nothing(NoAddress | NoBinding | NotOnLink, ..)) => true,
        (Kind::Renew | Kind::Rebind, Answer::Nothing(NoBinding | NotOnLink, ..)) => true,
        _ => false,
    }
}

/// The next address of this lease that another machine has.
async fn taken_of(taken: &mut Receiver<Ipv6Addr>, lease: &Lease) -> Option<Ipv6Addr> {
    while let Some(address) = taken.recv().await {
        if lease.addresses.iter().any(|one| one.address == address) {
            return Some(address);
        }
    }
    None
}

fn words(kind: Kind, asked: u32, since: Duration, status: Option<Status>) -> String {
    let requests = if asked == 1 { "request" } else { "requests" };
    let what = match kind {
        Kind::Renew | Kind::Rebind => " for a longer lease",
        Kind::InformationRequest => " for information",
        _ => "",
    };
    match status {
        None => format!("DHCPv6: {asked} {requests}{what} in {} s without an answer", since.as_secs()),
        Some(Status::Success) => {
            format!("DHCPv6: {asked} {requests}{what}; a server answers without an address")
        }
        Some(status) => format!("DHCPv6: {asked} {requests}{what}; a server says: {status}"),
    }
}
