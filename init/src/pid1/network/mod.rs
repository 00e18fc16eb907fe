//! The child `network`: brings every wired interface up and keeps it up, each for itself: a cable that is plugged in
//! later, a lease that runs out, an interface that appears. It writes down what there is in `/run/lifeboat/network.json`
//! and `/etc/resolv.conf` ([`report`]), and never ends. [`addresses`] tells the kernel of addresses and routes, [`leases`] runs
//! the DHCP clients, [`links`] makes bonds, bridges and VLANs, [`ipv6`] follows routers and DHCPv6, [`rdnss`] hears which name
//! servers routers announce, [`neighbours`] says who we are and hears who the switch is.

mod addresses;
mod ipv6;
mod leases;
mod links;
mod neighbours;
pub mod rdnss;
mod report;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, MulticastGroup};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::cmdline::CommandLine;
use crate::identity::MachineId;
use crate::mac::Mac;
use crate::network::{Method, V4, V6};
use crate::pid1::dhcp::client::News;
use crate::pid1::dhcp::message::Lease;
use crate::pid1::{dhcp6, machine_id};
use crate::plan::Plan;
use crate::status::{InterfaceStatus, NetworkStatus};
use ipv6::Ipv6;
use links::ToMake;
use neighbours::{Neighbours, Wire};

/// Routes of the first interface come before those of the second: metric = this + index.
const METRIC: u32 = 1024;
/// So often it is tried again to make what `bond=` and `vlan=` ask for.
const MAKE_AGAIN: Duration = Duration::from_secs(1);
/// So often name servers are dropped that no router announces any more.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Where the child writes; tests give it another folder.
pub struct Places {
    /// `/run/lifeboat/network.json`.
    pub status: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

struct Interface {
    status: InterfaceStatus,
    mac: Mac,
    method: Method,
    client: Option<JoinHandle<()>>,
    lease: Option<Lease>,
    /// Since when.
    leased: Option<tokio::time::Instant>,
    wire: Wire,
    /// The bond or bridge that it was part of when it was first seen.
    controller: Option<u32>,
    /// Name servers and search domains that routers announced.
    announced: rdnss::Known,
    ipv6: Ipv6,
}

struct Network {
    plan: Plan,
    places: Places,
    handle: Handle,
    interfaces: BTreeMap<u32, Interface>,
    news: mpsc::Sender<(u32, News)>,
    news6: mpsc::Sender<(u32, dhcp6::client::News)>,
    to_make: ToMake,
    neighbours: Neighbours,
    machine_id: Option<MachineId>,
    written: Option<(NetworkStatus, String)>,
}

/// Runs for ever.
///
/// # Errors
/// When the kernel's rtnetlink does not answer.
pub fn run(command_line: &str, places: Places) -> Result<()> {
    let plan = Plan::parse(&CommandLine::parse(command_line));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("making a runtime")?;
    runtime.block_on(watch(plan, places))
}

async fn watch(plan: Plan, places: Places) -> Result<()> {
    let addresses = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let groups = [&addresses[..], &ipv6::GROUPS].concat();
    // Listening comes first, so that no interface falls between the list and the news.
    let (listening, _, mut messages) =
        rtnetlink::new_multicast_connection(&groups).context("opening an rtnetlink socket")?;
    tokio::spawn(listening);
    // Requests have a socket of their own: the kernel numbers the news of a change like the request that made it, and
    // would be taken for its answer.
    let (asking, handle, _) = rtnetlink::new_connection().context("opening an rtnetlink socket")?;
    tokio::spawn(asking);
    let (news, mut heard) = mpsc::channel(64);
    let (news6, mut heard6) = mpsc::channel(64);
    let (announce, mut announced) = mpsc::channel(16);
    if let Err(error) = rdnss::listen(announce) {
        tracing::warn!("{error:#}: name servers come from DHCP and the command line alone");
    }
    let to_make = ToMake::new(&plan.network);
    let (neighbours, mut neighbours_news) = Neighbours::start(&plan);
    let machine_id = machine_id::find(plan.identity.machine_id, Path::new("/"));
    let mut network = Network {
        plan,
        places,
        handle,
        interfaces: BTreeMap::new(),
        news,
        news6,
        to_make,
        neighbours,
        machine_id,
        written: None,
    };
    network.take_hostname();
    let mut links = network.handle.link().get().execute();
    while let Some(link) = links.try_next().await.context("listing the interfaces")? {
        network.link_changed(&link).await;
    }
    let mut addresses = network.handle.address().get().execute();
    while let Some(address) = addresses.try_next().await.context("listing the addresses")? {
        network.address_changed(&address, true);
    }
    network.list_routers().await?;
    loop {
        network.make_links().await;
        network.write();
        tokio::select! {
            message = messages.next() => {
                let (message, _) = message.context("the kernel closed its rtnetlink socket")?;
                network.take(message.payload).await?;
            }
            Some((index, news)) = heard.recv() => network.hear(index, news).await,
            Some(news) = neighbours_news.recv() => network.take_neighbour(news),
            Some((index, news)) = heard6.recv() => network.hear_dhcp6(index, news).await,
            Some(announced) = announced.recv() => {
                if let Some(interface) = network.interfaces.get_mut(&announced.index) {
                    interface.announced.take(announced, Instant::now());
                }
            }
            () = sleep(MAKE_AGAIN), if !network.to_make.is_empty() => {}
            // What a router announced may be over.
            () = sleep(LOOK_AGAIN) => {}
        }
    }
}

impl Network {
    async fn take(&mut self, payload: NetlinkPayload<RouteNetlinkMessage>) -> Result<()> {
        let NetlinkPayload::InnerMessage(message) = payload else {
            // PID 1 starts this child anew, and it takes stock of everything.
            anyhow::ensure!(
                !matches!(payload, NetlinkPayload::Overrun(_)),
                "the kernel dropped news of the network"
            );
            return Ok(());
        };
        match message {
            RouteNetlinkMessage::NewLink(link) if ipv6::is_of_routers(&link) => {
                self.routers_said(&link).await
            }
            RouteNetlinkMessage::NewLink(link) => self.link_changed(&link).await,
            RouteNetlinkMessage::DelLink(link) => {
                if let Some(mut gone) = self.interfaces.remove(&link.header.index) {
                    gone.client.into_iter().for_each(|client| client.abort());
                    gone.ipv6.stop();
                    // It comes again with what it stood on.
                    self.to_make.again(&gone.status.name, &self.plan.network);
                }
            }
            RouteNetlinkMessage::NewAddress(address) => self.address_changed(&address, true),
            RouteNetlinkMessage::DelAddress(address) => self.address_changed(&address, false),
            RouteNetlinkMessage::NewRoute(route) => self.route_changed(&route, true),
            RouteNetlinkMessage::DelRoute(route) => self.route_changed(&route, false),
            _ => {}
        }
        Ok(())
    }

    /// A new interface, or another carrier.
    async fn link_changed(&mut self, link: &LinkMessage) {
        let index = link.header.index;
        if link.header.flags.contains(LinkFlags::Loopback) {
            if !link.header.flags.contains(LinkFlags::Up) {
                self.set_up(index, "lo").await;
            }
            return;
        }
        if !self.interfaces.contains_key(&index) {
            let Some(interface) = self.wired(link) else { return };
            if self.is_renamed(index, &interface).await {
                return;
            }
            self.begin(index, interface).await;
        }
        let carrier = link.header.flags.contains(LinkFlags::LowerUp);
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        // A bond has the address of its first interface.
        if let Some(mac) = mac_of(link) {
            interface.mac = mac;
            interface.status.mac = mac.to_string();
        }
        if carrier != interface.status.carrier {
            tracing::info!("{}: {}", interface.status.name, if carrier { "link is up" } else { "no link" });
            interface.status.carrier = carrier;
            interface.wire = Wire::new_link(&mut interface.status);
            if let Some(client) = interface.client.take() {
                client.abort();
            }
            let controller = self.plan.network.part_of(&interface.status.name);
            interface.status.state = match (carrier, controller) {
                (false, _) => "waiting for a link".into(),
                (true, Some(controller)) => format!("part of {controller}"),
                (true, None) => "up".into(),
            };
            if carrier && interface.method.v4 == V4::Dhcp {
                self.start_client(index).await;
            }
            self.carrier_for_ipv6(index);
        }
        self.routers_said(link).await;
    }

    /// Gives an interface the name that `ifname=` has for it; the kernel tells of it again by that name. One that the command
    /// line makes has the MAC address of what it stands on.
    async fn is_renamed(&self, index: u32, interface: &Interface) -> bool {
        let named = self.plan.network.names.iter().find(|(_, mac)| *mac == interface.mac);
        let is_made = self.plan.network.is_made(&interface.status.name);
        let Some((name, _)) = named.filter(|(name, _)| *name != interface.status.name && !is_made) else {
            return false;
        };
        let set = LinkUnspec::new_with_index(index).down().name(name).build();
        match self.handle.link().set(set).execute().await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!("{}: calling it {name}: {error}", interface.status.name);
                false
            }
        }
    }

    /// Sets a new interface up as the command line says.
    async fn begin(&mut self, index: u32, interface: Interface) {
        let name = interface.status.name.clone();
        let method = interface.method.clone();
        tracing::info!("{name}: {} ({})", interface.status.mac, describe(&method));
        self.interfaces.insert(index, interface);
        if method.v6 == V6::LinkLocal {
            // Documentation/networking/ip-sysctl.rst
            let path = Path::new("/proc/sys/net/ipv6/conf").join(&name).join("accept_ra");
            let _ = std::fs::write(path, "0\n");
        }
        self.shape(index, &name, &method).await;
        if let Some(controller) = self.plan.network.part_of(&name) {
            if let Some(controller) = self.index_of(controller) {
                self.join(index, controller, &name).await;
            }
        } else {
            // Also one that gets no IPv4 address: SSH answers on its link-local IPv6 address.
            self.set_up(index, &name).await;
        }
        for member in self.plan.network.members_of(&name).to_vec() {
            if let Some(there) = self.index_of(&member) {
                self.join(there, index, &member).await;
            }
        }
        if let V4::Static { address, prefix, gateway } = method.v4 {
            self.configure(index, &name, address.into(), prefix, gateway.map(IpAddr::V4), None).await;
        }
        if let V6::Static { address, prefix, gateway } = method.v6 {
            self.configure(index, &name, address.into(), prefix, gateway.map(IpAddr::V6), None).await;
        }
        self.add_routes(index, &name).await;
    }

    /// Its MAC address and the size of its packets, which a bond hands on to its interfaces.
    async fn shape(&self, index: u32, name: &str, method: &Method) {
        let mut link = LinkUnspec::new_with_index(index);
        if let Some(mac) = method.mac {
            link = link.address(mac.0.to_vec());
        }
        if let Some(mtu) = method.mtu {
            link = link.mtu(mtu);
        }
        if (method.mac.is_some() || method.mtu.is_some())
            && let Err(error) = self.handle.link().set(link.build()).execute().await
        {
            tracing::error!("{name}: setting its MAC address or MTU: {error}");
        }
    }

    async fn join(&self, member: u32, controller: u32, name: &str) {
        let (Some(one), Some(other)) = (self.interfaces.get(&member), self.interfaces.get(&controller))
        else {
            return;
        };
        // As this child's predecessor left it: to take it out for a moment would cut who is logged in.
        if one.controller == Some(controller) {
            return;
        }
        let of = other.status.name.as_str();
        let joined = if self.plan.network.bridges.iter().any(|bridge| bridge.name == of) {
            links::join_bridge(&self.handle, (member, one.mac), (controller, of)).await
        } else {
            links::join(&self.handle, member, controller).await
        };
        if let Err(error) = joined {
            tracing::error!("{name}: making it a part of {of}: {error:#}");
            self.set_up(member, name).await;
        }
    }

    async fn make_links(&mut self) {
        if self.to_make.is_empty() {
            return;
        }
        let mut to_make = std::mem::take(&mut self.to_make);
        to_make.make(&self.handle, |name| self.index_of(name)).await;
        // SSH answers on the link-local addresses of its interfaces as long as a bond or bridge cannot be made.
        for name in to_make.members() {
            if let Some(index) = self.index_of(name).filter(|_| !to_make.told.is_empty()) {
                self.set_up(index, name).await;
            }
        }
        self.to_make = to_make;
    }

    fn index_of(&self, name: &str) -> Option<u32> {
        self.interfaces.iter().find(|(_, one)| one.status.name == name).map(|(index, _)| *index)
    }

    /// An Ethernet interface that is not wireless.
    fn wired(&self, link: &LinkMessage) -> Option<Interface> {
        let name = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })?;
        let mac = mac_of(link)?;
        let wireless = Path::new("/sys/class/net").join(&name).join("phy80211").exists();
        if link.header.link_layer_type != LinkLayerType::Ether || wireless {
            return None;
        }
        let status = InterfaceStatus {
            mac: mac.to_string(),
            state: "waiting for a link".into(),
            name,
            ..Default::default()
        };
        let method = self.plan.network.method_for(&status.name, mac);
        Some(Interface {
            status,
            mac,
            method,
            client: None,
            lease: None,
            leased: None,
            controller: controller_of(link),
            wire: Wire::default(),
            announced: rdnss::Known::default(),
            ipv6: Ipv6::default(),
        })
    }

    async fn set_up(&self, index: u32, name: &str) {
        let set = self.handle.link().set(LinkUnspec::new_with_index(index).up().build());
        if let Err(error) = set.execute().await {
            tracing::error!("{name}: setting it up: {error}");
        }
    }

    /// An address came or went: ours, or one that IPv6 made by itself.
    fn address_changed(&mut self, message: &AddressMessage, there: bool) {
        let Some(interface) = self.interfaces.get_mut(&message.header.index) else { return };
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        let Some(address) = address else { return };
        let text = format!("{address}/{}", message.header.prefix_len);
        let ours = interface.address6_changed(message, address, &text, there);
        let addresses = &mut interface.status.addresses;
        // It comes again with each announcement of a router: only a new one is news.
        if !ours {
            addresses.retain(|known| *known != text);
        } else if !addresses.contains(&text) {
            let scope = if message.header.scope == AddressScope::Link { " (link-local)" } else { "" };
            tracing::info!("{}: address {text}{scope}", interface.status.name);
            addresses.push(text);
        }
    }
}

fn describe(method: &Method) -> String {
    let v4 = match method.v4 {
        V4::Dhcp => "DHCP",
        V4::Static { .. } => "fixed address",
        V4::Off => "no IPv4, by the command line",
    };
    let v6 = match method.v6 {
        V6::Auto => "",
        V6::Dhcp => ", DHCPv6",
        V6::Either => ", IPv6 of a router, else DHCPv6",
        V6::Static { .. } => ", fixed IPv6 address",
        V6::LinkLocal => ", link-local IPv6 alone",
    };
    format!("{v4}{v6}")
}

fn controller_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}

fn mac_of(link: &LinkMessage) -> Option<Mac> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    })
}
