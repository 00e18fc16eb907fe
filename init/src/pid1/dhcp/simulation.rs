//! The client in simulated time: days go by in a moment, on a network that loses, delays and doubles packets, with servers
//! that restart, lie, or are gone. Everything comes from a seed.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::chance::Chance;
use super::client::{Client, Granted, News};
use super::message::Lease;
use super::wire::Wire;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn host(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Knows nothing of leases that it did not give, and says nothing of them.
    NotAuthoritative,
    NeverAcks,
    AlwaysNaks,
}

struct Server {
    address: Ipv4Addr,
    manner: Manner,
    up: bool,
    lease_time: u32,
    next: u8,
    leases: HashMap<Vec<u8>, (Ipv4Addr, Instant)>,
    declined: Vec<Ipv4Addr>,
}

impl Server {
    fn new(last: u8, manner: Manner) -> Self {
        let (leases, declined) = (HashMap::new(), Vec::new());
        Server { address: host(last), manner, up: true, lease_time: 3600, next: last * 10, leases, declined }
    }

    /// What it says to a packet, if anything.
    fn answer(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let message = Message::decode(&mut Decoder::new(packet)).unwrap();
        let Some(DhcpOption::ClientIdentifier(client)) = message.opts().get(OptionCode::ClientIdentifier)
        else {
            panic!("no client identifier")
        };
        let requested = match message.opts().get(OptionCode::RequestedIpAddress) {
            Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
            _ => None,
        };
        let meant = match message.opts().get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(address)) => Some(*address),
            _ => None,
        };
        let known =
            self.leases.get(client).filter(|(_, end)| *end > Instant::now()).map(|(address, _)| *address);
        let (kind, address) = match message.opts().msg_type().unwrap() {
            MessageType::Discover => (MessageType::Offer, self.choose(client)),
            MessageType::Decline => {
                self.declined.extend(requested.filter(|_| meant == Some(self.address)));
                self.leases.remove(client);
                return None;
            }
            MessageType::Request if meant.is_some_and(|server| server != self.address) => return None,
            MessageType::Request if self.manner == Manner::NeverAcks => return None,
            MessageType::Request if self.manner == Manner::AlwaysNaks => (MessageType::Nak, host(0)),
            MessageType::Request => {
                let wanted = requested.unwrap_or(message.ciaddr());
                match meant.map(|_| self.choose(client)).or(known) {
                    Some(address) if address == wanted => (MessageType::Ack, address),
                    None if self.manner == Manner::NotAuthoritative => return None,
                    _ => (MessageType::Nak, host(0)),
                }
            }
            kind => panic!("{kind:?}"),
        };
        if kind == MessageType::Ack {
            let end = Instant::now() + Duration::from_secs(self.lease_time.into());
            self.leases.insert(client.clone(), (address, end));
        }
        Some(self.encode(&message, kind, address))
    }

    fn choose(&mut self, client: &[u8]) -> Ipv4Addr {
        if let Some((address, _)) = self.leases.get(client) {
            return *address;
        }
        while self.declined.contains(&host(self.next)) {
            self.next += 1;
        }
        host(self.next)
    }

    fn encode(&self, question: &Message, kind: MessageType, yours: Ipv4Addr) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(question.xid(), none, yours, none, none, question.chaddr());
        message.set_opcode(Opcode::BootReply);
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(self.address));
        options.insert(DhcpOption::AddressLeaseTime(self.lease_time));
        options.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
        options.insert(DhcpOption::Router(vec![host(254)]));
        options.insert(DhcpOption::DomainNameServer(vec![host(53)]));
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).unwrap();
        bytes
    }
}

/// Per mille, and the longest time on the way.
#[derive(Clone, Copy)]
struct Weather {
    loss: u64,
    duplicates: u64,
    delay: Duration,
}

const CLEAR: Weather = Weather { loss: 0, duplicates: 0, delay: Duration::from_millis(1) };
const STORM: Weather = Weather { loss: 100, duplicates: 100, delay: Duration::from_millis(600) };

struct Site {
    weather: Weather,
    chance: Mutex<Chance>,
    servers: Mutex<Vec<Server>>,
    to_client: UnboundedSender<Vec<u8>>,
    heard: tokio::sync::Mutex<UnboundedReceiver<Vec<u8>>>,
    taken: Mutex<Vec<Ipv4Addr>>,
    sent: AtomicU64,
}

impl Site {
    fn new(seed: u64, weather: Weather, servers: Vec<Server>) -> Arc<Self> {
        let (to_client, heard) = unbounded_channel();
        Arc::new(Site {
            weather,
            chance: Mutex::new(Chance::seeded(seed)),
            servers: Mutex::new(servers),
            to_client,
            heard: tokio::sync::Mutex::new(heard),
            taken: Mutex::default(),
            sent: AtomicU64::new(0),
        })
    }

    fn number(&self) -> u64 {
        self.chance.lock().unwrap().number()
    }

    /// When a packet's copies arrive: none, one or two.
    fn ways(&self) -> Vec<Duration> {
        let copies = match self.number() % 1000 {
            part if part < self.weather.loss => 0,
            part if part < self.weather.loss + self.weather.duplicates => 2,
            _ => 1,
        };
        let longest = self.weather.delay.as_millis() as u64;
        (0..copies).map(|_| Duration::from_millis(self.number() % (longest + 1))).collect()
    }

    async fn deliver(self: Arc<Self>, packet: Vec<u8>, to: Ipv4Addr, after: Duration) {
        sleep(after).await;
        let answers: Vec<Vec<u8>> = {
            let mut servers = self.servers.lock().unwrap();
            let meant =
                servers.iter_mut().filter(|server| server.up && (to.is_broadcast() || to == server.address));
            meant.filter_map(|server| server.answer(&packet)).collect()
        };
        for answer in answers {
            for way in self.ways() {
                let (site, answer) = (self.clone(), answer.clone());
                tokio::spawn(async move {
                    sleep(way).await;
                    let _ = site.to_client.send(answer);
                });
            }
        }
    }

    /// A server that is away now and then, for a quarter of an hour at most.
    async fn restarts(self: Arc<Self>) {
        loop {
            sleep(Duration::from_secs(self.number() % 10_000)).await;
            self.servers.lock().unwrap()[0].up = false;
            sleep(Duration::from_secs(self.number() % 900)).await;
            self.servers.lock().unwrap()[0].up = true;
        }
    }

    fn start(self: &Arc<Self>, held: Option<Granted>) -> (JoinHandle<()>, Receiver<(u32, News)>) {
        let (news, heard) = channel(64);
        let chance = Chance::seeded(self.number());
        let (device, client_id) = ("eth0".to_owned(), vec![255, 1, 2, 3]);
        let client = Client { index: 2, device, mac: MAC, client_id, news, held, chance };
        let site = self.clone();
        (tokio::spawn(client.run(move || Ok(SimulatedWire(site.clone())))), heard)
    }
}

struct SimulatedWire(Arc<Site>);

impl Wire for SimulatedWire {
    async fn send(&self, packet: &[u8], to: Ipv4Addr) -> Result<()> {
        self.0.sent.fetch_add(1, Ordering::Relaxed);
        for way in self.0.ways() {
            tokio::spawn(self.0.clone().deliver(packet.to_vec(), to, way));
        }
        Ok(())
    }

    async fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        let packet = self.0.heard.lock().await.recv().await.context("the test is over")?;
        buffer[..packet.len()].copy_from_slice(&packet);
        Ok(packet.len())
    }

    async fn is_taken(&self, address: Ipv4Addr) -> Result<bool> {
        sleep(Duration::from_millis(200)).await;
        Ok(self.0.taken.lock().unwrap().contains(&address))
    }
}

/// The next news that is no state; `None`: there was none until then.
async fn next(news: &mut Receiver<(u32, News)>, until: Instant) -> Option<News> {
    loop {
        match timeout_at(until, news.recv()).await.ok()?.unwrap().1 {
            News::State(_) => {}
            other => return Some(other),
        }
    }
}

async fn bound(news: &mut Receiver<(u32, News)>, within: Duration) -> Granted {
    match next(news, Instant::now() + within).await {
        Some(News::Bound(granted)) => granted,
        other => panic!("{other:?}"),
    }
}

async fn lost(news: &mut Receiver<(u32, News)>, within: Duration) {
    let came = next(news, Instant::now() + within).await;
    assert!(matches!(came, Some(News::Lost)), "{came:?}");
}

/// A lease of another network.
fn elsewhere() -> Granted {
    let lease = Lease {
        address: Ipv4Addr::new(10, 0, 0, 9),
        prefix: 24,
        gateway: None,
        routes: Vec::new(),
        nameservers: Vec::new(),
        ntp: Vec::new(),
        domains: Vec::new(),
        hostname: None,
        tftp_server: None,
        server: Ipv4Addr::new(10, 0, 0, 1),
        lifetime: HOUR,
        renew_after: HOUR / 2,
        rebind_after: HOUR / 8 * 7,
    };
    Granted { lease, since: Instant::now() }
}

/// A week with a lease of an hour, in which the client is killed every few hours and the server is away for a quarter of an
/// hour at a time: the address is there throughout.
#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_for_a_week_without_a_gap() {
    for seed in 0..10 {
        let site = Site::new(seed, STORM, vec![Server::new(5, Manner::Honest)]);
        let end = Instant::now() + 7 * 24 * HOUR;
        let (mut client, mut news) = site.start(None);
        let first = bound(&mut news, MINUTE).await;
        let restarts = tokio::spawn(site.clone().restarts());
        let (mut held, mut grants, mut kills) = (first.clone(), 1, 0);
        let mut kill_at = Instant::now() + HOUR;
        while Instant::now() < end {
            match next(&mut news, kill_at.min(end)).await {
                Some(News::Bound(granted)) => {
                    assert!(!held.left().is_zero(), "seed {seed}: it came late");
                    assert_eq!(granted.lease.address, first.lease.address, "seed {seed}");
                    (held, grants) = (granted, grants + 1);
                }
                Some(other) => panic!("seed {seed}: {other:?}"),
                None => {
                    client.abort();
                    (client, news) = site.start(Some(held.clone()));
                    kill_at += HOUR * 2 + Duration::from_secs(site.number() % 7200);
                    kills += 1;
                }
            }
            assert!(!held.left().is_zero(), "seed {seed}: a gap");
        }
        assert!(grants > 7 * 24 && kills > 7 * 5, "seed {seed}: {grants} grants, {kills} kills");
        client.abort();
        restarts.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_keep_its_offer_is_passed_over() {
    for manner in [Manner::NeverAcks, Manner::AlwaysNaks] {
        let site = Site::new(1, CLEAR, vec![Server::new(3, manner), Server::new(5, Manner::Honest)]);
        let (client, mut news) = site.start(None);
        assert_eq!(bound(&mut news, MINUTE / 2).await.lease.server, host(5));
        client.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_always_says_no_is_not_asked_without_pause() {
    let site = Site::new(2, CLEAR, vec![Server::new(3, Manner::AlwaysNaks)]);
    let (_client, mut news) = site.start(None);
    assert!(next(&mut news, Instant::now() + HOUR).await.is_none());
    let sent = site.sent.load(Ordering::Relaxed);
    assert!((300..700).contains(&sent), "{sent} packets in an hour");
    site.servers.lock().unwrap()[0].manner = Manner::Honest;
    bound(&mut news, MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgot_us_gives_a_new_lease() {
    let site = Site::new(3, STORM, vec![Server::new(5, Manner::Honest)]);
    let (_client, mut news) = site.start(None);
    let first = bound(&mut news, MINUTE).await;
    let known = { std::mem::take(&mut site.servers.lock().unwrap()[0].leases) };
    assert_eq!(known.len(), 1);
    site.servers.lock().unwrap()[0].next = 77;
    lost(&mut news, HOUR).await;
    let second = bound(&mut news, MINUTE).await;
    assert_eq!((first.lease.address, second.lease.address), (host(50), host(77)));
}

#[tokio::test(start_paused = true)]
async fn another_cable_is_noticed() {
    // This server knows whose network it is, and says no.
    let site = Site::new(4, CLEAR, vec![Server::new(5, Manner::Honest)]);
    let (client, mut news) = site.start(Some(elsewhere()));
    site.servers.lock().unwrap()[0].leases.insert(vec![255, 1, 2, 3], (host(50), Instant::now() + HOUR));
    lost(&mut news, MINUTE).await;
    assert_eq!(bound(&mut news, MINUTE).await.lease.address, host(50));
    client.abort();
    // This one says nothing of what it does not know: the old address stays until there is a new one.
    let site = Site::new(5, CLEAR, vec![Server::new(5, Manner::NotAuthoritative)]);
    let (client, mut news) = site.start(Some(elsewhere()));
    assert_eq!(bound(&mut news, MINUTE / 2).await.lease.address, host(50));
    client.abort();
    // Nobody is there: it stays for as long as it is ours.
    let site = Site::new(6, CLEAR, Vec::new());
    let (_client, mut news) = site.start(Some(elsewhere()));
    assert!(next(&mut news, Instant::now() + HOUR - MINUTE).await.is_none());
    lost(&mut news, MINUTE * 2).await;
}

#[tokio::test(start_paused = true)]
async fn another_server_takes_over_when_the_lease_is_over() {
    let servers = vec![Server::new(3, Manner::Honest), Server::new(5, Manner::NotAuthoritative)];
    let site = Site::new(7, CLEAR, servers);
    let (_client, mut news) = site.start(None);
    let first = bound(&mut news, MINUTE).await.lease.server;
    for server in site.servers.lock().unwrap().iter_mut() {
        server.manner = Manner::NotAuthoritative;
        server.up = server.address != first;
    }
    lost(&mut news, HOUR + MINUTE).await;
    assert_ne!(bound(&mut news, MINUTE).await.lease.server, first);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_taken_is_declined() {
    let site = Site::new(8, CLEAR, vec![Server::new(5, Manner::Honest)]);
    site.taken.lock().unwrap().push(host(50));
    let (client, mut news) = site.start(None);
    assert_eq!(bound(&mut news, MINUTE).await.lease.address, host(51));
    assert_eq!(site.servers.lock().unwrap()[0].declined, [host(50)]);
    client.abort();
    // Somebody answers for every address: it must not keep us out for ever.
    let site = Site::new(9, CLEAR, vec![Server::new(5, Manner::Honest)]);
    site.taken.lock().unwrap().extend((0..=255).map(host));
    let (_client, mut news) = site.start(None);
    assert_eq!(bound(&mut news, MINUTE * 3).await.lease.address, host(53));
}
