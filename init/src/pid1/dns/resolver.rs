//! Asks the name servers: the first at once, the others soon after it, over UDP, and over TCP where an answer does not fit.
//!
//! `/etc/resolv.conf` is read for each name, so a lease that comes later counts at once (held by
//! `a_file_that_changes_counts_at_once` in tests/netns_dns.rs).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::message::{Family, Question, Reply};
use super::resolv_conf::ResolvConf;
use crate::pid1::pace;

/// A server that has not answered for so long is not waited for alone.
const STAGGER: Duration = Duration::from_millis(500);
/// A question is sent again after this, then after twice this and so on.
const AGAIN: Duration = Duration::from_secs(1);
/// Nobody is waited for longer.
const LIMIT: Duration = Duration::from_secs(8);
/// How long the addresses of one family wait for those of the other: some servers never answer for IPv6.
const OTHER_FAMILY: Duration = Duration::from_millis(300);
/// So many names' addresses are kept for the time when no server answers.
const KEPT: usize = 32;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Nobody to ask.
    #[error("looking up {0}: no name server is known (neither DHCP nor nameserver= gave one)")]
    NoServer(String),
    /// They were asked, and all is well with them.
    #[error("looking up {name}: {servers} know no such name or no address for it")]
    NoAddress {
        /// The name.
        name: String,
        /// Who was asked.
        servers: String,
    },
    /// None of them had an answer.
    #[error("looking up {name}: no name server answers it ({failures})")]
    NoAnswer {
        /// The name.
        name: String,
        /// Each server, with what became of it.
        failures: String,
    },
}

/// A resolver; its clones share what they know.
#[derive(Clone, Debug)]
pub struct Resolver {
    path: PathBuf,
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Who answered last: asked first.
    answered: Option<SocketAddr>,
    /// What names had for addresses.
    kept: BTreeMap<String, Vec<IpAddr>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new("/etc/resolv.conf".into(), 53)
    }
}

impl Resolver {
    /// One that reads another file, and asks at another port.
    pub fn new(path: PathBuf, port: u16) -> Self {
        Resolver { path, port, shared: Arc::default() }
    }

    /// A name's addresses, IPv6 first; at least one.
    ///
    /// # Errors
    /// Any [`ResolveError`]. Where no server answers, the addresses that a name had before are given instead.
    pub async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        // RFC 6761, section 6.3.
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
        }
        let conf = ResolvConf::read(&self.path, self.port);
        if conf.servers.is_empty() {
            return self.kept(name).ok_or_else(|| ResolveError::NoServer(name.into()));
        }
        let began = Instant::now();
        let mut trouble = None;
        for candidate in conf.candidates(name) {
            match self.both_families(&candidate, &conf.servers).await {
                Ok(addresses) if addresses.is_empty() => {}
                Ok(addresses) => {
                    self.keep(name, &addresses);
                    return Ok(addresses);
                }
                Err(failures) => {
                    trouble = Some(failures);
                    // Servers that refuse one name may know the next; silent ones stay silent.
                    if began.elapsed() >= LIMIT {
                        break;
                    }
                }
            }
        }
        if let Some(failures) = trouble {
            return self.kept(name).ok_or_else(|| ResolveError::NoAnswer { name: name.into(), failures });
        }
        let servers: Vec<String> = conf.servers.iter().map(|server| server.ip().to_string()).collect();
        Err(ResolveError::NoAddress { name: name.into(), servers: servers.join(", ") })
    }

    fn keep(&self, name: &str, addresses: &[IpAddr]) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.kept.len() < KEPT || shared.kept.contains_key(name) {
            shared.kept.insert(name.into(), addresses.into());
        }
    }

    fn kept(&self, name: &str) -> Option<Vec<IpAddr>> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = shared.kept.get(name).cloned()?;
        tracing::warn!("no name server answers: going on with what {name} had before");
        Some(addresses)
    }

    /// The addresses of a complete name; none: there are none. An error says what became of each server.
    async fn both_families(&self, name: &str, servers: &[SocketAddr]) -> Result<Vec<IpAddr>, String> {
        let v6 = self.ask(name, Family::V6, servers);
        let v4 = self.ask(name, Family::V4, servers);
        tokio::pin!(v6, v4);
        let has_some = |found: &Result<Vec<IpAddr>, String>| found.as_ref().is_ok_and(|all| !all.is_empty());
        let (v6, v4) = tokio::select! {
            found = &mut v6 => match has_some(&found) {
                true => (found, timeout(OTHER_FAMILY, v4).await.unwrap_or_else(|_| Ok(Vec::new()))),
                false => (found, v4.await),
            },
            found = &mut v4 => match has_some(&found) {
                true => (timeout(OTHER_FAMILY, v6).await.unwrap_or_else(|_| Ok(Vec::new())), found),
                false => (v6.await, found),
            },
        };
        match (v6, v4) {
            (Ok(v6), Ok(v4)) => Ok([v6, v4].concat()),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
            (Err(failures), _) | (_, Err(failures)) => Err(failures),
        }
    }

    /// Asks the servers until one has an answer. Who fails or is slow is followed by the next.
    async fn ask(&self, name: &str, family: Family, servers: &[SocketAddr]) -> Result<Vec<IpAddr>, String> {
        let Some(question) = Question::new(pace::random() as u16, name, family) else {
            return Ok(Vec::new());
        };
        let mut waiting = self.in_order(servers).into_iter();
        let mut asked = JoinSet::new();
        let mut failures: Vec<String> = Vec::new();
        let end = Instant::now() + LIMIT;
        loop {
            let next = waiting.next();
            let is_last = next.is_none();
            if let Some(server) = next {
                let question = question.clone();
                asked.spawn(async move { (server, exchange(server, &question).await) });
            }
            let until = if is_last { end } else { end.min(Instant::now() + STAGGER) };
            tokio::select! {
                Some(Ok((server, reply))) = asked.join_next() => match reply {
                    Ok(Reply::Addresses(addresses)) => {
                        self.answered(server);
                        return Ok(addresses);
                    }
                    Ok(Reply::NoSuchName) => {
                        self.answered(server);
                        return Ok(Vec::new());
                    }
                    Ok(other) => failures.push(format!("{}: {}", server.ip(), trouble(&other))),
                    Err(error) => failures.push(format!("{}: {error}", server.ip())),
                },
                () = sleep_until(until) => {}
            }
            let all_failed = failures.len() == servers.len();
            if all_failed || Instant::now() >= end {
                let silent = servers.iter().filter(|server| {
                    let start = format!("{}: ", server.ip());
                    !failures.iter().any(|failure| failure.starts_with(&start))
                });
                let silent: Vec<String> = silent.map(|server| format!("{}: silent", server.ip())).collect();
                return Err([failures, silent].concat().join(", "));
            }
        }
    }

    /// Who answered last comes first: a dead server costs its time once.
    fn in_order(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let answered = self.shared.lock().unwrap_or_else(PoisonError::into_inner).answered;
        let mut order = servers.to_vec();
        order.sort_by_key(|server| Some(*server) != answered);
        order
    }

    fn answered(&self, server: SocketAddr) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).answered = Some(server);
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.lookup(name.as_str()).await?;
            let sockets = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(sockets) as Addrs)
        })
    }
}

fn trouble(reply: &Reply) -> String {
    match reply {
        // RFC 1035, section 4.1.1.
        Reply::Trouble(2) => "SERVFAIL".into(),
        Reply::Trouble(5) => "REFUSED".into(),
        Reply::Trouble(code) => format!("error code {code}"),
        _ => "an answer that is cut off, over TCP too".into(),
    }
}

/// One server's answer, over UDP or, where it does not fit, over TCP. It waits for ever.
async fn exchange(server: SocketAddr, question: &Question) -> io::Result<Reply> {
    match over_udp(server, question).await? {
        Reply::Truncated => over_tcp(server, question).await,
        reply => Ok(reply),
    }
}

/// Each question has a socket of its own, with a port that nobody can guess (RFC 5452), connected: nobody else is heard.
async fn over_udp(server: SocketAddr, question: &Question) -> io::Result<Reply> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let bytes = question.encode();
    let mut buffer = [0; 4096];
    let mut wait = AGAIN;
    loop {
        socket.send(&bytes).await?;
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                received = socket.recv(&mut buffer) => {
                    let reply = question.read(buffer.get(..received?).unwrap_or_default());
                    if let Some(reply) = reply {
                        return Ok(reply);
                    }
                }
                () = sleep_until(until) => break,
            }
        }
        wait *= 2;
    }
}

/// RFC 7766: a length before each message.
async fn over_tcp(server: SocketAddr, question: &Question) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let bytes = question.encode();
    let length = bytes.len() as u16;
    stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    question.read(&answer).ok_or_else(|| io::Error::other("its answer over TCP is none to our question"))
}
