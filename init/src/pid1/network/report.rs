//! What others read of the network: the host name, `/etc/resolv.conf`, `/run/lifeboat/network.json`.

use std::net::IpAddr;
use std::time::Instant;

use super::{Interface, Network};
use crate::pid1::file;
use crate::status::NetworkStatus;

impl Network {
    /// The command line's name, else the server's, else one that says what this is.
    pub(super) fn take_hostname(&self) {
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
    pub(super) fn write(&mut self) {
        let leases = || self.interfaces.values().filter_map(|interface| interface.lease.as_ref());
        let leased = leases().flat_map(|lease| lease.nameservers.iter().copied().map(IpAddr::V4));
        let now = Instant::now();
        let announced = self.interfaces.values().flat_map(|interface| interface.announced.iter());
        let announced = announced.filter(|(_, until)| *until > now).map(|(server, _)| IpAddr::V6(*server));
        let mut nameservers: Vec<String> = Vec::new();
        for server in self.plan.network.nameservers.iter().copied().chain(leased).chain(announced) {
            let server = server.to_string();
            if !nameservers.contains(&server) {
                nameservers.push(server);
            }
        }
        let status = NetworkStatus {
            interfaces: self.interfaces.values().map(|interface| interface.status.clone()).collect(),
            online: self.interfaces.values().any(Interface::is_online),
            nameservers,
            ntp: Vec::new(),
            hostname: self.hostname(),
        };
        let mut domains: Vec<&str> = Vec::new();
        for domain in leases().flat_map(|lease| &lease.domains) {
            if !domains.contains(&domain.as_str()) {
                domains.push(domain);
            }
        }
        let mut resolv_conf = match domains.as_slice() {
            [] => String::new(),
            domains => format!("search {}\n", domains.join(" ")),
        };
        for server in &status.nameservers {
            resolv_conf += &format!("nameserver {server}\n");
        }
        let written = Some((status.clone(), resolv_conf.clone()));
        if self.written == written {
            return;
        }
        // resolv.conf first: who sees "online" finds the name servers.
        let replaced = file::replace(&self.places.resolv_conf, resolv_conf.as_bytes())
            .and_then(|()| file::replace_json(&self.places.status, &status));
        match replaced {
            Ok(()) => self.written = written,
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
