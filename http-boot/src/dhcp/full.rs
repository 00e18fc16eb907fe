//! The server that gives addresses (RFC 2131, section 4.3): what it decides, without a socket.
//!
//! It speaks for the networks that it was given, and is silent about others' addresses. What it gives is in the lease file
//! before its client hears of it: the caller calls [`Full::sync`] before it sends.

use init::mac::Mac;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::boot_options;
use super::findings::Cause;
use super::leases::{Client, Lease, Leases, State};
use super::message::{Kind, Message, Reply, code};
use super::pi::{Bootloader, PiSerial, Who};
use super::pool::{Applicant, Offers, Pool, seconds};
use super::recent::Recent;
use super::server::Now;
use super::settings::{Config, Network, ReservedFor};

/// What is to be done about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// To send this.
    Send(Answer),
    /// To look first whether somebody uses this address, other than this client; then [`Full::probed`].
    Probe(Ipv4Addr, Mac),
}

/// A client's question, and what is known of who asks.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The link that it came in on, as its place in [`Config::links`].
    pub link: usize,
    /// The question.
    pub request: &'a Message,
    /// Who asks.
    pub who: &'a Who,
    /// The Pi's serial number, from now or before.
    pub serial: Option<PiSerial>,
    /// Whether it is told where boot files are.
    pub boots: bool,
    /// When.
    pub now: Now,
}

/// An address that a stranger uses is not offered for so long.
const TAKEN_FOR: Duration = Duration::from_secs(600);
/// An address that answered no probe is not probed again for so long.
const FREE_FOR: Duration = Duration::from_secs(60);
/// Addresses whose probes are remembered.
const PROBED: usize = 2048;
/// DISCOVERs that wait for a probe.
const WAITING: usize = 256;
/// An identifier that is longer is not one: its client is told by its Ethernet address.
const LONGEST_IDENTIFIER: usize = 64;

/// A DISCOVER that waits for a probe.
struct Waiting {
    link: usize,
    request: Message,
    serial: Option<PiSerial>,
    boots: bool,
}

/// The server.
pub struct Full {
    config: Arc<Config>,
    leases: Leases,
    offers: Offers,
    free_since: Recent<Ipv4Addr, Instant>,
    waiting: HashMap<Ipv4Addr, Waiting>,
    /// Whose bootloader had an offer in which transaction: its REQUEST need not say again who it is.
    bootloaders: Recent<Mac, (u32, Bootloader)>,
    /// What the operator should hear of, until somebody takes it.
    pub causes: Vec<Cause>,
}

impl Full {
    /// A server with these leases.
    pub fn new(config: Arc<Config>, leases: Leases) -> Self {
        Self {
            config,
            leases,
            offers: Offers::default(),
            free_since: Recent::new(PROBED),
            waiting: HashMap::new(),
            bootloaders: Recent::new(PROBED),
            causes: Vec::new(),
        }
    }

    /// Other settings, for the same links.
    pub fn set_config(&mut self, config: Arc<Config>) {
        self.config = config;
    }

    /// Makes all that was decided last.
    ///
    /// # Errors
    /// Where it cannot be written: no ACK may be sent then.
    pub fn sync(&mut self) -> anyhow::Result<()> {
        self.leases.sync()
    }

    /// Pis that have leases: they are known although their bootloaders were seen by an earlier process.
    pub fn known(&self) -> impl Iterator<Item = (Mac, PiSerial)> {
        self.leases.all().filter_map(|lease| Some((lease.mac, lease.serial?)))
    }

    /// Decides about a question.
    pub fn answer(&mut self, question: &Question) -> Step {
        let request = question.request;
        let Some(applicant) = self.applicant(question) else { return Step::Nothing };
        let config = Arc::clone(&self.config);
        let Some(network) = network_of(&config, question.link, request) else { return Step::Nothing };
        let decided = match request.kind {
            Kind::Discover => return self.discover(question, network, &applicant),
            Kind::Request => self.request(question, network, &applicant),
            Kind::Decline => self.decline(question, network, &applicant),
            Kind::Release => self.release(question, &applicant),
            Kind::Inform => Some(self.inform(question, network)),
            Kind::Offer | Kind::Ack | Kind::Nak => None,
        };
        decided.map_or(Step::Nothing, Step::Send)
    }

    /// Who asks; `None`: nobody that is served.
    fn applicant(&self, question: &Question) -> Option<Applicant> {
        let Question { request, who, serial, .. } = *question;
        let mac = request.mac;
        let by_mac = Client::Mac(mac);
        let reserved = self.config.reserved.contains_key(&ReservedFor::Mac(mac));
        let is_ours = matches!(who, Who::Bootloader(_) | Who::Init)
            || serial.is_some()
            || reserved
            || self.leases.of(&by_mac).any(|lease| lease.state != State::Taken);
        if !is_ours && !self.config.anyone {
            return None;
        }
        let identifier =
            request.option(code::CLIENT_ID).filter(|bytes| (2..=LONGEST_IDENTIFIER).contains(&bytes.len()));
        let client = match identifier {
            Some(bytes) if !is_ours => Client::Identifier(bytes.to_vec()),
            _ => by_mac,
        };
        let before = self.leases.of(&client).find_map(|lease| lease.serial);
        Some(Applicant { client, mac, serial: serial.or(before) })
    }

    fn pool<'a>(&'a self, network: &'a Network, now: Now) -> Pool<'a> {
        Pool { config: &self.config, network, leases: &self.leases, now }
    }

    fn discover(&mut self, question: &Question, network: &Network, applicant: &Applicant) -> Step {
        let Question { request, now, .. } = *question;
        let wish = request.address(code::REQUESTED_ADDRESS);
        let pool = Pool { config: &self.config, network, leases: &self.leases, now };
        let Some(address) = pool.choose(&mut self.offers, applicant, wish) else {
            self.causes.push(Cause::NoAddressLeft { network: network.subnet.to_string() });
            return Step::Nothing;
        };
        let in_use = self.leases.get(address).is_some_and(|lease| {
            lease.state == State::Leased && lease.client == applicant.client && lease.until > seconds(now)
        });
        self.offers.hold(address, &applicant.client, now.tick);
        if let Who::Bootloader(found) = question.who {
            *self.bootloaders.touch(request.mac, || (request.id, *found)) = (request.id, *found);
        }
        // ARP does not go through a relay: there, who asks is to look (RFC 2131, section 4.4.1).
        let by_relay = !request.relay.is_unspecified();
        let was_free = self
            .free_since
            .get(&address)
            .is_some_and(|since| now.tick.saturating_duration_since(*since) < FREE_FOR);
        if in_use || by_relay || was_free {
            return Step::Send(self.grant(question, network, Kind::Offer, address));
        }
        if self.waiting.len() >= WAITING && !self.waiting.contains_key(&address) {
            // A flood: better an offer without a look than none.
            return Step::Send(self.grant(question, network, Kind::Offer, address));
        }
        let Question { link, serial, boots, .. } = *question;
        let waiting = Waiting { link, request: request.clone(), serial, boots };
        let is_new = self.waiting.insert(address, waiting).is_none();
        if is_new { Step::Probe(address, request.mac) } else { Step::Nothing }
    }

    /// What a probe found: who uses the address, or nobody. Gives the link, and what is to be done there.
    pub fn probed(&mut self, address: Ipv4Addr, by: Option<Mac>, now: Now) -> Option<(usize, Step)> {
        let Waiting { link, request, serial, boots } = self.waiting.remove(&address)?;
        let who = Who::of(&request);
        let question = Question { link, request: &request, who: &who, serial, boots, now };
        match by {
            None => *self.free_since.touch(address, || now.tick) = now.tick,
            Some(mac) => {
                self.causes.push(Cause::AddressInUse { address, mac });
                let user = Applicant { client: Client::Mac(mac), mac, serial: None };
                self.take_out(address, user, State::Taken, now);
            }
        }
        // Again from the start: another may have taken it meanwhile.
        Some((link, self.answer(&question)))
    }

    /// Keeps an address from all, but for who uses it: a client of ours, maybe, whose lease was lost.
    fn take_out(&mut self, address: Ipv4Addr, by: Applicant, state: State, now: Now) {
        let until = seconds(now) + TAKEN_FOR.as_secs();
        let Applicant { client, mac, serial } = by;
        self.leases.put(Lease { address, client, mac, serial, relay: None, until, state });
    }

    /// RFC 2131, section 4.3.2.
    fn request(&mut self, question: &Question, network: &Network, applicant: &Applicant) -> Option<Answer> {
        let request = question.request;
        let identity = self.config.links.get(question.link)?.identity;
        let named = request.address(code::SERVER);
        let wanted = request.address(code::REQUESTED_ADDRESS);
        let (address, is_fresh) = match (named, wanted) {
            (Some(server), _) if server != identity => {
                // SELECTING another's offer.
                self.offers.drop_of(&applicant.client);
                return None;
            }
            // SELECTING ours; then INIT-REBOOT; then RENEWING and REBINDING.
            (Some(_), Some(wanted)) => (wanted, true),
            (None, Some(wanted)) if request.in_use.is_unspecified() => (wanted, false),
            _ => (Some(request.in_use).filter(|address| !address.is_unspecified())?, false),
        };
        let pool = self.pool(network, question.now);
        let may = pool.is_for(address, applicant);
        if may && !pool.is_taken(address, applicant) {
            return Some(self.lease(question, network, applicant, address));
        }
        let on_link = network.subnet.contains(address);
        // An address of our own network that we do not give: another server's, or one by hand. Not ours to forbid, unless we
        // know that its client has another one.
        let has_other = self
            .leases
            .of(&applicant.client)
            .any(|lease| lease.state == State::Leased && lease.until > seconds(question.now));
        let is_ours = may
            || has_other
            || network.ranges.iter().any(|range| range.contains(address))
            || self.config.reserved_addresses.contains(&address);
        (is_fresh || !on_link || is_ours).then(|| nak(request, identity))
    }

    fn lease(
        &mut self,
        question: &Question,
        network: &Network,
        applicant: &Applicant,
        address: Ipv4Addr,
    ) -> Answer {
        let Applicant { client, mac, serial } = applicant.clone();
        self.offers.drop_of(&client);
        let relay = Some(question.request.relay).filter(|relay| !relay.is_unspecified());
        let relay = relay.or_else(|| self.leases.get(address).filter(|lease| lease.client == client)?.relay);
        let until = seconds(question.now) + self.config.lease_time.as_secs();
        self.leases.put(Lease { address, client, mac, serial, relay, until, state: State::Leased });
        self.grant(question, network, Kind::Ack, address)
    }

    fn decline(&mut self, question: &Question, network: &Network, applicant: &Applicant) -> Option<Answer> {
        let request = question.request;
        let identity = self.config.links.get(question.link)?.identity;
        let address = request.address(code::REQUESTED_ADDRESS)?;
        let ours = request.address(code::SERVER).is_none_or(|server| server == identity);
        let its = self
            .leases
            .get(address)
            .is_some_and(|lease| lease.client == applicant.client && lease.state == State::Leased);
        // Only its own: else one client could take all addresses out.
        if ours && its && network.subnet.contains(address) {
            self.free_since.remove(&address);
            self.causes.push(Cause::Declined { address, mac: request.mac });
            self.take_out(address, applicant.clone(), State::Declined, question.now);
        }
        None
    }

    fn release(&mut self, question: &Question, applicant: &Applicant) -> Option<Answer> {
        let lease = self.leases.get(question.request.in_use)?;
        if lease.client == applicant.client && lease.state == State::Leased {
            let until = seconds(question.now);
            let released = Lease { state: State::Released, until, ..lease.clone() };
            self.leases.put(released);
            self.offers.look_again();
        }
        None
    }

    /// To a client that has its address from elsewhere: all but an address (RFC 2131, section 4.3.5).
    fn inform(&self, question: &Question, network: &Network) -> Answer {
        self.grant(question, network, Kind::Ack, Ipv4Addr::UNSPECIFIED)
    }

    /// An offer or an ACK. Options are in the order that dnsmasq has them in.
    fn grant(&self, question: &Question, network: &Network, kind: Kind, address: Ipv4Addr) -> Answer {
        let request = question.request;
        let link = self.config.links.get(question.link);
        let identity = link.map_or(Ipv4Addr::UNSPECIFIED, |link| link.identity);
        let in_use = if kind == Kind::Ack { request.in_use } else { Ipv4Addr::UNSPECIFIED };
        let mut reply =
            Reply::to(request, kind).in_use(in_use).given(address).with(code::SERVER, &identity.octets());
        if !address.is_unspecified() {
            let time = u32::try_from(self.config.lease_time.as_secs()).unwrap_or(u32::MAX);
            for (code, seconds) in [
                (code::LEASE_TIME, time),
                (code::RENEWAL_TIME, time / 2),
                (code::REBINDING_TIME, time / 8 * 7),
            ] {
                reply = reply.with(code, &seconds.to_be_bytes());
            }
        }
        reply = reply
            .with(code::MASK, &network.subnet.mask().octets())
            .with(code::BROADCAST_ADDRESS, &network.subnet.broadcast().octets());
        for (code, addresses) in [
            (code::ROUTER, &self.router(network, request, address).into_iter().collect::<Vec<_>>()),
            (code::NAME_SERVERS, &self.config.dns),
            (code::NTP_SERVERS, &self.config.ntp),
        ] {
            reply = reply.with(code, &addresses.iter().flat_map(Ipv4Addr::octets).collect::<Vec<_>>());
        }
        reply = reply.with(code::DOMAIN_NAME, self.config.domain.as_deref().unwrap_or_default().as_bytes());
        // RFC 6842.
        reply = reply.with(code::CLIENT_ID, request.option(code::CLIENT_ID).unwrap_or_default());
        if let Some(link) = link.filter(|_| question.boots) {
            reply = match self.bootloader(question) {
                Some(found) => boot_options::add(reply, link.files, &found.machine),
                None => boot_options::add_server(reply, link.files),
            };
        }
        Answer::new(request, kind, address, reply)
    }

    /// Behind a relay, the relay is the router, unless one is given.
    fn router(&self, network: &Network, request: &Message, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let relay = Some(request.relay).filter(|relay| !relay.is_unspecified());
        let relay = relay.or_else(|| self.leases.get(address)?.relay);
        network.router.or(relay.filter(|_| network.behind_relay))
    }

    fn bootloader(&self, question: &Question) -> Option<Bootloader> {
        match question.who {
            Who::Bootloader(found) => Some(*found),
            _ => {
                let (id, found) = self.bootloaders.get(&question.request.mac)?;
                (*id == question.request.id).then_some(*found)
            }
        }
    }
}

/// The network that a client is in: that of the relay; of its address, for one that renews; else the interface's own.
fn network_of<'a>(config: &'a Config, link: usize, request: &Message) -> Option<&'a Network> {
    let has = |address: Ipv4Addr| config.networks.iter().find(|network| network.subnet.contains(address));
    if !request.relay.is_unspecified() {
        return has(request.relay);
    }
    let by_address = Some(request.in_use).filter(|address| !address.is_unspecified()).and_then(has);
    by_address.or_else(|| config.networks.get(link))
}

fn nak(request: &Message, identity: Ipv4Addr) -> Answer {
    let mut reply = Reply::to(request, Kind::Nak)
        .with(code::SERVER, &identity.octets())
        .with(code::MESSAGE, b"this address is not for you here");
    // RFC 2131, section 4.3.2: a relay is to broadcast it.
    reply.set_broadcast(true);
    Answer::new(request, Kind::Nak, Ipv4Addr::UNSPECIFIED, reply)
}

#[cfg(test)]
#[path = "full_tests.rs"]
mod tests;
