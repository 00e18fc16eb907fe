//! What routers and DHCPv6 servers say of an interface, and what becomes of it. The kernel reads the routers' announcements
//! and makes addresses of them (RFC 4862); we hear of them from it, and ask by DHCPv6 where they say so.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use rtnetlink::packet_core::Nla;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, Inet6IfaceFlags, LinkAttribute, LinkMessage, LinkProtoInfoInet6,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{MulticastGroup, RouteMessageBuilder};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Interface, Network};
use crate::identity::MachineId;
use crate::mac::Mac;
use crate::network::V6;
use crate::pid1::dhcp::identifier;
use crate::pid1::dhcp::interface_name::persistent_name;
use crate::pid1::dhcp6::answer::{Address, Lease};
use crate::pid1::dhcp6::client::{Client, News, Wants};
use crate::pid1::dhcp6::options::Information;
use crate::pid1::dhcp6::question::Identity;
use crate::pid1::dhcp6::wire::Udp;

/// The kernel's news of routers: their flags and their routes.
pub(super) const GROUPS: [MulticastGroup; 2] = [MulticastGroup::Ipv6Ifinfo, MulticastGroup::Ipv6Route];
/// `either6`: so long a router has, which the kernel asks three times, four seconds apart (RFC 4861 section 10).
const PATIENCE: Duration = Duration::from_secs(12);
/// An address of DHCPv6 is alone: which others are on the link is for routers to say (RFC 5942 section 3).
const AS_LEASED: &str = "/128";
/// So many addresses and routers of an interface are told of: anybody on the link can announce more.
const TOLD: usize = 8;

/// IPv6 on an interface, beside its addresses.
#[derive(Default)]
pub(super) struct Ipv6 {
    /// What routers tell us to ask for.
    said: Option<Wants>,
    client: Option<Running>,
    /// What a server gave, and the kernel has.
    lease: Option<Lease>,
    /// Whether it is from after the link came up.
    is_fresh: bool,
    information: Option<Information>,
}

struct Running {
    wants: Wants,
    patience: Duration,
    task: JoinHandle<()>,
    taken: mpsc::Sender<Ipv6Addr>,
}

impl Ipv6 {
    /// What a DHCPv6 server says of its site.
    pub(super) fn information(&self) -> Option<&Information> {
        self.lease.as_ref().map(|lease| &lease.information).or(self.information.as_ref())
    }

    /// Ends the client; what it got stays.
    pub(super) fn stop(&mut self) {
        self.client.take().into_iter().for_each(|client| client.task.abort());
    }
}

/// What is asked for, after which time.
fn wanted(method: &V6, said: Option<Wants>, has_address: bool) -> Option<(Wants, Duration)> {
    let now = |wants| (wants, Duration::ZERO);
    match method {
        V6::LinkLocal => None,
        V6::Dhcp => Some(now(Wants::Addresses)),
        // Its address is written down; only what else there is may be asked for.
        V6::Static { .. } => said.map(|_| now(Wants::Information)),
        V6::Either if said.is_none() && !has_address => Some((Wants::Addresses, PATIENCE)),
        V6::Auto | V6::Either => said.map(now),
    }
}

/// What routers' flags tell us to ask for (RFC 4861 section 4.2: M and O).
fn said(flags: Inet6IfaceFlags) -> Option<Wants> {
    if flags.contains(Inet6IfaceFlags::RaManaged) {
        Some(Wants::Addresses)
    } else if flags.contains(Inet6IfaceFlags::Otherconf) {
        Some(Wants::Information)
    } else {
        None
    }
}

/// Whether the kernel tells of IPv6 alone: `IFLA_PROTINFO` in place of all the rest.
pub(super) fn is_of_routers(link: &LinkMessage) -> bool {
    link.header.interface_family == AddressFamily::Inet6
}

/// `IFLA_INET6_FLAGS`, which stands in one of two places.
fn flags_of(link: &LinkMessage) -> Option<Inet6IfaceFlags> {
    /// `include/uapi/linux/if_link.h`
    const IFLA_INET6_FLAGS: u16 = 1;
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::ProtoInfoInet6(all) => all.iter().find_map(|one| {
            let LinkProtoInfoInet6::Other(one) = one else { return None };
            let mut value = [0; 4];
            let is_it = one.kind() == IFLA_INET6_FLAGS && one.value_len() == value.len();
            is_it.then(|| {
                one.emit_value(&mut value);
                Inet6IfaceFlags::from_bits_retain(u32::from_ne_bytes(value))
            })
        }),
        LinkAttribute::AfSpecUnspec(all) => all.iter().find_map(|one| match one {
            AfSpecUnspec::Inet6(all) => all.iter().find_map(|one| match one {
                AfSpecInet6::Flags(flags) => Some(*flags),
                _ => None,
            }),
            _ => None,
        }),
        _ => None,
    })
}

/// As whom we ask: as systemd-networkd would, like DHCPv4; without a machine ID by the MAC address (DUID-LL, RFC 8415 section
/// 11.4).
fn identity(machine: Option<MachineId>, device: &str, mac: Mac) -> Identity {
    let name = persistent_name(Path::new("/"), device);
    let iaid = u32::from_be_bytes(identifier::iaid(name.as_deref(), mac.0));
    let duid = machine
        .map_or_else(|| [&[0, 3, 0, 1][..], &mac.0].concat(), |machine| identifier::duid(machine).to_vec());
    Identity { duid, iaid }
}

impl Interface {
    /// What the kernel says of an address beside that it is there, or no longer. Whether it can be used.
    pub(super) fn address6_changed(
        &mut self,
        message: &AddressMessage,
        address: IpAddr,
        text: &str,
        there: bool,
    ) -> bool {
        let IpAddr::V6(address) = address else { return there };
        let flags = message.header.flags;
        let status = &mut self.status.ipv6;
        status.deprecated.retain(|known| known != text);
        if flags.contains(AddressHeaderFlags::Dadfailed) {
            // Also with the news that it is gone: the kernel takes away what a router or a server gave.
            let known = address.to_string();
            if !status.duplicates.contains(&known) && status.duplicates.len() < TOLD {
                tracing::error!(
                    "{}: another machine on this link has the address {address}",
                    self.status.name
                );
                status.duplicates.push(known);
            }
            if let Some(client) = &self.ipv6.client {
                let _ = client.taken.try_send(address);
            }
            return false;
        }
        let is_tried = flags.contains(AddressHeaderFlags::Tentative);
        if !there || (is_tried && !flags.contains(AddressHeaderFlags::Optimistic)) {
            return false;
        }
        status.duplicates.retain(|known| *known != address.to_string());
        if flags.contains(AddressHeaderFlags::Deprecated) && status.deprecated.len() < TOLD {
            status.deprecated.push(text.into());
        }
        // A router gave one: `either6` need not ask.
        let from_router = message.header.scope == AddressScope::Universe && !text.ends_with(AS_LEASED);
        let no_lease = self.ipv6.lease.is_none() && self.ipv6.said.is_none();
        if self.method.v6 == V6::Either && from_router && no_lease {
            self.ipv6.stop();
            self.status.ipv6.state = String::new();
        }
        true
    }

    /// Whether a router gave an address; one of DHCPv6 may be left from before.
    fn has_address_of_router(&self) -> bool {
        let mut ipv6 = self.status.addresses.iter().filter(|address| address.contains(':'));
        ipv6.any(|address| !address.starts_with("fe80:") && !address.ends_with(AS_LEASED))
    }
}

impl Network {
    /// The link came or went.
    pub(super) fn carrier_for_ipv6(&mut self, index: u32) {
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        let ipv6 = &mut interface.ipv6;
        ipv6.stop();
        (ipv6.said, ipv6.is_fresh) = (None, false);
        interface.status.ipv6.state = String::new();
        interface.status.ipv6.duplicates.clear();
        self.ask_as_wanted(index);
    }

    /// Routers may want us to ask. Where there are several and they say different things, the one that gave us an address
    /// counts, for as long as the link is up.
    pub(super) async fn routers_said(&mut self, link: &LinkMessage) {
        let index = link.header.index;
        let Some(flags) = flags_of(link) else { return };
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        let new = said(flags);
        let ipv6 = &mut interface.ipv6;
        if new == ipv6.said || !interface.status.carrier || (new < ipv6.said && ipv6.is_fresh) {
            return;
        }
        ipv6.said = new;
        self.ask_as_wanted(index);
        // It was of the network that the cable was plugged into before.
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        let asks = interface.ipv6.client.as_ref().map(|client| client.wants);
        if asks != Some(Wants::Addresses)
            && let Some(lease) = interface.ipv6.lease.take()
        {
            self.remove_leased(index, &lease.addresses).await;
        }
    }

    /// Starts the client that is wanted, or ends the one that is not.
    fn ask_as_wanted(&mut self, index: u32) {
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        let has_address = interface.has_address_of_router();
        let wanted = wanted(&interface.method.v6, interface.ipv6.said, has_address);
        let wanted = wanted.filter(|_| interface.status.carrier);
        if wanted.is_some() && wanted == interface.ipv6.client.as_ref().map(|one| (one.wants, one.patience)) {
            return;
        }
        interface.ipv6.stop();
        let Some((wants, patience)) = wanted else {
            interface.status.ipv6.state = String::new();
            return;
        };
        let device = interface.status.name.clone();
        let who = identity(self.machine_id, &device, interface.mac);
        let previous = interface.ipv6.lease.clone();
        let (taken, heard) = mpsc::channel(TOLD);
        let news = self.news6.clone();
        let task = tokio::spawn(async move {
            sleep(patience).await;
            let wire = loop {
                match Udp::open(&device, index) {
                    Ok(wire) => break wire,
                    Err(error) => {
                        let _ =
                            news.send((index, News::State(format!("DHCPv6: {error:#}; trying again")))).await;
                        sleep(PATIENCE).await;
                    }
                }
            };
            Client { index, device, who, wants, previous, wire, news, taken: heard }.run().await;
        });
        interface.status.ipv6.state = match (wants, patience.is_zero()) {
            (_, false) => "DHCPv6: where no router gives an address".into(),
            (Wants::Information, _) => "DHCPv6: asking for information".into(),
            (Wants::Addresses, _) => "DHCPv6: asking".into(),
        };
        interface.ipv6.client = Some(Running { wants, patience, task, taken });
    }

    /// What a client says.
    pub(super) async fn hear_dhcp6(&mut self, index: u32, news: News) {
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        let (status, ipv6) = (&mut interface.status.ipv6, &mut interface.ipv6);
        match news {
            News::State(words) => status.state = words,
            News::Informed(information) => {
                status.state = "DHCPv6: informed".into();
                ipv6.information = Some(information);
            }
            News::Lost => {
                status.state = "DHCPv6: the lease is over, asking anew".into();
                if let Some(lease) = ipv6.lease.take() {
                    self.remove_leased(index, &lease.addresses).await;
                }
            }
            News::Bound(lease) => {
                let all: Vec<String> = lease.addresses.iter().map(|one| one.address.to_string()).collect();
                status.state = format!("DHCPv6: leased {}", all.join(" and "));
                ipv6.is_fresh = true;
                let old = ipv6.lease.replace(lease.clone()).map(|old| old.addresses).unwrap_or_default();
                let is_kept = |one: &Address| lease.addresses.iter().any(|new| new.address == one.address);
                let gone: Vec<Address> = old.into_iter().filter(|one| !is_kept(one)).collect();
                self.remove_leased(index, &gone).await;
                for one in &lease.addresses {
                    self.add_leased(index, one).await;
                }
            }
        }
    }

    async fn add_leased(&self, index: u32, one: &Address) {
        let mut request = self.handle.address().add(index, one.address.into(), 128).replace();
        let mut times = CacheInfo::default();
        (times.ifa_valid, times.ifa_preferred) = (one.valid, one.preferred);
        request.message_mut().attributes.push(AddressAttribute::CacheInfo(times));
        if let Err(error) = request.execute().await {
            tracing::error!("adding the address {}: {error}", one.address);
        }
    }

    async fn remove_leased(&self, index: u32, addresses: &[Address]) {
        for one in addresses {
            let mut message = AddressMessage::default();
            message.header.family = AddressFamily::Inet6;
            message.header.index = index;
            message.header.prefix_len = 128;
            message.attributes.push(AddressAttribute::Local(IpAddr::V6(one.address)));
            // The kernel takes it away as well, when its time is over or another machine has it.
            let _ = self.handle.address().del(message).execute().await;
        }
    }

    /// The default routes that are there already.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub(super) async fn list_routers(&mut self) -> Result<()> {
        let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let mut routes = self.handle.route().get(all).execute();
        while let Some(route) = routes.try_next().await.context("listing the routes")? {
            self.route_changed(&route, true);
        }
        Ok(())
    }

    /// A default route came or went, a router's with its time.
    pub(super) fn route_changed(&mut self, route: &RouteMessage, there: bool) {
        if route.header.address_family != AddressFamily::Inet6 || route.header.destination_prefix_length != 0
        {
            return;
        }
        let (mut device, mut router) = (None, None);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => device = Some(*index),
                RouteAttribute::Gateway(RouteAddress::Inet6(address)) => router = Some(address.to_string()),
                _ => {}
            }
        }
        let interface = device.and_then(|index| self.interfaces.get_mut(&index));
        let (Some(interface), Some(router)) = (interface, router) else { return };
        let (name, routers) = (&interface.status.name, &mut interface.status.ipv6.routers);
        match (routers.iter().position(|known| *known == router), there) {
            (None, true) if routers.len() < TOLD => {
                tracing::info!("{name}: IPv6 router {router}");
                routers.push(router);
            }
            (Some(place), false) => {
                tracing::warn!("{name}: the IPv6 router {router} is none any more");
                routers.remove(place);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_for_what() {
        let fixed = V6::Static { address: Ipv6Addr::LOCALHOST, prefix: 64, gateway: None };
        let (addresses, information) = (Some(Wants::Addresses), Some(Wants::Information));
        for (method, said, has_address, asks, waits) in [
            (V6::Auto, None, false, None, false),
            (V6::Auto, information, false, information, false),
            (V6::Auto, addresses, true, addresses, false),
            (V6::LinkLocal, addresses, false, None, false),
            (V6::Dhcp, None, false, addresses, false),
            (V6::Dhcp, information, true, addresses, false),
            (fixed.clone(), None, true, None, false),
            (fixed, addresses, true, information, false),
            (V6::Either, None, false, addresses, true),
            (V6::Either, None, true, None, false),
            (V6::Either, information, false, information, false),
            (V6::Either, addresses, true, addresses, false),
        ] {
            let found = wanted(&method, said, has_address);
            assert_eq!(found.map(|(wants, _)| wants), asks, "{method:?}, {said:?}");
            assert_eq!(found.is_some_and(|(_, patience)| !patience.is_zero()), waits, "{method:?}, {said:?}");
        }
    }

    #[test]
    fn flags_tell_what_to_ask_for() {
        for (bits, wants) in [
            (0x8000_0030, None),
            (0xa0, Some(Wants::Information)),
            (0x40, Some(Wants::Addresses)),
            (0xc0, Some(Wants::Addresses)),
        ] {
            assert_eq!(said(Inet6IfaceFlags::from_bits_retain(bits)), wants, "{bits:x}");
        }
    }
}
