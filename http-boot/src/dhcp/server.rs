//! The thread that answers: it reads what came in, decides, writes what must be kept, and only then sends.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use init::mac::Mac;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
use super::reload::{Reload, Wake};
use super::settings::{Config, Link, Mode, Settings};
use super::sighting::{Known, Sighting, Witness};
use super::sockets::{Door, Sockets, arp_sender};
use super::watch::Watch;
use crate::clients::Identity;

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

/// Says which Pis are not to boot from here: they are told of no boot files.
pub type LeftAlone = Arc<dyn Fn(Identity) -> bool + Send + Sync>;

/// A server that runs; it is stopped by [`Running::stop`].
#[derive(Debug)]
pub struct Running {
    wake: Arc<Wake>,
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<Result<()>>,
    /// What was found to be wrong at the site.
    pub findings: Arc<Findings>,
    /// Gives it new settings.
    pub reload: Arc<Reload>,
}

impl Running {
    /// Waits until it ends by itself, which it only does because it must.
    pub async fn ended(&mut self) -> Result<()> {
        (&mut self.ended).await.context("the DHCP server's thread broke")?
    }

    /// Ends it.
    pub fn stop(self) {
        self.wake.stop();
        let _ = self.thread.join();
    }
}

/// Opens the sockets and answers until it is stopped.
///
/// # Errors
/// Where the settings are wrong on this machine, or a socket cannot be opened.
pub fn start(settings: Settings, witness: Arc<dyn Witness>, left_alone: LeftAlone) -> Result<Running> {
    let config = settings.check(&interface::all()?).context("checking the DHCP settings")?;
    let findings = Arc::new(Findings::default());
    let wake = Arc::new(Wake::new()?);
    let reload = Arc::new(Reload::new(Arc::clone(&wake), settings, &config));
    let mut server = Server::open(config, witness, left_alone, Arc::clone(&findings))?;
    let (tell, ended) = oneshot::channel();
    let woken = Arc::clone(&wake);
    let thread = std::thread::Builder::new().name("dhcp".into());
    let thread = thread.spawn(move || _ = tell.send(server.run(&woken)));
    Ok(Running {
        wake,
        thread: thread.context("starting the DHCP server's thread")?,
        ended,
        findings,
        reload,
    })
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
    left_alone: LeftAlone,
    /// When the machine's interfaces were looked at.
    looked: Instant,
    /// What is sent at the end of a turn: on which link, and what.
    out: Vec<(usize, Answer)>,
}

impl Server {
    fn open(
        config: Config,
        witness: Arc<dyn Witness>,
        left_alone: LeftAlone,
        findings: Arc<Findings>,
    ) -> Result<Self> {
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
        let looked = Instant::now();
        Ok(Self { config, links, role, probes, pace, known, watch, witness, left_alone, looked, out })
    }

    fn run(&mut self, wake: &Wake) -> Result<()> {
        loop {
            self.wait(wake)?;
            if wake.stops() {
                return Ok(());
            }
            if let Some(config) = wake.take() {
                self.take_settings(config);
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

    /// New settings for the same interfaces, by the same leases.
    fn take_settings(&mut self, config: Config) {
        let config = Arc::new(config);
        for (sockets, link) in self.links.iter_mut().zip(&config.links) {
            sockets.set_identity(link.identity);
        }
        if let Some(full) = &mut self.role {
            full.set_config(Arc::clone(&config));
        }
        self.watch.set_config(&config);
        self.config = config;
        tracing::info!("DHCP: the settings have changed");
    }

    /// Waits until something comes in, or is due, or the server is woken.
    fn wait(&self, wake: &Wake) -> Result<()> {
        let mut polled = vec![PollFd::new(&wake.fd, PollFlags::IN)];
        for link in &self.links {
            let sockets = Door::ALL.into_iter().filter_map(|door| link.of(door));
            polled.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
        }
        let due = self.probes.next().map(|at| at.saturating_duration_since(Instant::now()));
        let limit = due.unwrap_or(IDLE).min(IDLE);
        let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("waiting for DHCP messages"),
        }
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
        let boots = !seen.as_ref().is_some_and(|(sighting, _)| (self.left_alone)(identity(sighting)));
        let step = match (&mut self.role, self.config.links.get(number)) {
            (Some(full), _) => {
                full.answer(&Question { link: number, request: &request, who: &who, serial, boots, now })
            }
            (None, Some(link)) if boots => {
                proxy::answer(link, &request, &who, direct).map_or(Step::Nothing, Step::Send)
            }
            (None, _) => Step::Nothing,
        };
        tracing::debug!(mac = %request.mac, pi = serial.map(tracing::field::display), "DHCP {:?}", request.kind);
        if let Some((mut sighting, before)) = seen {
            // One that is left alone takes no offer, and is not to.
            if boots {
                self.watch.asked(&request, &who, before, now);
            }
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

fn identity(sighting: &Sighting) -> Identity {
    let Sighting { mac, serial, revision, .. } = *sighting;
    Identity { serial, mac: Some(mac), revision, board: revision.and_then(|revision| revision.board()) }
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
