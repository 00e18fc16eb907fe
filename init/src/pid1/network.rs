//! The child `network`: brings every wired interface up and keeps it up, each for itself: a cable that is plugged in
//! later, a lease that runs out, an interface that appears. It writes down what there is in `/run/lifeboat/network.json`
//! and `/etc/resolv.conf`, and never ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::dhcp::client::{Client, News};
use super::dhcp::message::Lease;
use super::file;
use crate::cmdline::CommandLine;
use crate::ip::Method;
use crate::plan::Plan;
use crate::status::{InterfaceStatus, NetworkStatus};

/// Routes of the first interface come before those of the second: metric = this + index.
const METRIC: u32 = 1024;

/// Where the child writes; tests give it another folder.
pub struct Places {
    /// `/run/lifeboat/network.json`.
    pub status: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

struct Interface {
    status: InterfaceStatus,
    mac: [u8; 6],
    method: Method,
    client: Option<JoinHandle<()>>,
    lease: Option<Lease>,
}

struct Network {
    plan: Plan,
    places: Places,
    handle: Handle,
    interfaces: BTreeMap<u32, Interface>,
    news: mpsc::Sender<(u32, News)>,
    written: Option<NetworkStatus>,
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
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    // Listening comes first, so that no interface falls between the list and the news.
    let (listening, _, mut messages) =
        rtnetlink::new_multicast_connection(&groups).context("opening an rtnetlink socket")?;
    tokio::spawn(listening);
    // Requests have a socket of their own: the kernel numbers the news of a change like the request that made it, and
    // would be taken for its answer.
    let (asking, handle, _) = rtnetlink::new_connection().context("opening an rtnetlink socket")?;
    tokio::spawn(asking);
    let (news, mut heard) = mpsc::channel(64);
    let mut network = Network { plan, places, handle, interfaces: BTreeMap::new(), news, written: None };
    network.take_hostname();
    let mut links = network.handle.link().get().execute();
    while let Some(link) = links.try_next().await.context("listing the interfaces")? {
        network.link_changed(&link).await;
    }
    let mut addresses = network.handle.address().get().execute();
    while let Some(address) = addresses.try_next().await.context("listing the addresses")? {
        network.address_changed(&address, true);
    }
    loop {
        network.write();
        tokio::select! {
            message = messages.next() => {
                let (message, _) = message.context("the kernel closed its rtnetlink socket")?;
                network.take(message.payload).await?;
            }
            Some((index, news)) = heard.recv() => network.hear(index, news).await,
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
            RouteNetlinkMessage::NewLink(link) => self.link_changed(&link).await,
            RouteNetlinkMessage::DelLink(link) => {
                if let Some(client) = self.interfaces.remove(&link.header.index).and_then(|gone| gone.client)
                {
                    client.abort();
                }
            }
            RouteNetlinkMessage::NewAddress(address) => self.address_changed(&address, true),
            RouteNetlinkMessage::DelAddress(address) => self.address_changed(&address, false),
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
            let name = interface.status.name.clone();
            let method = interface.method.clone();
            tracing::info!("{name}: {} ({})", interface.status.mac, describe(&method));
            self.interfaces.insert(index, interface);
            // Also one that gets no IPv4 address: SSH answers on its link-local IPv6 address.
            self.set_up(index, &name).await;
            if let Method::Static { address, prefix, gateway } = method {
                self.configure(index, &name, address, prefix, gateway, None).await;
            }
        }
        let carrier = link.header.flags.contains(LinkFlags::LowerUp);
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        if carrier != interface.status.carrier {
            tracing::info!("{}: {}", interface.status.name, if carrier { "link is up" } else { "no link" });
            interface.status.carrier = carrier;
            if let Some(client) = interface.client.take() {
                client.abort();
            }
            interface.status.state = if carrier { "up".into() } else { "waiting for a link".into() };
            if carrier && interface.method == Method::Dhcp {
                let device = interface.status.name.clone();
                let client = Client { index, device, mac: interface.mac, news: self.news.clone() };
                interface.client = Some(tokio::spawn(client.run()));
            }
        }
    }

    /// An Ethernet interface that is not wireless.
    fn wired(&self, link: &LinkMessage) -> Option<Interface> {
        let name = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })?;
        let mac: [u8; 6] = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        })?;
        let wireless = Path::new("/sys/class/net").join(&name).join("phy80211").exists();
        if link.header.link_layer_type != LinkLayerType::Ether || wireless {
            return None;
        }
        let status = InterfaceStatus {
            mac: mac.map(|byte| format!("{byte:02x}")).join(":"),
            state: "waiting for a link".into(),
            name,
            ..Default::default()
        };
        let method = self.plan.network.method_for(&status.name);
        Some(Interface { status, mac, method, client: None, lease: None })
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
        let addresses = &mut interface.status.addresses;
        addresses.retain(|known| *known != text);
        if there {
            let scope = if message.header.scope == AddressScope::Link { " (link-local)" } else { "" };
            tracing::info!("{}: address {text}{scope}", interface.status.name);
            addresses.push(text);
        }
    }

    async fn hear(&mut self, index: u32, news: News) {
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        match news {
            News::State(words) => interface.status.state = words,
            News::Lost => {
                interface.status.state = "DHCP: the lease is over, asking anew".into();
                interface.status.gateway = None;
                if let Some(old) = interface.lease.take() {
                    self.remove_address(index, old.address, old.prefix).await;
                }
            }
            News::Bound(lease) => {
                interface.status.state = format!("DHCP: leased by {}", lease.server);
                let name = interface.status.name.clone();
                let old = interface.lease.replace(lease.clone());
                let changed = |old: &Lease| (old.address, old.prefix) != (lease.address, lease.prefix);
                if let Some(old) = old.filter(changed) {
                    self.remove_address(index, old.address, old.prefix).await;
                }
                let lifetime = u32::try_from(lease.lifetime.as_secs()).ok();
                self.configure(index, &name, lease.address, lease.prefix, lease.gateway, lifetime).await;
                self.take_hostname();
            }
        }
    }

    /// Address and default route. What the kernel refuses is logged: the interface may still be of use.
    async fn configure(
        &mut self,
        index: u32,
        name: &str,
        address: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
        lifetime: Option<u32>,
    ) {
        let mut request = self.handle.address().add(index, IpAddr::V4(address), prefix).replace();
        if let Some(seconds) = lifetime {
            let mut times = rtnetlink::packet_route::address::CacheInfo::default();
            (times.ifa_valid, times.ifa_preferred) = (seconds, seconds);
            request.message_mut().attributes.push(AddressAttribute::CacheInfo(times));
        }
        if let Err(error) = request.execute().await {
            return tracing::error!("{name}: adding the address {address}/{prefix}: {error}");
        }
        let Some(gateway) = gateway else { return };
        let default = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .output_interface(index)
            .priority(METRIC + index)
            .onlink()
            .build();
        match self.handle.route().add(default).replace().execute().await {
            Ok(()) => {
                if let Some(interface) = self.interfaces.get_mut(&index) {
                    interface.status.gateway = Some(gateway.to_string());
                }
            }
            Err(error) => tracing::error!("{name}: adding the default route by {gateway}: {error}"),
        }
    }

    async fn remove_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) {
        let mut message = AddressMessage::default();
        message.header.family = rtnetlink::packet_route::AddressFamily::Inet;
        message.header.index = index;
        message.header.prefix_len = prefix;
        message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
        if let Err(error) = self.handle.address().del(message).execute().await {
            tracing::warn!("removing the address {address}/{prefix}: {error}");
        }
    }

    /// The command line's name, else the server's, else one that says what this is.
    fn take_hostname(&self) {
        let name = self.hostname().unwrap_or_else(|| "lifeboat".into());
        if let Err(error) = nix::unistd::sethostname(&name) {
            tracing::warn!("setting the host name {name}: {error}");
        }
    }

    fn hostname(&self) -> Option<String> {
        let mut leases = self.interfaces.values().filter_map(|interface| interface.lease.as_ref());
        self.plan.hostname.clone().or_else(|| leases.find_map(|lease| lease.hostname.clone()))
    }

    /// Writes down what there is, if it has changed.
    fn write(&mut self) {
        let leases = || self.interfaces.values().filter_map(|interface| interface.lease.as_ref());
        let leased = leases().flat_map(|lease| lease.nameservers.iter().copied().map(IpAddr::V4));
        let mut nameservers: Vec<String> = Vec::new();
        for server in self.plan.network.nameservers.iter().copied().chain(leased) {
            let server = server.to_string();
            if !nameservers.contains(&server) {
                nameservers.push(server);
            }
        }
        let status = NetworkStatus {
            interfaces: self.interfaces.values().map(|interface| interface.status.clone()).collect(),
            online: self.interfaces.values().any(Interface::is_online),
            nameservers,
            hostname: self.hostname(),
        };
        if self.written.as_ref() == Some(&status) {
            return;
        }
        let mut resolv_conf: String = leases()
            .find_map(|lease| lease.domain.as_ref())
            .map_or_else(String::new, |domain| format!("search {domain}\n"));
        for server in &status.nameservers {
            resolv_conf += &format!("nameserver {server}\n");
        }
        // resolv.conf first: who sees "online" finds the name servers.
        let written = file::replace(&self.places.resolv_conf, resolv_conf.as_bytes())
            .and_then(|()| file::replace_json(&self.places.status, &status));
        match written {
            Ok(()) => self.written = Some(status),
            Err(error) => tracing::error!("{error:#}"),
        }
    }
}

impl Interface {
    /// An IPv4 address, or an IPv6 one that reaches further than the link.
    fn is_online(&self) -> bool {
        self.status.carrier && self.status.addresses.iter().any(|address| !address.starts_with("fe80:"))
    }
}

fn describe(method: &Method) -> &'static str {
    match method {
        Method::Dhcp => "DHCP",
        Method::Static { .. } => "fixed address",
        Method::Off => "no IPv4, by ip=",
    }
}
