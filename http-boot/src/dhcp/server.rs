//! The thread that answers: it reads what came in, decides, writes what must be kept, and only then sends.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::oneshot;

use super::answer::Answer;
use super::datagram;
use super::findings::{Cause, Findings};
use super::full::{Full, Question, Step};
use super::interface;
use super::lease_file::LeaseFile;
use super::leases::Leases;
use super::message::{Kind, Message, Sender};
use super::pace::Pace;
use super::pi::Who;
use super::probe::Probes;
use super::proxy;
use super::settings::{Config, Link, Mode};
use super::sighting::{Known, Witness};
use super::sockets::{Door, Sockets, arp_sender};
use super::watch::Watch;
use crate::mac::Mac;

/// The longest packet that is read: an Ethernet frame's.
const PACKET: usize = 1500;
/// Messages that are read from one socket before the next has its turn, and before what came of them is written and sent:
/// one write to the disk is for all of them.
const BATCH: usize = 64;
/// So often it is looked whether something is due, where nothing comes in.
const IDLE: Duration = Duration::from_secs(1);
/// So often the machine's interfaces are looked at.
const LOOK: Duration = Duration::from_secs(3);

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
    /// What was found to be wrong at the site.
    pub findings: Arc<Findings>,
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
    let findings = Arc::new(Findings::default());
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).context("making an eventfd")?);
    let mut server = Server::open(config, witness, Arc::clone(&findings))?;
    let (tell, ended) = oneshot::channel();
    let stopped = Arc::clone(&wake);
    let thread = std::thread::Builder::new().name("dhcp".into());
    let thread = thread.spawn(move || _ = tell.send(server.run(&stopped)));
    Ok(Running { wake, thread: thread.context("starting the DHCP server's thread")?, ended, findings })
}

/// What the server is besides: `None` is a proxy.
type Role = Option<Full>;

struct Server {
    config: Arc<Config>,
    links: Vec<Sockets>,
    role: Role,
    probes: Probes,
    pace: Pace,
    known: Known,
    watch: Watch,
    witness: Arc<dyn Witness>,
    /// When the machine's interfaces were looked at.
    looked: Instant,
    /// What is sent at the end of a turn: on which link, and what.
    out: Vec<(usize, Answer)>,
}

impl Server {
    fn open(config: Config, witness: Arc<dyn Witness>, findings: Arc<Findings>) -> Result<Self> {
        let (is_proxy, config) = (config.mode == Mode::Proxy, Arc::new(config));
        let links = config.links.iter().map(|link| Sockets::open(link, is_proxy));
        let links = links.collect::<Result<Vec<_>>>()?;
        let role = if is_proxy { None } else { Some(open_full(&config)?) };
        for link in &config.links {
            let (name, what) = (&link.interface.name, if is_proxy { "proxyDHCP" } else { "DHCP" });
            tracing::info!("{what} on {name} as {}: boot files are at {}", link.identity, link.files);
        }
        let mut known = Known::default();
        role.iter().flat_map(Full::known).for_each(|(mac, serial)| known.remember(mac, serial));
        let watch = Watch::new(&config, findings);
        let (probes, pace, out) = (Probes::default(), Pace::default(), Vec::new());
        Ok(Self { config, links, role, probes, pace, known, watch, witness, looked: Instant::now(), out })
    }

    fn run(&mut self, stop: &OwnedFd) -> Result<()> {
        loop {
            if self.wait(stop)? {
                return Ok(());
            }
            let now = Now::read();
            for number in 0..self.links.len() {
                Door::ALL.into_iter().for_each(|door| self.read_all(number, door, now));
            }
            self.go_on_with_probes(now);
            self.send_all(now);
            self.look_at_interfaces(now);
        }
    }

    /// Waits until something comes in, or is due; true: it is time to stop.
    fn wait(&self, stop: &OwnedFd) -> Result<bool> {
        let mut polled = vec![PollFd::new(stop, PollFlags::IN)];
        for link in &self.links {
            let sockets = Door::ALL.into_iter().filter_map(|door| link.of(door));
            polled.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
        }
        let due = self.probes.next().map(|at| at.saturating_duration_since(Instant::now()));
        let limit = due.unwrap_or(IDLE).min(IDLE);
        let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for DHCP messages"),
        }
        Ok(polled.first().is_some_and(|stop| !stop.revents().is_empty()))
    }

    fn read_all(&mut self, number: usize, door: Door, now: Now) {
        let mut buffer = [0; PACKET];
        for _ in 0..BATCH {
            let Some(link) = self.links.get(number) else { return };
            let (bytes, from) = match link.receive(door, &mut buffer) {
                Ok(Some(received)) => received,
                Ok(None) => return,
                // An interface that is down says so once, and goes on when it is up.
                Err(error) => return tracing::debug!(?door, "reading DHCP messages: {error}"),
            };
            match door {
                Door::Server => self.take(number, bytes, None, now),
                Door::Proxy => self.take(number, bytes, Some(from), now),
                Door::Clients => self.overhear(bytes, now),
                Door::Arp => self.hear_arp(number, bytes, now),
            }
        }
    }

    /// One message of a client.
    fn take(&mut self, number: usize, bytes: &[u8], direct: Option<SocketAddrV4>, now: Now) {
        let Some(request) = Message::parse(bytes).filter(|message| message.sender == Sender::Client) else {
            return;
        };
        let who = Who::of(&request);
        let seen = self.known.see(&request, &who, now.wall);
        if seen.is_none() && self.role.is_none() {
            return;
        }
        if !self.pace.allows(request.mac, now.tick) {
            return tracing::debug!(mac = %request.mac, "asks too often: not answered");
        }
        let serial = seen.as_ref().and_then(|(sighting, _)| sighting.serial);
        let step = match (&mut self.role, self.config.links.get(number)) {
            (Some(full), _) => {
                full.answer(&Question { link: number, request: &request, who: &who, serial, now })
            }
            (None, Some(link)) => {
                proxy::answer(link, &request, &who, direct).map_or(Step::Nothing, Step::Send)
            }
            (None, None) => Step::Nothing,
        };
        tracing::debug!(mac = %request.mac, pi = serial.map(tracing::field::display), "DHCP {:?}", request.kind);
        if let Some((mut sighting, before)) = seen {
            self.watch.asked(&request, &who, before, now);
            if let Step::Send(Answer { kind: Kind::Ack, given, .. }) = &step
                && !given.is_unspecified()
            {
                sighting.address = Some(*given);
            }
            self.witness.saw(&sighting);
        }
        self.follow(number, step, now);
    }

    fn follow(&mut self, number: usize, step: Step, now: Now) {
        match step {
            Step::Nothing => {}
            Step::Send(answer) => self.out.push((number, answer)),
            Step::Probe(address, client) => {
                self.probes.begin(number, address, client, now.tick);
                self.ask_who_has(number, address);
            }
        }
    }

    /// A packet to a client, of another server.
    fn overhear(&mut self, packet: &[u8], now: Now) {
        if let Some((from, _, payload)) = datagram::read(packet)
            && let Some(answer) = Message::parse(payload)
        {
            self.watch.heard(&answer, *from.ip(), now);
        }
    }

    fn hear_arp(&mut self, number: usize, packet: &[u8], now: Now) {
        if let Some((mac, address)) = arp_sender(packet)
            && self.probes.heard(number, (mac, address))
        {
            self.probed(address, Some(mac), now);
        }
    }

    fn probed(&mut self, address: Ipv4Addr, by: Option<Mac>, now: Now) {
        if let Some((number, step)) = self.role.as_mut().and_then(|full| full.probed(address, by, now)) {
            self.follow(number, step, now);
        }
    }

    fn go_on_with_probes(&mut self, now: Now) {
        for (number, address) in self.probes.due(now.tick) {
            self.ask_who_has(number, address);
        }
        for address in self.probes.over(now.tick) {
            self.probed(address, None, now);
        }
    }

    fn ask_who_has(&self, number: usize, address: Ipv4Addr) {
        if let Some(sockets) = self.links.get(number)
            && let Err(error) = sockets.ask_who_has(address)
        {
            tracing::debug!("asking by ARP who has {address}: {error}");
        }
    }

    /// An adapter that was unplugged and comes back is another interface of the same name: the old sockets hear nothing of it.
    fn look_at_interfaces(&mut self, now: Now) {
        if now.tick.saturating_duration_since(self.looked) < LOOK {
            return;
        }
        self.looked = now.tick;
        let Ok(machine) = interface::all() else { return };
        for (link, sockets) in self.config.links.iter().zip(&mut self.links) {
            let name = &link.interface.name;
            let Some(found) = machine.iter().find(|interface| interface.name == *name) else { continue };
            let has_address = found.addresses.iter().any(|(address, _)| *address == link.identity);
            if sockets.are_of(found) || !has_address {
                continue;
            }
            match Sockets::open(&Link { interface: found.clone(), ..link.clone() }, self.role.is_none()) {
                Ok(opened) => {
                    *sockets = opened;
                    tracing::info!("{name} is there again: DHCP goes on");
                }
                Err(error) => {
                    tracing::warn!("{name} is there again: {error:#}; trying again in {} s", LOOK.as_secs())
                }
            }
        }
    }

    /// Writes what must be kept; sends.
    fn send_all(&mut self, now: Now) {
        if let Some(full) = &mut self.role {
            std::mem::take(&mut full.causes).into_iter().for_each(|cause| self.watch.report(cause, now));
            if let Err(error) = full.sync() {
                self.watch.report(Cause::LeasesNotWritten { error: format!("{error:#}") }, now);
                self.out.retain(|(_, answer)| answer.kind != Kind::Ack);
            }
        }
        for (number, answer) in self.out.drain(..) {
            let (Some(sockets), Some(link)) = (self.links.get(number), self.config.links.get(number)) else {
                continue;
            };
            match sockets.send(answer.to, &answer.bytes) {
                Ok(()) => tracing::debug!(to = ?answer.to, "DHCP {:?} sent", answer.kind),
                Err(error) => {
                    let name = &link.interface.name;
                    tracing::debug!(
                        "sending a DHCP {:?} on {name} to {:?}: {error}; the client asks again",
                        answer.kind,
                        answer.to
                    );
                }
            }
        }
    }
}

fn open_full(config: &Arc<Config>) -> Result<Full> {
    let (file, kept, unread) = LeaseFile::open(&config.leases)?;
    let path = config.leases.display();
    tracing::info!(leases = kept.len(), "leases are kept in {path}");
    if unread > 0 {
        tracing::warn!(
            "{unread} lines of {path} could not be read and are left out: a power cut leaves one at most"
        );
    }
    Ok(Full::new(Arc::clone(config), Leases::new(kept, Box::new(file))))
}
