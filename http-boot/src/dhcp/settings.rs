//! What an operator asks for, and the checked [`Config`] that it becomes.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use init::mac::Mac;
use serde::{Deserialize, Deserializer};

use super::interface::Interface;
use super::pi::PiSerial;
use super::subnet::{Range, RangeSetting, Subnet};

/// Which kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Beside the site's own DHCP server: says only where the boot files are.
    Proxy,
    /// Gives addresses as well.
    Full,
}

/// Who a reserved address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReservedFor {
    /// Whoever has this Ethernet address; that need not be a Pi.
    Mac(Mac),
    /// The Pi with this serial number, whatever its Ethernet address.
    Serial(PiSerial),
}

impl fmt::Display for ReservedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Serial(serial) => serial.fmt(f),
        }
    }
}

/// `MAC=ADDR` or `SERIAL=ADDR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Who gets it.
    pub who: ReservedFor,
    /// The address.
    pub address: Ipv4Addr,
    /// An Ethernet address of the same Pi: it is known by that before its bootloader was seen.
    pub also: Option<Mac>,
}

impl Reservation {
    /// The address, by each name of its client.
    fn by_each(&self) -> impl Iterator<Item = (ReservedFor, Ipv4Addr)> {
        let also = self.also.map(ReservedFor::Mac);
        std::iter::once(self.who).chain(also).map(|who| (who, self.address))
    }
}

impl FromStr for Reservation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (who, address) = text.split_once('=').ok_or_else(|| {
            format!(
                "'{text}' is not MAC=ADDR or SERIAL=ADDR, like dc:a6:32:01:36:c2=192.0.2.7 or 5b154510=192.0.2.7"
            )
        })?;
        let address =
            address.trim().parse().map_err(|_| format!("'{address}' in '{text}' is no IPv4 address"))?;
        let who = match (who.trim().parse(), who.trim().parse()) {
            (Ok(mac), _) => ReservedFor::Mac(mac),
            (_, Ok(serial)) => ReservedFor::Serial(serial),
            (Err(mac), Err(serial)) => return Err(format!("in '{text}', {mac}, and {serial}")),
        };
        Ok(Self { who, address, also: None })
    }
}

/// The flags of `http-boot serve` that start with `--dhcp`, or a table of the same names without that.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Which kind of server.
    pub mode: Mode,
    /// The interfaces it serves, by name: at least one.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Where the boot files are, where that is not the interface's own address.
    pub server: Option<Ipv4Addr>,
    /// Addresses to give.
    #[serde(default, deserialize_with = "from_texts")]
    pub ranges: Vec<RangeSetting>,
    /// The default gateway of the interface's own network.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    #[serde(default)]
    pub ntp: Vec<Ipv4Addr>,
    /// The domain of the clients' names.
    pub domain: Option<String>,
    /// For how long an address is given.
    #[serde(default, deserialize_with = "from_text")]
    pub lease_time: Option<LeaseTime>,
    /// Addresses for one client each.
    #[serde(default, deserialize_with = "from_texts")]
    pub reserve: Vec<Reservation>,
    /// The file that keeps what was given.
    pub leases: Option<PathBuf>,
    /// Whether to give addresses to others than Pis.
    #[serde(default)]
    pub anyone: bool,
}

/// A length of time as people write it: `90s`, `12h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTime(pub Duration);

impl FromStr for LeaseTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = humantime::parse_duration(text);
        time.map(Self).map_err(|error| format!("'{text}' is no length of time like 90s or 12h: {error}"))
    }
}

fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(from: D) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

fn from_texts<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(from: D) -> Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

/// An interface that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface.
    pub interface: Interface,
    /// Its address, by which the server is known (option 54).
    pub identity: Ipv4Addr,
    /// Its own network.
    pub subnet: Subnet,
    /// Where the boot files are.
    pub files: Ipv4Addr,
}

/// A network whose addresses are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Which addresses lie in it.
    pub subnet: Subnet,
    /// Which of them are given.
    pub ranges: Vec<Range>,
    /// The default gateway. `None` behind a relay: the relay itself.
    pub router: Option<Ipv4Addr>,
    /// Whether a relay stands between it and us.
    pub behind_relay: bool,
}

/// Settings that were held against the machine's interfaces, and against each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which kind of server.
    pub mode: Mode,
    /// The interfaces.
    pub links: Vec<Link>,
    /// The networks; those of the interfaces, in their order, come first.
    pub networks: Vec<Network>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// The domain.
    pub domain: Option<String>,
    /// For how long an address is given.
    pub lease_time: Duration,
    /// Reserved addresses.
    pub reserved: HashMap<ReservedFor, Ipv4Addr>,
    /// The same addresses, to look them up.
    pub reserved_addresses: HashSet<Ipv4Addr>,
    /// The file that keeps what was given.
    pub leases: PathBuf,
    /// Whether to give addresses to others than Pis.
    pub anyone: bool,
}

/// Where nothing else is said: long enough that a server may be away for a night, and short enough to change a site in a day.
pub const LEASE_TIME: Duration = Duration::from_secs(12 * 3600);
/// Shorter ones are renewed without pause; longer ones than a year are never noticed to be wrong.
const LEASE_TIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(365 * 86_400);
/// Of all ranges together: bounds the lease file and the search for a free address.
const MOST_ADDRESSES: u64 = 1 << 16;
/// Of name servers and of time servers: an offer has to fit into the 576 bytes that every client takes (RFC 2131).
const MOST_SERVERS: usize = 4;
const LONGEST_DOMAIN: usize = 64;

const NO_INTERFACE: &str = "no --dhcp-interface is given: name the one that the Pis are on";

/// What is wrong with settings; one sentence each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct BadSettings(pub Vec<String>);

impl Settings {
    /// Holds the settings against the machine's interfaces. All that is wrong is said at once.
    ///
    /// # Errors
    /// Where they are not of one piece; each error names the setting and the value.
    pub fn check(&self, machine: &[Interface]) -> Result<Config, BadSettings> {
        let mut wrong = Vec::new();
        let links = self.links(machine, &mut wrong);
        self.check_mode(&mut wrong);
        self.check_values(&mut wrong);
        let networks = self.networks(&links, &mut wrong);
        if self.mode == Mode::Full {
            self.check_addresses(&links, &networks, &mut wrong);
        }
        if !wrong.is_empty() {
            return Err(BadSettings(wrong));
        }
        Ok(Config {
            mode: self.mode,
            links,
            networks,
            dns: self.dns.clone(),
            ntp: self.ntp.clone(),
            domain: self.domain.clone(),
            lease_time: self.lease_time.map_or(LEASE_TIME, |time| time.0),
            reserved: self.reserve.iter().flat_map(Reservation::by_each).collect(),
            reserved_addresses: self.reserve.iter().map(|one| one.address).collect(),
            leases: self.leases.clone().unwrap_or_else(default_leases),
            anyone: self.anyone,
        })
    }

    /// What is wrong with them on any machine.
    pub fn wrong_anywhere(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.interfaces.is_empty() {
            wrong.push(NO_INTERFACE.into());
        }
        self.check_mode(&mut wrong);
        self.check_values(&mut wrong);
        wrong
    }

    /// The flags that say the same.
    pub fn flags(&self) -> Vec<&'static str> {
        let given = [
            ("--dhcp", true),
            ("--dhcp-interface", !self.interfaces.is_empty()),
            ("--dhcp-server", self.server.is_some()),
        ];
        given.into_iter().chain(self.only_full()).filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }

    /// Flags that are for a server which gives addresses, and whether they are given.
    fn only_full(&self) -> [(&'static str, bool); 9] {
        [
            ("--dhcp-range", !self.ranges.is_empty()),
            ("--dhcp-router", self.router.is_some()),
            ("--dhcp-dns", !self.dns.is_empty()),
            ("--dhcp-ntp", !self.ntp.is_empty()),
            ("--dhcp-domain", self.domain.is_some()),
            ("--dhcp-lease-time", self.lease_time.is_some()),
            ("--dhcp-reserve", !self.reserve.is_empty()),
            ("--dhcp-leases", self.leases.is_some()),
            ("--dhcp-anyone", self.anyone),
        ]
    }

    fn links(&self, machine: &[Interface], wrong: &mut Vec<String>) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        if self.interfaces.is_empty() {
            wrong.push(NO_INTERFACE.into());
        }
        for name in &self.interfaces {
            let Some(interface) = machine.iter().find(|interface| interface.name == *name) else {
                let names: Vec<_> = machine.iter().map(|interface| interface.name.as_str()).collect();
                wrong.push(format!("there is no Ethernet interface {name}; there are: {}", names.join(", ")));
                continue;
            };
            if links.iter().any(|link| link.interface.name == *name) {
                wrong.push(format!("the interface {name} is given twice"));
                continue;
            }
            let Some((identity, subnet)) = self.address_on(interface) else {
                wrong.push(format!(
                    "{name} has no IPv4 address in a network of 4 to 16,777,216 addresses: give it one (`ip address add`) \
                     before the server starts"
                ));
                continue;
            };
            if let Some(other) = links.iter().find(|link| link.subnet == subnet) {
                wrong.push(format!("{name} and {} are both in {subnet}: name one", other.interface.name));
            }
            let files = self.server.unwrap_or(identity);
            links.push(Link { interface: interface.clone(), identity, subnet, files });
        }
        links
    }

    /// The address that was asked for, where the interface has it; else its first.
    fn address_on(&self, interface: &Interface) -> Option<(Ipv4Addr, Subnet)> {
        let usable = |(address, prefix): &(Ipv4Addr, u8)| Some((*address, Subnet::of(*address, *prefix)?));
        let mut all = interface.addresses.iter().filter_map(usable);
        let first = all.next();
        first.into_iter().chain(all).find(|(address, _)| Some(*address) == self.server).or(first)
    }

    fn check_mode(&self, wrong: &mut Vec<String>) {
        let Mode::Proxy = self.mode else {
            if self.ranges.is_empty() && self.reserve.is_empty() {
                wrong.push("--dhcp full has no address to give: --dhcp-range or --dhcp-reserve".into());
            }
            return;
        };
        for (flag, _) in self.only_full().into_iter().filter(|(_, given)| *given) {
            wrong.push(format!(
                "{flag} is for --dhcp full: with proxy, the site's own server gives addresses"
            ));
        }
    }

    fn check_values(&self, wrong: &mut Vec<String>) {
        let mut addresses: Vec<(&str, Ipv4Addr)> = Vec::new();
        addresses.extend(self.server.map(|address| ("--dhcp-server", address)));
        addresses.extend(self.router.map(|address| ("--dhcp-router", address)));
        addresses.extend(self.dns.iter().map(|address| ("--dhcp-dns", *address)));
        addresses.extend(self.ntp.iter().map(|address| ("--dhcp-ntp", *address)));
        for (flag, address) in addresses {
            let [first, ..] = address.octets();
            if matches!(first, 0 | 127 | 224..) {
                wrong.push(format!("{flag} {address} is no address that a Pi can reach"));
            }
        }
        for (flag, count) in [("--dhcp-dns", self.dns.len()), ("--dhcp-ntp", self.ntp.len())] {
            if count > MOST_SERVERS {
                wrong.push(format!("{flag} is given {count} times: {MOST_SERVERS} at most"));
            }
        }
        if let Some(LeaseTime(time)) = self.lease_time
            && !LEASE_TIMES.contains(&time)
        {
            let time = humantime::format_duration(time);
            wrong.push(format!("--dhcp-lease-time {time} is not between a minute and a year"));
        }
        let is_name = |name: &String| {
            name.len() <= LONGEST_DOMAIN
                && name.split('.').all(|label| {
                    !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                })
        };
        if let Some(domain) = self.domain.as_ref().filter(|domain| !is_name(domain)) {
            wrong.push(format!("--dhcp-domain '{domain}' is no domain of at most {LONGEST_DOMAIN} letters"));
        }
    }

    fn networks(&self, links: &[Link], wrong: &mut Vec<String>) -> Vec<Network> {
        let own = |link: &Link| Network {
            subnet: link.subnet,
            ranges: Vec::new(),
            router: self.router.filter(|router| link.subnet.contains(*router)),
            behind_relay: false,
        };
        let mut networks: Vec<Network> = links.iter().map(own).collect();
        for RangeSetting { range, prefix } in &self.ranges {
            let subnet = prefix.map(|prefix| Subnet::of(range.first, prefix));
            if subnet == Some(None) {
                wrong.push(format!("the range {range} has a prefix that is not 8 to 30"));
                continue;
            }
            let of_range = |network: &&mut Network| match subnet.flatten() {
                Some(subnet) => network.subnet == subnet,
                None => !network.behind_relay && network.subnet.contains(range.first),
            };
            match (networks.iter_mut().find(of_range), subnet.flatten()) {
                (Some(network), _) => network.ranges.push(*range),
                (None, Some(subnet)) => {
                    networks.push(Network { subnet, ranges: vec![*range], router: None, behind_relay: true });
                }
                // Without a link, that has been said.
                (None, None) if links.is_empty() => {}
                (None, None) => {
                    let own: Vec<_> = links.iter().map(|link| link.subnet.to_string()).collect();
                    wrong.push(format!(
                        "the range {range} is not in the interface's own network ({}): for a network behind a relay, add \
                         its prefix (like /24)",
                        own.join(", ")
                    ));
                }
            }
        }
        networks
    }

    fn check_addresses(&self, links: &[Link], networks: &[Network], wrong: &mut Vec<String>) {
        if let Some(router) = self.router
            && !links.iter().any(|link| link.subnet.has_host(router))
        {
            wrong.push(format!("the router {router} is not in the interface's own network"));
        }
        let mut seen: Vec<Range> = Vec::new();
        for (network, range) in networks.iter().flat_map(|n| n.ranges.iter().map(move |range| (n, *range))) {
            if !network.subnet.has_host(range.first) || !network.subnet.has_host(range.last) {
                wrong.push(format!("the range {range} does not lie within the hosts of {}", network.subnet));
            }
            if let Some(other) = seen.iter().find(|other| other.meets(range)) {
                wrong.push(format!("the ranges {other} and {range} have addresses in common"));
            }
            for (what, address) in self.fixed(links).filter(|(_, address)| range.contains(*address)) {
                wrong.push(format!("the range {range} contains the address {address} of {what}"));
            }
            seen.push(range);
        }
        let sum: u64 = seen.iter().map(|range| range.size()).sum();
        if sum > MOST_ADDRESSES {
            wrong.push(format!("the ranges have {sum} addresses: {MOST_ADDRESSES} at most"));
        }
        self.check_reservations(links, networks, wrong);
    }

    /// Addresses that are somebody's already.
    fn fixed<'a>(&'a self, links: &'a [Link]) -> impl Iterator<Item = (&'static str, Ipv4Addr)> + 'a {
        let interfaces = links.iter().flat_map(|link| link.interface.addresses.iter());
        let server = self.server.filter(|server| links.iter().all(|link| link.identity != *server));
        interfaces
            .map(|(address, _)| ("this server", *address))
            .chain(server.map(|address| ("--dhcp-server", address)))
            .chain(self.router.map(|address| ("the router", address)))
            .chain(self.dns.iter().map(|address| ("a name server", *address)))
            .chain(self.ntp.iter().map(|address| ("a time server", *address)))
    }

    fn check_reservations(&self, links: &[Link], networks: &[Network], wrong: &mut Vec<String>) {
        let (mut whos, mut addresses) = (HashSet::new(), HashSet::new());
        for reservation in &self.reserve {
            let Reservation { who, address, .. } = reservation;
            for (who, _) in reservation.by_each() {
                if !whos.insert(who) {
                    wrong.push(format!("{who} has two reservations"));
                }
            }
            if !addresses.insert(*address) {
                wrong.push(format!("{address} is reserved twice"));
            }
            if !networks.iter().any(|network| network.subnet.has_host(*address)) {
                wrong
                    .push(format!("the reserved address {address} of {who} is in no network that is served"));
            }
            if let Some((what, _)) = self.fixed(links).find(|(_, fixed)| fixed == address) {
                wrong.push(format!("{address}, reserved for {who}, is the address of {what}"));
            }
        }
    }
}

/// Where systemd says that state lies (`StateDirectory=`, its first), else below /var/lib.
fn default_leases() -> PathBuf {
    let folders = std::env::var_os("STATE_DIRECTORY");
    let first = folders.as_ref().and_then(|folders| std::env::split_paths(folders).next());
    first.unwrap_or_else(|| PathBuf::from("/var/lib/http-boot")).join("dhcp-leases")
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
