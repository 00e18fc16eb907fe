//! What others read of the network: the host name, `/etc/resolv.conf`, `/run/lifeboat/network.json`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use super::Network;
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

    pub(super) fn hostname(&self) -> Option<String> {
        let mut leases = self.interfaces.values().filter_map(|interface| interface.lease.as_ref());
        self.plan.hostname.clone().or_else(|| leases.find_map(|lease| lease.hostname.clone()))
    }

    /// Writes down what there is, if it has changed.
    pub(super) fn write(&mut self) {
        self.refresh_neighbours();
        let leases = || self.interfaces.values().filter_map(|interface| interface.lease.as_ref());
        let leased = leases().flat_map(|lease| lease.nameservers.iter().copied().map(IpAddr::V4));
        let now = Instant::now();
        let informed = || self.interfaces.values().filter_map(|interface| interface.ipv6.information());
        let announced = self.interfaces.values().flat_map(|interface| interface.announced.servers(now));
        let announced = informed().flat_map(|site| site.nameservers.iter().copied()).chain(announced);
        let theirs = leased.chain(announced.map(IpAddr::V6)).filter(|_| !self.plan.network.own_dns_alone);
        let mut nameservers: Vec<String> = Vec::new();
        for server in self.plan.network.nameservers.iter().copied().chain(theirs) {
            let server = server.to_string();
            if !nameservers.contains(&server) {
                nameservers.push(server);
            }
        }
        let leased = leases().flat_map(|lease| &lease.ntp).map(Ipv4Addr::to_string);
        let timeservers =
            leased.chain(informed().flat_map(|site| site.timeservers.iter().cloned())).collect();
        let status = NetworkStatus {
            interfaces: self.interfaces.values().map(|interface| interface.status.clone()).collect(),
            online: self.interfaces.values().any(|interface| interface.status.is_online()),
            nameservers,
            tftp_server: leases().find_map(|lease| lease.tftp_server.clone()),
            ntp: timeservers,
            hostname: self.hostname(),
            mdns_name: self.mdns_name(),
        };
        let mut domains: Vec<&str> = Vec::new();
        let announced = self.interfaces.values().flat_map(|interface| interface.announced.domains(now));
        let informed = informed().flat_map(|site| &site.domains).map(String::as_str);
        let leased = leases().flat_map(|lease| &lease.domains).map(String::as_str);
        for domain in leased.chain(informed).chain(announced).filter(|_| !self.plan.network.own_dns_alone) {
            if !domains.contains(&domain) {
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
