//! The client in simulated time, on a wire in memory.

use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::answer::Lease;
use super::client::{AFTER_DECLINE, Client, News, Wants};
use super::options::{CLIENT_ID, ELAPSED, IA_NA, SERVER_ID, first};
use super::question::{Identity, Kind};
use super::wire::Wire;

const SERVER: [u8; 10] = [0, 3, 0, 1, 9, 9, 9, 9, 9, 9];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);

struct Memory {
    out: UnboundedSender<Vec<u8>>,
    back: Mutex<UnboundedReceiver<Vec<u8>>>,
}

impl Wire for Memory {
    async fn send(&self, message: &[u8]) -> io::Result<()> {
        self.out.send(message.to_vec()).map_err(io::Error::other)
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let message = self.back.lock().await.recv().await;
        let Some(message) = message else { return std::future::pending().await };
        buffer[..message.len()].copy_from_slice(&message);
        Ok(message.len())
    }
}

/// The other end of a client's wire. Time is simulated: it passes whenever all wait.
struct Bench {
    asked: UnboundedReceiver<Vec<u8>>,
    answer: UnboundedSender<Vec<u8>>,
    news: Receiver<(u32, News)>,
    taken: Sender<Ipv6Addr>,
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// An answer to `question`: preferred for 600 s, valid for 1000.
fn answer(kind: u8, question: &[u8], more: &[Vec<u8>]) -> Vec<u8> {
    let head = [&[kind][..], &question[1..4]].concat();
    let client = option(CLIENT_ID, first(&question[4..], CLIENT_ID).unwrap());
    [head, client, option(SERVER_ID, &SERVER), more.concat()].concat()
}

fn address(address: Ipv6Addr) -> Vec<u8> {
    let times = [600u32.to_be_bytes(), 1000u32.to_be_bytes()].concat();
    let within = option(5, &[&address.octets()[..], &times].concat());
    option(IA_NA, &[&[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0][..], &within].concat())
}

fn status(code: u8) -> Vec<u8> {
    option(IA_NA, &[&[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0][..], &option(13, &[0, code])].concat())
}

impl Bench {
    fn start(wants: Wants) -> Self {
        let (out, asked) = mpsc::unbounded_channel();
        let (answer, back) = mpsc::unbounded_channel();
        let (said, news) = mpsc::channel(64);
        let (taken, heard) = mpsc::channel(4);
        let who = Identity { duid: vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 1], iaid: 7 };
        let wire = Memory { out, back: Mutex::new(back) };
        let device = "eth0".into();
        let client = Client { index: 3, device, who, wants, previous: None, wire, news: said, taken: heard };
        tokio::spawn(client.run());
        Bench { asked, answer, news, taken }
    }

    async fn question(&mut self, kind: Kind) -> Vec<u8> {
        let question = self.asked.recv().await.unwrap();
        assert_eq!(question[0], kind as u8, "{kind:?} was expected");
        question
    }

    fn reply(&self, kind: u8, question: &[u8], more: &[Vec<u8>]) {
        self.answer.send(answer(kind, question, more)).unwrap();
    }

    /// The next news that are not of what it is doing.
    async fn news(&mut self) -> News {
        loop {
            match self.news.recv().await.unwrap().1 {
                News::State(_) => {}
                news => return news,
            }
        }
    }

    async fn bound(&mut self) -> Lease {
        match self.news().await {
            News::Bound(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    /// From Solicit to a lease, by way of an offer.
    async fn lease(&mut self) -> Lease {
        let solicit = self.question(Kind::Solicit).await;
        self.reply(2, &solicit, &[address(ADDRESS)]);
        let request = self.question(Kind::Request).await;
        self.reply(7, &request, &[address(ADDRESS)]);
        self.bound().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_offer_is_requested_and_renewed_for_days() {
    let mut bench = Bench::start(Wants::Addresses);
    let lease = bench.lease().await;
    assert_eq!(lease.addresses[0].address, ADDRESS);
    let began = Instant::now();
    for _ in 0..1000 {
        let renew = bench.question(Kind::Renew).await;
        assert_eq!(first(&renew[4..], SERVER_ID), Some(&SERVER[..]));
        bench.reply(7, &renew, &[address(ADDRESS)]);
        bench.bound().await;
    }
    assert_eq!(began.elapsed().as_secs(), 300_000, "half of the preferred time, each");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_after_days_is_found() {
    let mut bench = Bench::start(Wants::Addresses);
    let began = Instant::now();
    let mut asked = 0;
    while began.elapsed() < Duration::from_secs(3 * 86_400) {
        let solicit = bench.question(Kind::Solicit).await;
        assert_eq!(first(&solicit[4..], ELAPSED).unwrap() == [0xff, 0xff], began.elapsed().as_secs() > 657);
        asked += 1;
        // Somebody has to hear what it says.
        while bench.news.try_recv().is_ok() {}
    }
    assert!((1900..2500).contains(&asked), "every two minutes: {asked}");
    bench.lease().await;
}

#[tokio::test(start_paused = true)]
async fn rapid_commit_and_preference_save_a_wait() {
    let mut bench = Bench::start(Wants::Addresses);
    let solicit = bench.question(Kind::Solicit).await;
    bench.reply(7, &solicit, &[option(14, &[]), address(ADDRESS)]);
    bench.bound().await;

    let mut bench = Bench::start(Wants::Addresses);
    let solicit = bench.question(Kind::Solicit).await;
    let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6);
    bench.reply(2, &solicit, &[address(other), option(7, &[3])]);
    bench.reply(2, &solicit, &[address(ADDRESS), option(7, &[9])]);
    bench.reply(2, &solicit, &[address(other), option(7, &[9])]);
    let request = bench.question(Kind::Request).await;
    assert!(request.windows(16).any(|bytes| bytes == ADDRESS.octets()), "the most preferred one");
    bench.reply(7, &request, &[address(ADDRESS)]);
    bench.bound().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left_for_another_one() {
    let mut bench = Bench::start(Wants::Addresses);
    bench.lease().await;
    let began = Instant::now();
    let (mut renewals, mut rebinds) = (0, 0);
    let solicit = loop {
        let question = bench.asked.recv().await.unwrap();
        match question[0] {
            5 => renewals += 1,
            6 => rebinds += 1,
            _ => break question,
        }
    };
    assert!(renewals >= 3 && rebinds >= 4, "{renewals}, {rebinds}");
    assert_eq!(bench.news().await, News::Lost);
    assert_eq!(began.elapsed().as_secs(), 1000, "as long as it was valid");
    bench.reply(7, &solicit, &[address(ADDRESS)]);
    bench.bound().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_server_forgot_is_asked_for_again() {
    let mut bench = Bench::start(Wants::Addresses);
    bench.lease().await;
    let renew = bench.question(Kind::Renew).await;
    bench.reply(7, &renew, &[status(3)]);
    let solicit = bench.question(Kind::Solicit).await;
    assert!(solicit.windows(16).any(|bytes| bytes == ADDRESS.octets()), "by its address");
    bench.reply(7, &solicit, &[address(ADDRESS)]);
    // Not lost in between: who is logged in stays so.
    bench.bound().await;
    let renew = bench.question(Kind::Renew).await;
    bench.reply(7, &renew, &[status(4)]);
    assert_eq!(bench.news().await, News::Lost, "of another link");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_machine_has_is_declined() {
    let mut bench = Bench::start(Wants::Addresses);
    bench.lease().await;
    bench.taken.send(Ipv6Addr::LOCALHOST).await.unwrap();
    bench.taken.send(ADDRESS).await.unwrap();
    let decline = bench.question(Kind::Decline).await;
    assert!(decline.windows(16).any(|bytes| bytes == ADDRESS.octets()));
    bench.reply(7, &decline, &[]);
    assert_eq!(bench.news().await, News::Lost);
    let before = Instant::now();
    bench.question(Kind::Solicit).await;
    assert!(before.elapsed() >= AFTER_DECLINE);
}

#[tokio::test(start_paused = true)]
async fn who_offers_and_refuses_is_not_asked_without_pause() {
    let mut bench = Bench::start(Wants::Addresses);
    let began = Instant::now();
    for _ in 0..20 {
        let solicit = bench.question(Kind::Solicit).await;
        bench.reply(2, &solicit, &[address(ADDRESS), option(7, &[255])]);
        let request = bench.question(Kind::Request).await;
        bench.reply(7, &request, &[status(2)]);
    }
    assert!(began.elapsed() > Duration::from_secs(600), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn information_comes_without_an_address_and_again() {
    let mut bench = Bench::start(Wants::Information);
    let servers = option(23, &ADDRESS.octets());
    for _ in 0..3 {
        let question = bench.question(Kind::InformationRequest).await;
        assert_eq!(first(&question[4..], IA_NA), None);
        bench.reply(2, &question, &[address(ADDRESS)]);
        bench.reply(7, &question, &[servers.clone(), option(32, &1u32.to_be_bytes())]);
        let News::Informed(information) = bench.news().await else { panic!() };
        assert_eq!(information.nameservers, [ADDRESS]);
    }
    assert!(bench.news.try_recv().is_err(), "only what changed is said");
}

#[tokio::test(start_paused = true)]
async fn garbage_changes_nothing() {
    let mut bench = Bench::start(Wants::Addresses);
    let solicit = bench.question(Kind::Solicit).await;
    let good = answer(7, &solicit, &[address(ADDRESS)]);
    for length in 0..good.len() {
        bench.answer.send(good[..length].to_vec()).unwrap();
    }
    bench.answer.send(vec![7; 1400]).unwrap();
    bench.reply(7, &solicit, &[address(Ipv6Addr::LOCALHOST)]);
    bench.reply(7, &solicit, &[address("ff02::1".parse().unwrap())]);
    bench.reply(7, &solicit, &[address(ADDRESS)]);
    assert_eq!(bench.bound().await.addresses.len(), 1);
}
