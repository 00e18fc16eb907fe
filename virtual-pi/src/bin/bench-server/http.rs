//! HTTP clients that throw away what they get, so that the bench needs little of the processor itself. Any number of them
//! run in one loop, each on a connection that it keeps for all its requests.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use crate::site::{CLIENTS, Place};

/// As much as one call throws away.
const SWALLOW: usize = 1 << 20;
const LONGEST_HEAD: usize = 4096;
/// Where nothing comes for so long, something is wrong.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// How it went.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// When each client was done, in seconds since the first question.
    pub(crate) seconds: Vec<f64>,
    /// Of files, without heads.
    pub(crate) bytes: u64,
}

struct Client {
    stream: TcpStream,
    head: Vec<u8>,
    /// Of the body, once its length is known.
    left: Option<u64>,
    /// Which answer comes next.
    at: usize,
    seconds: f64,
}

/// Opens so many connections, then asks for these paths, one after the other, on all of them at once.
pub(crate) fn run(
    server: SocketAddrV4,
    place: &Place,
    connections: usize,
    paths: &[String],
) -> Result<Outcome> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("making an epoll")?;
    let mut clients = Vec::new();
    for number in 0..connections {
        let stream = connect(server, place.client((number % usize::from(CLIENTS)) as u8))?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&epoll, &stream, data, epoll::EventFlags::IN).context("watching a connection")?;
        clients.push(Client { stream, head: Vec::new(), left: None, at: 0, seconds: 0.0 });
    }
    let mut waste = vec![0; SWALLOW];
    let (began, mut bytes) = (Instant::now(), 0);
    for client in &mut clients {
        client.ask(server, paths)?;
    }
    let mut open = clients.len();
    while open > 0 {
        for number in wait(&epoll)? {
            let client = clients.get_mut(number).context("an unknown connection")?;
            let before = client.at;
            bytes += client.receive(&mut waste)?;
            if client.at == before {
                continue;
            }
            if client.at == paths.len() {
                epoll::delete(&epoll, &client.stream).context("leaving a connection")?;
                client.seconds = began.elapsed().as_secs_f64();
                open -= 1;
            } else {
                client.ask(server, paths)?;
            }
        }
    }
    Ok(Outcome { seconds: clients.iter().map(|client| client.seconds).collect(), bytes })
}

/// From an address of the clients', so that the answers go the same way for all servers.
fn connect(server: SocketAddrV4, address: Ipv4Addr) -> Result<TcpStream> {
    let context = || format!("connecting to {server}");
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.with_context(context)?;
    rustix::net::bind(&socket, &SocketAddr::from((address, 0))).with_context(context)?;
    rustix::net::connect(&socket, &server).with_context(context)?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true).with_context(context)?;
    Ok(stream)
}

fn wait(epoll: &OwnedFd) -> Result<Vec<usize>> {
    let mut events = [const { MaybeUninit::uninit() }; 64];
    loop {
        match epoll::wait(epoll, &mut events, Some(&PATIENCE)) {
            Ok((ready, _)) => {
                ensure!(!ready.is_empty(), "the server is silent for {} s", PATIENCE.tv_sec);
                return ready.iter().map(|event| Ok(usize::try_from(event.data.u64())?)).collect();
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for answers"),
        }
    }
}

impl Client {
    fn ask(&mut self, server: SocketAddrV4, paths: &[String]) -> Result<()> {
        let path = paths.get(self.at).context("nothing to ask for")?;
        let question = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: bench\r\n\r\n", server.ip());
        self.stream.write_all(question.as_bytes()).context("asking")
    }

    /// Takes what has come; says how many bytes of a body. At the end of an answer, the next one is due.
    fn receive(&mut self, waste: &mut [u8]) -> Result<u64> {
        let mut bytes = 0;
        if self.left.is_none() {
            let Some(more) = self.receive_head()? else { return Ok(0) };
            bytes += more;
        }
        let left = self.left.unwrap_or(0);
        let length = usize::try_from(left).unwrap_or(SWALLOW).min(SWALLOW);
        if left > 0 {
            let into = waste.get_mut(..length).unwrap_or_default();
            // TRUNC: the kernel throws it away without copying it (tcp(7)).
            match rustix::net::recv(&self.stream, into, RecvFlags::TRUNC) {
                Ok((_, 0)) => bail!("the server closed the connection, {left} bytes before the end"),
                Ok((_, swallowed)) => {
                    bytes += swallowed as u64;
                    self.left = Some(left - swallowed as u64);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error).context("receiving"),
            }
        }
        if self.left == Some(0) {
            self.left = None;
            self.head.clear();
            self.at += 1;
        }
        Ok(bytes)
    }

    /// Once the head is whole: how many bytes of the body came with it.
    fn receive_head(&mut self) -> Result<Option<u64>> {
        let mut buffer = [0; LONGEST_HEAD];
        let length = match self.stream.read(&mut buffer) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("receiving"),
        };
        self.head.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(end) = answer.parse(&self.head).context("reading an answer's head")?
        else {
            ensure!(self.head.len() < LONGEST_HEAD, "an answer's head is too long");
            return Ok(None);
        };
        ensure!(answer.code == Some(200), "the server says {:?}", answer.code);
        let size = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let size = size.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<u64>().ok());
        let came = (self.head.len() - end) as u64;
        let left = size.context("an answer without a length")?.checked_sub(came);
        self.left = Some(left.context("the answer is longer than it says")?);
        Ok(Some(came))
    }
}
