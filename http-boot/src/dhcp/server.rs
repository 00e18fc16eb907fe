//! The thread that answers: it reads what came in, decides, writes what must be kept, and only then sends.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use nix::errno::Errno;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::oneshot;

use super::answer::Answer;
use super::message::{LONGEST, Message, Sender};
use super::pace::Pace;
use super::pi::Who;
use super::proxy::{self, Door};
use super::settings::{Config, Mode};
use super::sighting::{Known, Witness};
use super::sockets::{self, Sockets};

/// Messages that are read from one socket before the next has its turn, and before what came of them is written and sent:
/// one write to the disk is for all of them.
const BATCH: usize = 64;
/// So often it is looked whether something is due, where nothing comes in.
const IDLE: Duration = Duration::from_secs(1);

/// Time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// What people and files go by.
    pub wall: SystemTime,
    /// What goes on evenly.
    pub tick: Instant,
}

impl Now {
    /// This moment.
    pub fn read() -> Self {
        Self { wall: SystemTime::now(), tick: Instant::now() }
    }
}

/// A server that runs; it is stopped by [`Running::stop`].
#[derive(Debug)]
pub struct Running {
    wake: Arc<OwnedFd>,
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<Result<()>>,
}

impl Running {
    /// Waits until it ends by itself, which it only does because it must.
    pub async fn ended(&mut self) -> Result<()> {
        (&mut self.ended).await.context("the DHCP server's thread broke")?
    }

    /// Ends it.
    pub fn stop(self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        let _ = self.thread.join();
    }
}

/// Opens the sockets and answers until it is stopped.
///
/// # Errors
/// Where a socket cannot be opened.
pub fn start(config: Config, witness: Arc<dyn Witness>) -> Result<Running> {
    anyhow::ensure!(
        config.mode == Mode::Proxy,
        "--dhcp full gives no addresses yet: use --dhcp proxy beside a DHCP server"
    );
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).context("making an eventfd")?);
    let mut server = Server::open(config, witness)?;
    let (tell, ended) = oneshot::channel();
    let stopped = Arc::clone(&wake);
    let thread = std::thread::Builder::new().name("dhcp".into());
    let thread = thread.spawn(move || _ = tell.send(server.run(&stopped)));
    Ok(Running { wake, thread: thread.context("starting the DHCP server's thread")?, ended })
}

struct Server {
    config: Config,
    links: Vec<Sockets>,
    pace: Pace,
    known: Known,
    witness: Arc<dyn Witness>,
    /// What is sent at the end of a turn: on which link, and what.
    out: Vec<(usize, Answer)>,
}

impl Server {
    fn open(config: Config, witness: Arc<dyn Witness>) -> Result<Self> {
        let is_proxy = config.mode == Mode::Proxy;
        let links = config.links.iter().map(|link| Sockets::open(link, is_proxy));
        let links = links.collect::<Result<Vec<_>>>()?;
        for link in &config.links {
            let (name, what) = (&link.interface.name, if is_proxy { "proxyDHCP" } else { "DHCP" });
            tracing::info!("{what} on {name} as {}: boot files are at {}", link.identity, link.files);
        }
        let (pace, known) = (Pace::default(), Known::default());
        Ok(Self { config, links, pace, known, witness, out: Vec::new() })
    }

    fn run(&mut self, stop: &OwnedFd) -> Result<()> {
        loop {
            if self.wait(stop)? {
                return Ok(());
            }
            let now = Now::read();
            for number in 0..self.links.len() {
                self.read_all(number, now);
            }
            self.send_all();
        }
    }

    /// Waits until something comes in, or is due; true: it is time to stop.
    fn wait(&self, stop: &OwnedFd) -> Result<bool> {
        let mut polled = vec![PollFd::new(stop, PollFlags::IN)];
        for link in &self.links {
            let sockets = [Some(&link.server), link.proxy.as_ref(), Some(&link.clients), link.arp.as_ref()];
            polled.extend(sockets.into_iter().flatten().map(|socket| PollFd::new(socket, PollFlags::IN)));
        }
        let timeout = Timespec { tv_sec: IDLE.as_secs() as i64, tv_nsec: IDLE.subsec_nanos().into() };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for DHCP messages"),
        }
        Ok(polled.first().is_some_and(|stop| !stop.revents().is_empty()))
    }

    fn read_all(&mut self, number: usize, now: Now) {
        let mut buffer = [0; LONGEST];
        for _ in 0..BATCH {
            match self.links.get(number).map(|link| sockets::receive(&link.server, &mut buffer)) {
                Some(Ok(Some((bytes, _)))) => self.take(number, bytes, Door::Common, now),
                other => {
                    self.note(number, other.and_then(Result::err));
                    break;
                }
            }
        }
        for _ in 0..BATCH {
            let proxy = self.links.get(number).and_then(|link| link.proxy.as_ref());
            match proxy.map(|socket| sockets::receive(socket, &mut buffer)) {
                Some(Ok(Some((bytes, from)))) => self.take(number, bytes, Door::Proxy(from), now),
                other => {
                    self.note(number, other.and_then(Result::err));
                    break;
                }
            }
        }
    }

    /// An interface that is down says so once, and goes on when it is up.
    fn note(&self, number: usize, error: Option<Errno>) {
        if let (Some(error), Some(link)) = (error, self.config.links.get(number)) {
            tracing::debug!(interface = link.interface.name, "reading DHCP messages: {error}");
        }
    }

    /// One message of a client.
    fn take(&mut self, number: usize, bytes: &[u8], door: Door, now: Now) {
        let Some(request) = Message::parse(bytes).filter(|message| message.sender == Sender::Client) else {
            return;
        };
        let Some(link) = self.config.links.get(number) else { return };
        let who = Who::of(&request);
        let Some((sighting, _)) = self.known.see(&request, &who, now.wall) else { return };
        if !self.pace.allows(request.mac, now.tick) {
            tracing::debug!(mac = %request.mac, "asks too often: not answered");
            return;
        }
        tracing::debug!(
            mac = %request.mac, serial = sighting.serial.map(tracing::field::display),
            "DHCP {:?} of {:?}", request.kind, sighting.stage
        );
        self.witness.saw(&sighting);
        let answer = proxy::answer(link, &request, &who, door);
        self.out.extend(answer.map(|answer| (number, answer)));
    }

    fn send_all(&mut self) {
        for (number, answer) in self.out.drain(..) {
            let (Some(sockets), Some(link)) = (self.links.get(number), self.config.links.get(number)) else {
                continue;
            };
            match sockets.send(answer.to, &answer.bytes) {
                Ok(()) => tracing::debug!(to = ?answer.to, "DHCP {:?} sent", answer.kind),
                Err(error) => {
                    let name = &link.interface.name;
                    tracing::warn!(
                        "sending a DHCP {:?} on {name} to {:?}: {error}; the client asks again",
                        answer.kind,
                        answer.to
                    );
                }
            }
        }
    }
}
