//! What the command line says about the network, each word as the kernel (Documentation/admin-guide/nfs/nfsroot.rst),
//! dracut (dracut.cmdline(7)) and systemd (systemd-network-generator.service(8)) spell it: [`crate::ip`] reads `ip=`,
//! [`crate::links`] the words for interfaces that have to be made or named, this file the rest, and puts them together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cmdline::CommandLine;
use crate::ip::{self, Interface};
use crate::links::{self, Bond, Bridge, Vlan};
use crate::mac::Mac;

/// Where an interface's IPv4 address comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum V4 {
    /// DHCPv4, asked for as long as it takes.
    #[default]
    Dhcp,
    /// A fixed address.
    Static {
        /// The address.
        address: Ipv4Addr,
        /// The length of its network's prefix, 0 to 32.
        prefix: u8,
        /// The default gateway.
        gateway: Option<Ipv4Addr>,
    },
    /// Nowhere: the link is up, for IPv6 alone.
    Off,
}

/// Where an interface's IPv6 addresses come from. The link-local one is there in any case: SSH answers on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum V6 {
    /// What routers announce (RFC 4862), which the kernel does, and DHCPv6 where they say so.
    #[default]
    Auto,
    /// DHCPv6, asked for without waiting for a router, beside what routers announce.
    Dhcp,
    /// As `Auto`; where no router gives an address within seconds, as `Dhcp`.
    Either,
    /// A fixed address, beside what routers announce.
    Static {
        /// The address.
        address: Ipv6Addr,
        /// The length of its network's prefix, 0 to 128.
        prefix: u8,
        /// The default gateway.
        gateway: Option<Ipv6Addr>,
    },
    /// Nothing but the link-local address.
    LinkLocal,
}

/// How one interface is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// Its IPv4 address.
    pub v4: V4,
    /// Its IPv6 addresses.
    pub v6: V6,
    /// The largest packet, in bytes, 68 to 65535; `None`: as the driver has it.
    pub mtu: Option<u32>,
    /// Another MAC address than its own.
    pub mac: Option<Mac>,
}

/// A way to a network (`rd.route=`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network.
    pub network: IpAddr,
    /// The length of its prefix.
    pub prefix: u8,
    /// The next hop, of the same family; `None`: the network is on the interface's link.
    pub gateway: Option<IpAddr>,
    /// The interface; `None`: the one on whose network the gateway is.
    pub device: Option<String>,
}

/// What the command line says about the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// One entry an `ip=`; none means DHCP on every wired interface.
    pub interfaces: Vec<Interface>,
    /// Name servers from `ip=` and `nameserver=`; they come before those of DHCP.
    pub nameservers: Vec<IpAddr>,
    /// The interfaces that `vlan=` makes.
    pub vlans: Vec<Vlan>,
    /// The interfaces that `bond=` makes.
    pub bonds: Vec<Bond>,
    /// The interfaces that `bridge=` makes.
    pub bridges: Vec<Bridge>,
    /// Names for interfaces that are known by their MAC address (`ifname=`).
    pub names: Vec<(String, Mac)>,
    /// The only interface that is set up unless another is named (`BOOTIF=`).
    pub boot_interface: Option<Mac>,
    /// Further routes (`rd.route=`).
    pub routes: Vec<Route>,
    /// Whether name servers and search domains of DHCP and of routers are left out (`rd.peerdns=0`).
    pub own_dns_alone: bool,
}

/// A word about the network that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word}: {reason}")]
pub struct NetworkError {
    /// The word, as it stands on the command line.
    pub word: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Network {
    /// Reads every word about the network; a bad one is left out and reported.
    pub fn parse(line: &CommandLine) -> (Self, Vec<NetworkError>) {
        let mut network = Network::default();
        let mut errors = Vec::new();
        // As dracut: PXELINUX puts the word there by itself.
        let no_bootif = line.last("rd.bootif") == Some("0");
        for word in line.words.iter().filter(|word| word.name != "BOOTIF" || !no_bootif) {
            let value = word.value.as_deref().unwrap_or("");
            if let Err(reason) = network.take(&word.name, value) {
                errors.push(NetworkError { word: word.to_string(), reason });
            }
        }
        (network, errors)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "ip" => {
                let (interface, servers) = ip::parse(value)?;
                self.interfaces.push(interface);
                self.nameservers.extend(servers);
            }
            "nameserver" => self.nameservers.push(ip::any_address("name server", value)?),
            "vlan" => {
                let vlan = links::vlan(value)?;
                self.make(&vlan.name)?;
                self.vlans.push(vlan);
            }
            "bond" => {
                let bond = links::bond(value)?;
                self.make(&bond.name)?;
                self.take_members(&bond.members)?;
                self.bonds.push(bond);
            }
            "bridge" => {
                let bridge = links::bridge(value)?;
                self.make(&bridge.name)?;
                self.take_members(&bridge.members)?;
                self.bridges.push(bridge);
            }
            "ifname" => {
                let (name, mac) = links::ifname(value)?;
                if self.names.iter().any(|(other, known)| *other == name || *known == mac) {
                    return Err("this name or this MAC address was given before".into());
                }
                self.names.push((name, mac));
            }
            "BOOTIF" => self.boot_interface = Some(links::bootif(value)?),
            "rd.route" => self.routes.push(route(value)?),
            "team" => return Err("team= is not supported; bond= is".into()),
            "rd.peerdns" => {
                flag(value)?;
                self.own_dns_alone = ["0", "no"].contains(&value);
            }
            // This boot waits for the network as long as it takes, and needs it always: there is nothing to set.
            "rd.neednet" | "rd.bootif" => flag(value)?,
            name if name.starts_with("rd.net.timeout.") || name == "rd.net.dhcp.retry" => {
                value.parse::<u32>().map(drop).map_err(|_| "a whole number is needed".to_owned())?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A name can be made once.
    fn make(&self, name: &str) -> Result<(), String> {
        if self.is_made(name) { Err(format!("there are two words that make {name}")) } else { Ok(()) }
    }

    /// An interface can be part of one other.
    fn take_members(&self, members: &[String]) -> Result<(), String> {
        let taken = members.iter().find_map(|member| Some((member, self.part_of(member)?)));
        taken.map_or(Ok(()), |(member, other)| Err(format!("{member} is part of {other} already")))
    }

    /// Whether a word makes the interface `name`.
    pub fn is_made(&self, name: &str) -> bool {
        self.vlans.iter().any(|vlan| vlan.name == name) || self.controllers().any(|(other, _)| other == name)
    }

    /// The bonds and bridges, each with its interfaces.
    fn controllers(&self) -> impl Iterator<Item = (&str, &[String])> {
        let bonds = self.bonds.iter().map(|bond| (bond.name.as_str(), bond.members.as_slice()));
        bonds.chain(self.bridges.iter().map(|bridge| (bridge.name.as_str(), bridge.members.as_slice())))
    }

    /// The bond or bridge that an interface is part of.
    pub fn part_of(&self, device: &str) -> Option<&str> {
        let has = |members: &[String]| members.iter().any(|member| member == device);
        self.controllers().find(|(_, members)| has(members)).map(|(name, _)| name)
    }

    /// The interfaces that a bond or bridge is made of; none for others.
    pub fn members_of(&self, name: &str) -> &[String] {
        self.controllers().find(|(other, _)| *other == name).map(|(_, members)| members).unwrap_or_default()
    }

    /// How this interface is to be set up: what the `ip=` with its name say, each for its family, else one without a name.
    pub fn method_for(&self, device: &str, mac: Mac) -> Method {
        if self.part_of(device).is_some() {
            return Method { v4: V4::Off, v6: V6::LinkLocal, ..Method::default() };
        }
        let named = || self.interfaces.iter().filter(|one| one.device.as_deref() == Some(device));
        let any = || self.interfaces.iter().filter(|one| one.device.is_none());
        let is_named = named().next().is_some();
        let left_out = self.boot_interface.is_some_and(|wanted| wanted != mac) && !self.is_made(device);
        if !is_named && (left_out || (!self.interfaces.is_empty() && any().next().is_none())) {
            // Where only other interfaces are named, this one was left out on purpose.
            return Method { v4: V4::Off, ..Method::default() };
        }
        let ours: Vec<&Interface> = if is_named { named().collect() } else { any().collect() };
        // A word that is for IPv6 says "off" of IPv4; one for IPv4 counts for more.
        let v4 = ours.iter().find_map(|one| one.v4.clone().filter(|v4| *v4 != V4::Off));
        Method {
            v4: v4.unwrap_or(if ours.is_empty() { V4::Dhcp } else { V4::Off }),
            v6: ours.iter().find_map(|one| one.v6.clone()).unwrap_or_default(),
            mtu: ours.iter().find_map(|one| one.mtu),
            mac: ours.iter().find_map(|one| one.mac),
        }
    }

    /// The host name that an `ip=` gives.
    pub fn hostname(&self) -> Option<&str> {
        self.interfaces.iter().find_map(|interface| interface.hostname.as_deref())
    }
}

fn flag(value: &str) -> Result<(), String> {
    if ["", "0", "1", "yes", "no"].contains(&value) { Ok(()) } else { Err("it is 0 or 1".into()) }
}

/// `NETWORK/PREFIX:GATEWAY[:DEVICE]`; one of gateway and device may be missing.
fn route(value: &str) -> Result<Route, String> {
    let fields = ip::fields(value)?;
    let ([network, gateway] | [network, gateway, _]) = fields.as_slice() else {
        return Err("it is NETWORK/PREFIX:GATEWAY[:INTERFACE]".into());
    };
    let (network, prefix) = network.split_once('/').ok_or("the network has no /PREFIX")?;
    let network = ip::any_address("network", network)?;
    let gateway = Some(gateway).filter(|gateway| !gateway.is_empty());
    let gateway = gateway.map(|gateway| ip::any_address("gateway", gateway)).transpose()?;
    if gateway.is_some_and(|gateway| network.is_ipv4() != gateway.is_ipv4()) {
        return Err("network and gateway are of two families".into());
    }
    let longest = if network.is_ipv4() { 32 } else { 128 };
    let prefix = prefix
        .parse()
        .ok()
        .filter(|prefix| *prefix <= longest)
        .ok_or(format!("the prefix is 0 to {longest}"))?;
    let device = fields.get(2).filter(|device| !device.is_empty());
    let device = device.map(|device| links::device_name(device)).transpose()?;
    if gateway.is_none() && device.is_none() {
        return Err("it has neither a gateway nor an interface".into());
    }
    Ok(Route { network, prefix, gateway, device })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn parse(text: &str) -> Network {
        let (network, errors) = Network::parse(&CommandLine::parse(text));
        assert_eq!(errors, [], "{text}");
        network
    }

    fn v4(text: &str, device: &str) -> V4 {
        parse(text).method_for(device, MAC).v4
    }

    #[test]
    fn who_gets_an_address() {
        for (text, device, dhcp) in [
            ("quiet", "eth0", true),
            ("ip=dhcp", "eth7", true),
            ("ip=off", "eth0", false),
            ("ip=eth1:dhcp", "eth1", true),
            ("ip=eth1:dhcp", "eth0", false),
            ("ip=eth1:dhcp ip=dhcp", "eth0", true),
            ("ip=eth1:auto6", "eth1", false),
            ("ip=eth1:auto6 ip=eth1:dhcp", "eth1", true),
            ("BOOTIF=01-02-00-00-00-00-01", "eth0", true),
            ("BOOTIF=01-02-00-00-00-00-09", "eth0", false),
            ("BOOTIF=01-02-00-00-00-00-09 ip=eth0:dhcp", "eth0", true),
            ("BOOTIF=01-02-00-00-00-00-09 bond=bond0:eth0,eth1", "bond0", true),
            ("bond=bond0:eth0,eth1", "eth0", false),
            ("bond=bond0:eth0,eth1", "bond0", true),
            ("bridge=br0:eth0,eth1", "eth0", false),
            ("bridge=br0:eth0,eth1", "br0", true),
            ("bridge=br0:bond0 bond=bond0:eth0,eth1", "bond0", false),
            ("ip=eth0:dhcp6", "eth0", false),
            ("ip=dhcp,dhcp6", "eth0", true),
            ("BOOTIF=01-02-00-00-00-00-09 rd.bootif=0", "eth0", true),
            ("vlan=eth0.5:eth0", "eth0.5", true),
            ("vlan=eth0.5:eth0 ip=eth0.5:dhcp", "eth0", false),
            ("rd.neednet=1 rd.net.timeout.carrier=30 rd.net.dhcp.retry=3", "eth0", true),
        ] {
            assert_eq!(v4(text, device) == V4::Dhcp, dhcp, "{text}: {device}");
        }
    }

    #[test]
    fn both_families_come_together() {
        let both = "ip=192.0.2.7::192.0.2.1:24::eth0:none ip=[2001:db8::7]::[2001:db8::1]:64::eth0:none:1400";
        let method = parse(both).method_for("eth0", MAC);
        assert!(matches!(method.v4, V4::Static { prefix: 24, .. }), "{method:?}");
        assert!(matches!(method.v6, V6::Static { prefix: 64, gateway: Some(_), .. }), "{method:?}");
        assert_eq!(method.mtu, Some(1400));
    }

    #[test]
    fn routes_and_name_servers() {
        let network = parse(
            "rd.route=10.0.0.0/8:192.0.2.1 rd.route=[2001:db8:1::]/48:[fe80::1]:eth0 nameserver=[2001:db8::53] \
             nameserver=2001:db8::54 rd.route=192.0.2.0/24::eth1 rd.route=[2001:db8:3::/48]:[2001:db8:2::1]",
        );
        assert_eq!((network.routes[2].gateway, network.routes[2].device.as_deref()), (None, Some("eth1")));
        assert_eq!((network.routes[3].prefix, network.routes[3].device.as_deref()), (48, None));
        assert!(!network.own_dns_alone && parse("rd.peerdns=1 rd.peerdns=0").own_dns_alone);
        assert_eq!(network.routes[0].device, None);
        assert_eq!((network.routes[1].prefix, network.routes[1].device.as_deref()), (48, Some("eth0")));
        assert_eq!(network.nameservers.len(), 2);
    }

    #[test]
    fn bad_words_are_named_whole() {
        for bad in [
            "nameserver=dns.example",
            "rd.route=10.0.0.0:192.0.2.1",
            "rd.route=10.0.0.0/33:192.0.2.1",
            "rd.route=10.0.0.0/8:[fe80::1]",
            "rd.route=10.0.0.0/8",
            "bridge=br0:eth0,eth0",
            "rd.route=10.0.0.0/8:",
            "rd.route=10.0.0.0/8::",
            "rd.peerdns=none",
            "rd.bootif=maybe",
            "team=team0:eth0",
            "rd.neednet=maybe",
            "rd.net.timeout.dhcp=soon",
            "rd.net.dhcp.retry=",
            "BOOTIF=eth0",
        ] {
            let (_, errors) = Network::parse(&CommandLine::parse(bad));
            assert_eq!(errors.len(), 1, "{bad}");
            assert_eq!(errors[0].word, bad);
        }
        for (twice, word) in [
            ("vlan=vlan5:eth0 vlan=vlan5:eth1", "vlan=vlan5:eth1"),
            ("bond=b:eth0 bond=c:eth1,eth0", "bond=c:eth1,eth0"),
            ("bond=b:eth0 bridge=c:eth1,eth0", "bridge=c:eth1,eth0"),
            ("bridge=br5:eth0 vlan=br5:eth1", "vlan=br5:eth1"),
            ("ifname=a:02:00:00:00:00:01 ifname=b:02:00:00:00:00:01", "ifname=b:02:00:00:00:00:01"),
        ] {
            let (_, errors) = Network::parse(&CommandLine::parse(twice));
            assert_eq!((errors.len(), errors[0].word.as_str()), (1, word));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(name in "ip|vlan|bond|bridge|ifname|BOOTIF|rd.route|nameserver", text in "[0-9a-z\\[\\].:/%,=-]{0,60}") {
            let (network, _) = Network::parse(&CommandLine::parse(&format!("{name}={text}")));
            network.method_for("eth0", MAC);
        }
    }
}
