//! The DHCP clients' news, and what is kept of them in `/run`: a network child that was started again asks for the same
//! address, and meanwhile it stays.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Interface, Network};
use crate::pid1::dhcp::chance::Chance;
use crate::pid1::dhcp::client::{Client, Granted, News};
use crate::pid1::dhcp::identifier;
use crate::pid1::dhcp::interface_name::persistent_name;
use crate::pid1::dhcp::message::Lease;
use crate::pid1::dhcp::wire::UdpWire;
use crate::pid1::file;

/// A lease as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    interface: String,
    mac: String,
    /// On the clock that a boot begins at zero and nobody sets.
    since: Duration,
    lease: Lease,
}

impl Kept {
    fn granted(self) -> Option<Granted> {
        let age = uptime().checked_sub(self.since)?;
        let since = Instant::now().checked_sub(age)?;
        Some(Granted { lease: self.lease, since }).filter(|granted| !granted.left().is_zero())
    }
}

fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

impl Network {
    fn kept_path(&self) -> PathBuf {
        self.places.status.with_file_name("leases.json")
    }

    /// Starts the client of an interface that has a carrier, with the lease that it had.
    pub(super) async fn start_client(&mut self, index: u32) {
        let held = self.held(index);
        // One that is over is the client's to tell of.
        if let Some(held) = held.as_ref().filter(|held| !held.left().is_zero()) {
            // Also for one that was started again: name servers and routes are those of this lease until it is known better.
            self.bind(index, held).await;
        }
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        let (device, mac) = (interface.status.name.clone(), interface.mac.0);
        let name = persistent_name(Path::new("/"), &device);
        let client_id =
            identifier::client_id(self.plan.identity.client_id, self.machine_id, name.as_deref(), mac);
        let news = self.news.clone();
        let chance = Chance::new();
        let client = Client { index, device: device.clone(), mac, client_id, news, held, chance };
        interface.client = Some(tokio::spawn(client.run(move || UdpWire::open(&device, index, mac))));
    }

    fn held(&self, index: u32) -> Option<Granted> {
        let interface = self.interfaces.get(&index)?;
        if let (Some(lease), Some(since)) = (interface.lease.clone(), interface.leased) {
            return Some(Granted { lease, since });
        }
        let kept: Vec<Kept> = file::read_json(&self.kept_path())?;
        let (name, mac) = (&interface.status.name, &interface.status.mac);
        kept.into_iter().find(|kept| (&kept.interface, &kept.mac) == (name, mac))?.granted()
    }

    /// What a client says.
    pub(super) async fn hear(&mut self, index: u32, news: News) {
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        match news {
            News::State(words) => interface.status.state = words,
            News::Lost => {
                interface.status.state = "DHCP: the lease is over, asking anew".into();
                interface.status.gateway = None;
                interface.leased = None;
                if let Some(old) = interface.lease.take() {
                    self.remove_routes(index, &old, None).await;
                    self.remove_address(index, old.address, old.prefix).await;
                }
                self.keep_leases();
            }
            News::Bound(granted) => {
                interface.status.state = format!("DHCP: leased by {}", granted.lease.server);
                self.bind(index, &granted).await;
                self.keep_leases();
            }
        }
    }

    /// Address and routes of a lease, in place of those of the one before.
    async fn bind(&mut self, index: u32, granted: &Granted) {
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        let lease = &granted.lease;
        let name = interface.status.name.clone();
        interface.leased = Some(granted.since);
        let old = interface.lease.replace(lease.clone());
        interface.status.gateway = None;
        if let Some(old) = old {
            self.remove_routes(index, &old, Some(lease)).await;
            if (old.address, old.prefix) != (lease.address, lease.prefix) {
                self.remove_address(index, old.address, old.prefix).await;
            }
        }
        // A second too many: at its end the client says so, and it is removed in order.
        let lifetime = u32::try_from(granted.left().as_secs() + 1).ok();
        let gateway = lease.gateway.map(IpAddr::V4);
        self.configure(index, &name, lease.address.into(), lease.prefix, gateway, lifetime).await;
        for route in &lease.routes {
            let gateway = Some(route.gateway).filter(|gateway| !gateway.is_unspecified()).map(IpAddr::V4);
            self.add_route(index, &name, route.network.into(), route.prefix, gateway).await;
        }
        // With the last address all routes of an interface go.
        self.add_routes(index, &name).await;
        self.take_hostname();
    }

    fn keep_leases(&self) {
        let (now, uptime) = (Instant::now(), uptime());
        let kept = |interface: &Interface| {
            Some(Kept {
                interface: interface.status.name.clone(),
                mac: interface.status.mac.clone(),
                since: uptime.saturating_sub(now - interface.leased?),
                lease: interface.lease.clone()?,
            })
        };
        let kept: Vec<Kept> = self.interfaces.values().filter_map(kept).collect();
        if let Err(error) = file::replace_json(&self.kept_path(), &kept) {
            tracing::warn!("{error:#}: a network child that is started again asks for a new address");
        }
    }
}
