//! What is wrong at a site, as far as DHCP shows it: a list for the page and for a doctor, and a line in the log for each, once.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use init::mac::Mac;
use serde::Serialize;

use super::pi::PiSerial;
use super::recent::Recent;
use super::server::Now;

/// Something that is wrong, and with whom. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// Another server tells Pis where boot files are.
    RivalBootServer {
        /// Its address.
        server: Ipv4Addr,
    },
    /// Another server gives addresses, where we do.
    RivalDhcpServer {
        /// Its address.
        server: Ipv4Addr,
    },
    /// A bootloader asks again and again, and takes no offer.
    NoOfferTaken {
        /// Whose.
        mac: Mac,
        /// Whether we give addresses, or a server that should do so was heard.
        address_offered: bool,
    },
    /// A bootloader from before 2020-03, or one that was told to look like it.
    OldBootloader {
        /// Whose.
        mac: Mac,
        /// Its serial number.
        serial: PiSerial,
    },
    /// One Ethernet address, and two Pis.
    TwoSerials {
        /// The address.
        mac: Mac,
        /// The serial number of before.
        before: PiSerial,
        /// The one of now.
        now: PiSerial,
    },
    /// A network has no address left.
    NoAddressLeft {
        /// Which.
        network: String,
    },
    /// Somebody uses an address that we give.
    AddressInUse {
        /// The address.
        address: Ipv4Addr,
        /// Who.
        mac: Mac,
    },
    /// A client found that somebody uses the address that we gave it.
    Declined {
        /// The address.
        address: Ipv4Addr,
        /// The client.
        mac: Mac,
    },
    /// Leases cannot be written, and so nobody gets one.
    LeasesNotWritten {
        /// Why.
        error: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RivalBootServer { server } => write!(
                f,
                "{server} tells Pis to boot from it as well: which of both servers a Pi takes is chance. Switch its boot \
                 options off (option 43 or 66), or stop this server"
            ),
            Self::RivalDhcpServer { server } => write!(
                f,
                "{server} gives addresses as well: a Pi that takes its offer may not boot. Switch it off for this network, or \
                 use --dhcp proxy here"
            ),
            Self::NoOfferTaken { mac, address_offered: false } => write!(
                f,
                "the Pi {mac} asks again and again, and no DHCP server was heard to offer it an address; proxyDHCP gives none. \
                 Is the site's DHCP server on this network, and has it an address left? If there is none, use --dhcp full"
            ),
            Self::NoOfferTaken { mac, address_offered: true } => write!(
                f,
                "the Pi {mac} asks again and again and takes no offer. Offers may not reach it: a switch port that blocks for 30 s \
                 after link-up (spanning tree: make it an edge port) or drops answers (DHCP snooping: trust this server's port), \
                 or a firewall. Or its EEPROM has another PXE_OPTION43, or a DHCP_TIMEOUT that is too short"
            ),
            Self::OldBootloader { mac, serial } => write!(
                f,
                "the bootloader of the Pi {serial} ({mac}) writes option 97 as those before 2020-03 do: too old for HTTP boot \
                 (2022-03-10). Update its EEPROM; if it is newer, remove DHCP_OPTION97=0"
            ),
            Self::TwoSerials { mac, before, now } => write!(
                f,
                "two Pis ask under the Ethernet address {mac}: {before} and {now}. Look for MAC_ADDRESS in their EEPROMs; if a \
                 carrier board got another module, nothing is wrong"
            ),
            Self::NoAddressLeft { network } => write!(
                f,
                "no address is left in {network}: a Pi there gets none. Make --dhcp-range larger, or --dhcp-lease-time shorter"
            ),
            Self::AddressInUse { address, mac } => write!(
                f,
                "{mac} uses {address}, which is ours to give: it is not offered for 10 minutes. Take it out of --dhcp-range, or \
                 change that host's address"
            ),
            Self::Declined { address, mac } => write!(
                f,
                "{mac} found that another host uses {address}: it is not offered for 10 minutes. Look for a host with that address"
            ),
            Self::LeasesNotWritten { error } => {
                write!(f, "{error}: no address is given until that works. Is the disk full or read-only?")
            }
        }
    }
}

/// A cause, and when it was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What is wrong.
    #[serde(flatten)]
    pub cause: Cause,
    /// When it was found first.
    #[serde(serialize_with = "as_text")]
    pub first: SystemTime,
    /// And last.
    #[serde(serialize_with = "as_text")]
    pub last: SystemTime,
    /// How often.
    pub count: u64,
    #[serde(skip)]
    told: Option<Instant>,
    #[serde(skip)]
    kept: Option<Instant>,
}

fn as_text<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
}

/// The same thing is said again after so long.
const SAY_AGAIN: Duration = Duration::from_secs(3600);
/// Lines at once, and one more each [`EACH_LINE`]: Ethernet addresses are made up easily.
const LINES: u32 = 16;
const EACH_LINE: Duration = Duration::from_secs(15);
/// Findings that are kept, at least.
const KEPT: usize = 128;
/// A finding that goes on is written down again after so long.
const KEEP_AGAIN: Duration = Duration::from_secs(60);

/// Writes findings down. It is called between two answers, and must not wait for anything.
pub type Keeper = Box<dyn Fn(&Finding) + Send + Sync>;

/// All findings; shared with those who show them.
pub struct Findings(Mutex<Memory>);

struct Memory {
    all: Recent<Cause, Finding>,
    keeper: Option<Keeper>,
    lines: u32,
    since: Option<Instant>,
}

impl Default for Findings {
    fn default() -> Self {
        Self(Mutex::new(Memory { all: Recent::new(KEPT), keeper: None, lines: LINES, since: None }))
    }
}

impl fmt::Debug for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl Findings {
    /// Writes down from now on what is found, and what was found before.
    pub fn keep_with(&self, keeper: Keeper) {
        let mut memory = self.memory();
        memory.all.values().for_each(&keeper);
        memory.keeper = Some(keeper);
    }

    /// Remembers a finding; true where it was said in the log, too.
    pub fn report(&self, cause: Cause, now: Now) -> bool {
        let mut memory = self.memory();
        let may_say = memory.has_line(now.tick);
        let memory = &mut *memory;
        let new = || Finding {
            cause: cause.clone(),
            first: now.wall,
            last: now.wall,
            count: 0,
            told: None,
            kept: None,
        };
        let finding = memory.all.touch(cause.clone(), new);
        finding.count += 1;
        finding.last = now.wall;
        if let Some(keeper) = &memory.keeper
            && finding.kept.is_none_or(|kept| now.tick.saturating_duration_since(kept) >= KEEP_AGAIN)
        {
            finding.kept = Some(now.tick);
            keeper(finding);
        }
        let is_due = finding.told.is_none_or(|told| now.tick.saturating_duration_since(told) >= SAY_AGAIN);
        if !may_say || !is_due {
            return false;
        }
        finding.told = Some(now.tick);
        memory.lines -= 1;
        tracing::warn!("DHCP: {cause}");
        true
    }

    /// All that are remembered, those that were found first at the front.
    pub fn list(&self) -> Vec<Finding> {
        let mut all: Vec<_> = self.memory().all.values().cloned().collect();
        all.sort_by_key(|finding| finding.first);
        all
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic while it was locked leaves counts that are off by one at most.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Whether one more line may be written.
    fn has_line(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let earned = now.saturating_duration_since(since).as_secs() / EACH_LINE.as_secs();
        if earned > 0 {
            self.lines = self.lines.saturating_add(u32::try_from(earned).unwrap_or(LINES)).min(LINES);
            self.since = Some(now);
        }
        self.lines > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_once_an_hour_and_not_too_many() {
        let (findings, start) = (Findings::default(), Now::read());
        let at = |seconds| Now { tick: start.tick + Duration::from_secs(seconds), ..start };
        let rival = || Cause::RivalBootServer { server: Ipv4Addr::new(192, 0, 2, 3) };
        assert!(findings.report(rival(), at(0)));
        assert!(!findings.report(rival(), at(3599)));
        assert!(findings.report(rival(), at(3600)));
        let [finding] = &findings.list()[..] else { panic!() };
        assert_eq!((finding.count, &finding.cause), (3, &rival()));
        let text = serde_json::to_value(finding).unwrap();
        assert_eq!((&text["cause"], &text["server"]), (&"rival-boot-server".into(), &"192.0.2.3".into()));

        let flood = (0..10_000u16).filter(|number| {
            let [high, low] = number.to_be_bytes();
            let mac = Mac([2, 0, 0, 0, high, low]);
            findings.report(Cause::NoOfferTaken { mac, address_offered: true }, at(3600))
        });
        assert_eq!(flood.count(), 15);
        assert!(findings.list().len() <= 2 * KEPT);
        assert!(findings.report(Cause::NoAddressLeft { network: "192.0.2.0/24".into() }, at(3615)));
    }
}
