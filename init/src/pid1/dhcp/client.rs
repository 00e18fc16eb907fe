//! The DHCP client of one interface: asks until somebody answers, takes the lease, renews it, and starts over when it is
//! lost. It has no last try.
//!
//! It speaks through an ordinary UDP socket that is bound to the interface, and asks servers to answer by broadcast while
//! it has no address (RFC 2131 section 4.1), so that no packet socket and no IP header of our own are needed.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep_until, timeout_at};

use super::message::{Answer, Lease, Purpose, Transaction};

/// What the client has to say of its interface.
#[derive(Clone, Debug)]
pub enum News {
    /// A lease: new, or renewed.
    Bound(Lease),
    /// The lease is over.
    Lost,
    /// What it is doing, in words.
    State(String),
}

/// RFC 2131 section 4.1 begins with 4 seconds and ends with 64; a machine out of reach asks sooner and more often.
const FIRST_WAIT: Duration = Duration::from_millis(1000);
const LAST_WAIT: Duration = Duration::from_secs(16);
/// How often an offer is requested before all starts over.
const REQUESTS: u32 = 4;

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
}

impl Client {
    /// Runs for as long as the interface has a carrier.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.lease_after_lease().await {
                self.say(News::State(format!("DHCP: {error:#}; trying again"))).await;
                tracing::warn!("{}: DHCP: {error:#}; trying again", self.device);
                tokio::time::sleep(LAST_WAIT / 4).await;
            }
        }
    }

    async fn say(&self, news: News) {
        // Nobody listens any more only when the whole network child ends.
        let _ = self.news.send((self.index, news)).await;
    }

    async fn lease_after_lease(&self) -> Result<()> {
        let socket = open(&self.device).with_context(|| format!("opening UDP port 68 on {}", self.device))?;
        loop {
            let mut lease = self.acquire(&socket).await?;
            loop {
                let began = Instant::now();
                self.say(News::Bound(lease.clone())).await;
                sleep_until((began + lease.renew_after).into()).await;
                match self.renew(&socket, &lease, began).await? {
                    Some(renewed) => lease = renewed,
                    None => break,
                }
            }
            tracing::warn!("{}: the lease of {} is over", self.device, lease.address);
            self.say(News::Lost).await;
        }
    }

    /// DISCOVER, OFFER, REQUEST, ACK: for as long as it takes.
    async fn acquire(&self, socket: &UdpSocket) -> Result<Lease> {
        let began = Instant::now();
        let mut wait = FIRST_WAIT;
        let mut asked = 0;
        // One number for all: an offer may be slower than our patience.
        let first = self.transaction(began)?;
        loop {
            let seconds = u16::try_from(began.elapsed().as_secs()).unwrap_or(u16::MAX);
            let transaction = Transaction { seconds, ..first };
            let discover = transaction.discover(None);
            send(socket, &discover, Ipv4Addr::BROADCAST).await?;
            asked += 1;
            if let Some(Answer::Offer(offer)) = hear(socket, &transaction, wait).await?
                && let Some(lease) = self.take(socket, &transaction, &offer).await?
            {
                return Ok(lease);
            }
            let words =
                format!("DHCP: {asked} requests in {} s without an answer", began.elapsed().as_secs());
            if asked % 4 == 0 {
                tracing::warn!("{}: {words}", self.device);
            }
            self.say(News::State(words)).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    async fn take(
        &self,
        socket: &UdpSocket,
        transaction: &Transaction<'_>,
        offer: &Lease,
    ) -> Result<Option<Lease>> {
        let request = transaction.request(offer, Purpose::Take);
        for _ in 0..REQUESTS {
            send(socket, &request, Ipv4Addr::BROADCAST).await?;
            match hear(socket, transaction, FIRST_WAIT).await? {
                Some(Answer::Ack(lease)) => return Ok(Some(lease)),
                Some(Answer::Nak(_)) => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Asks the server, from T2 on everybody, until the lease ends (RFC 2131 section 4.4.5). `None`: it is over.
    async fn renew(&self, socket: &UdpSocket, lease: &Lease, began: Instant) -> Result<Option<Lease>> {
        loop {
            let age = began.elapsed();
            if age >= lease.lifetime {
                return Ok(None);
            }
            let (to, until) = if age < lease.rebind_after {
                (lease.server, lease.rebind_after)
            } else {
                (Ipv4Addr::BROADCAST, lease.lifetime)
            };
            let transaction = self.transaction(Instant::now())?;
            let request = transaction.request(lease, Purpose::Renew);
            // A server out of reach is no failure yet.
            let _ = send(socket, &request, to).await;
            let wait = ((until.saturating_sub(age)) / 2).clamp(FIRST_WAIT * 4, Duration::from_secs(60));
            match hear(socket, &transaction, wait).await? {
                Some(Answer::Ack(renewed)) => return Ok(Some(renewed)),
                Some(Answer::Nak(_)) => return Ok(None),
                _ => {}
            }
        }
    }

    fn transaction(&self, began: Instant) -> Result<Transaction<'_>> {
        let mut id = [0; 4];
        rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::INSECURE)
            .context("choosing a number")?;
        let seconds = u16::try_from(began.elapsed().as_secs()).unwrap_or(u16::MAX);
        Ok(Transaction { mac: self.mac, client_id: &self.client_id, id: u32::from_ne_bytes(id), seconds })
    }
}

fn open(device: &str) -> Result<UdpSocket> {
    let fd = socket::socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    socket::setsockopt(&fd, sockopt::BindToDevice, &device.into())?;
    socket::setsockopt(&fd, sockopt::Broadcast, &true)?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    socket::bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)))?;
    Ok(UdpSocket::from_std(fd.into())?)
}

async fn send(socket: &UdpSocket, packet: &[u8], to: Ipv4Addr) -> Result<()> {
    socket.send_to(packet, (to, 67)).await.map(drop).with_context(|| format!("sending to {to} port 67"))
}

/// The first answer to the transaction within `wait`.
async fn hear(socket: &UdpSocket, transaction: &Transaction<'_>, wait: Duration) -> Result<Option<Answer>> {
    let end = tokio::time::Instant::now() + wait;
    let mut buffer = [0; 1500];
    loop {
        let Ok(received) = timeout_at(end, socket.recv(&mut buffer)).await else { return Ok(None) };
        let count = received.context("receiving on port 68")?;
        if let Some(answer) = buffer.get(..count).and_then(|packet| transaction.read(packet)) {
            return Ok(Some(answer));
        }
    }
}
