//! Addresses and routes on their way to the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};

use super::{METRIC, Network};
use crate::network::{Method, V4, V6};
use crate::pid1::dhcp::message::Lease;

impl Network {
    /// Address and default route. What the kernel refuses is logged: the interface may still be of use.
    pub(super) async fn configure(
        &mut self,
        index: u32,
        name: &str,
        address: IpAddr,
        prefix: u8,
        gateway: Option<IpAddr>,
        lifetime: Option<u32>,
    ) {
        let mut request = self.handle.address().add(index, address, prefix).replace();
        if let Some(seconds) = lifetime {
            let mut times = rtnetlink::packet_route::address::CacheInfo::default();
            (times.ifa_valid, times.ifa_preferred) = (seconds, seconds);
            request.message_mut().attributes.push(AddressAttribute::CacheInfo(times));
        }
        if let Err(error) = request.execute().await {
            return tracing::error!("{name}: adding the address {address}/{prefix}: {error}");
        }
        let Some(gateway) = gateway else { return };
        let everything: IpAddr =
            if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        if self.add_route(index, name, everything, 0, Some(gateway)).await
            && let Some(interface) = self.interfaces.get_mut(&index)
        {
            interface.status.gateway = Some(gateway.to_string());
        }
    }

    /// Whether the kernel took it. Without a gateway the network is on the link.
    pub(super) async fn add_route(
        &self,
        index: u32,
        name: &str,
        network: IpAddr,
        prefix: u8,
        gateway: Option<IpAddr>,
    ) -> bool {
        let message = RouteMessageBuilder::<IpAddr>::new().destination_prefix(network, prefix);
        let message = message.and_then(|message| match gateway {
            Some(gateway) => message.gateway(gateway),
            None => Ok(message),
        });
        // Network and gateway are of one family.
        let Ok(message) = message else { return false };
        let mut message = message.output_interface(index).priority(metric(network, index));
        if gateway.is_some() {
            message = message.onlink();
        }
        let added = self.handle.route().add(message.build()).replace().execute().await;
        if let Err(error) = &added {
            let by = gateway.map_or_else(String::new, |gateway| format!(" by {gateway}"));
            tracing::error!("{name}: adding the route to {network}/{prefix}{by}: {error}");
        }
        added.is_ok()
    }

    /// Takes the routes of a lease away, but those that the next one has as well.
    pub(super) async fn remove_routes(&self, index: u32, old: &Lease, next: Option<&Lease>) {
        let kept = next.map(ways).unwrap_or_default();
        for (network, prefix, gateway) in ways(old).into_iter().filter(|way| !kept.contains(way)) {
            let message = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(network, prefix);
            let message = if gateway.is_unspecified() { message } else { message.gateway(gateway) };
            let message = message.output_interface(index).priority(METRIC + index).build();
            // With its address or its link it may be gone already.
            let _ = self.handle.route().del(message).execute().await;
        }
    }

    pub(super) async fn remove_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) {
        let mut message = AddressMessage::default();
        message.header.family = rtnetlink::packet_route::AddressFamily::Inet;
        message.header.index = index;
        message.header.prefix_len = prefix;
        message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
        if let Err(error) = self.handle.address().del(message).execute().await {
            tracing::warn!("removing the address {address}/{prefix}: {error}");
        }
    }

    /// The routes of `rd.route=` that go by this interface, or by one that they do not name and this one reaches.
    pub(super) async fn add_routes(&self, index: u32, name: &str) {
        for route in &self.plan.network.routes {
            let ours = match &route.device {
                Some(device) => device == name,
                None => route.gateway.is_some_and(|gateway| {
                    self.interfaces.get(&index).is_some_and(|one| reaches(&one.method, gateway))
                }),
            };
            if !ours {
                continue;
            }
            self.add_route(index, name, route.network, route.prefix, route.gateway).await;
        }
    }
}

/// What is written down by IPv6 address comes before what a router announces, which the kernel gives 1024.
fn metric(network: IpAddr, index: u32) -> u32 {
    if network.is_ipv6() { METRIC / 2 + index } else { METRIC + index }
}

/// The routes of a lease, the default one among them: network, prefix, gateway.
fn ways(lease: &Lease) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    let default = lease.gateway.map(|gateway| (Ipv4Addr::UNSPECIFIED, 0, gateway));
    let routes = lease.routes.iter().map(|route| (route.network, route.prefix, route.gateway));
    default.into_iter().chain(routes).collect()
}

/// Whether a gateway is on the network of a fixed address.
fn reaches(method: &Method, gateway: IpAddr) -> bool {
    match (gateway, &method.v4, &method.v6) {
        (IpAddr::V4(gateway), V4::Static { address, prefix, .. }, _) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
            gateway.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(gateway), _, V6::Static { address, prefix, .. }) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(*prefix)).unwrap_or(0);
            gateway.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}
