//! Interfaces that the command line makes: bonds and bridges at once, VLANs when what they stand on is there. What cannot be made now
//! (its module may not be mounted yet) is tried again until it is.

use std::path::Path;

use anyhow::{Context, Result};
use rtnetlink::packet_route::link::{BondFailOverMac, BondLacpRate, BondMode, BondXmitHashPolicy};
use rtnetlink::{Handle, LinkBond, LinkBridge, LinkUnspec, LinkVlan};

use crate::links::{Bond, Bridge, Vlan};
use crate::mac::Mac;
use crate::network::Network;
use crate::pid1::modprobe::Modules;
use crate::pid1::usr;

/// What is still to be made.
#[derive(Clone, Debug, Default)]
pub(super) struct ToMake {
    /// Bonds.
    pub(super) bonds: Vec<Bond>,
    /// Bridges.
    pub(super) bridges: Vec<Bridge>,
    /// VLANs, each on an interface that may not be there yet.
    pub(super) vlans: Vec<Vlan>,
    /// What failed and was told, so that it is told once.
    pub(super) told: Vec<String>,
}

impl ToMake {
    /// All that the command line asks for.
    pub(super) fn new(network: &Network) -> Self {
        ToMake {
            bonds: network.bonds.clone(),
            bridges: network.bridges.clone(),
            vlans: network.vlans.clone(),
            told: Vec::new(),
        }
    }

    /// What was made is gone.
    pub(super) fn again(&mut self, name: &str, network: &Network) {
        self.bonds.extend(network.bonds.iter().filter(|bond| bond.name == name).cloned());
        self.bridges.extend(network.bridges.iter().filter(|bridge| bridge.name == name).cloned());
        self.vlans.extend(network.vlans.iter().filter(|vlan| vlan.name == name).cloned());
    }

    fn tell(&mut self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        if !self.told.contains(&text) {
            tracing::warn!("{text}; trying again");
            self.told.push(text);
        }
    }

    /// Whether all is done.
    pub(super) fn is_empty(&self) -> bool {
        self.bonds.is_empty() && self.bridges.is_empty() && self.vlans.is_empty()
    }

    /// The interfaces of bonds and bridges that could not be made yet.
    pub(super) fn members(&self) -> impl Iterator<Item = &String> {
        let bonds = self.bonds.iter().flat_map(|bond| &bond.members);
        bonds.chain(self.bridges.iter().flat_map(|bridge| &bridge.members))
    }

    /// Makes what can be made; `index_of` tells an interface by its name. What fails is logged and stays.
    pub(super) async fn make(&mut self, handle: &Handle, index_of: impl Fn(&str) -> Option<u32>) {
        let mut bonds = Vec::new();
        for bond in std::mem::take(&mut self.bonds) {
            match make_bond(handle, &bond).await {
                Ok(()) => tracing::info!("{}: made, a bond of {}", bond.name, bond.members.join(", ")),
                Err(error) => {
                    self.tell(&error);
                    bonds.push(bond);
                }
            }
        }
        let mut bridges = Vec::new();
        for bridge in std::mem::take(&mut self.bridges) {
            match make_bridge(handle, &bridge).await {
                Ok(()) => {
                    tracing::info!("{}: made, a bridge of {}", bridge.name, bridge.members.join(", "));
                }
                Err(error) => {
                    self.tell(&error);
                    bridges.push(bridge);
                }
            }
        }
        let mut vlans = Vec::new();
        for vlan in std::mem::take(&mut self.vlans) {
            let Some(parent) = index_of(&vlan.parent) else {
                vlans.push(vlan);
                continue;
            };
            match make_vlan(handle, &vlan, parent).await {
                Ok(()) => tracing::info!("{}: made, VLAN {} on {}", vlan.name, vlan.id, vlan.parent),
                Err(error) => {
                    self.tell(&error);
                    vlans.push(vlan);
                }
            }
        }
        (self.bonds, self.bridges, self.vlans) = (bonds, bridges, vlans);
    }
}

/// The module makes a bond by itself when it is loaded (Documentation/networking/bonding.rst, `max_bonds`).
const STRAY: &str = "bond0";

async fn remove(handle: &Handle, name: &str) -> Result<()> {
    let path = Path::new("/sys/class/net").join(name).join("ifindex");
    let index = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let index = index.trim().parse().with_context(|| format!("reading {}", path.display()))?;
    handle.link().del(index).execute().await.with_context(|| format!("removing {name}"))
}

async fn make_bond(handle: &Handle, bond: &Bond) -> Result<()> {
    if is_there(&bond.name) {
        // This child died and was started again.
        return Ok(());
    }
    let stray_before = is_there(STRAY);
    load("bonding");
    if !stray_before && is_there(STRAY) {
        remove(handle, STRAY).await?;
    }
    let options = &bond.options;
    let mut link = LinkBond::new(&bond.name).mode(BondMode::from(options.mode)).miimon(options.miimon);
    if let Some(delay) = options.updelay {
        link = link.updelay(delay);
    }
    if let Some(delay) = options.downdelay {
        link = link.downdelay(delay);
    }
    if let Some(rate) = options.lacp_rate {
        link = link.ad_lacp_rate(BondLacpRate::from(rate));
    }
    if let Some(policy) = options.xmit_hash_policy {
        link = link.xmit_hash_policy(BondXmitHashPolicy::from(policy));
    }
    if let Some(policy) = options.fail_over_mac {
        link = link.fail_over_mac(BondFailOverMac::from(policy));
    }
    if let Some(mtu) = bond.mtu {
        link = link.mtu(mtu);
    }
    handle
        .link()
        .add(link.build())
        .execute()
        .await
        .with_context(|| format!("making the bond {}", bond.name))?;
    if let Some(primary) = &options.primary {
        // By its name, which the kernel keeps until such an interface is there (Documentation/networking/bonding.rst).
        let path = Path::new("/sys/class/net").join(&bond.name).join("bonding/primary");
        std::fs::write(&path, primary).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

async fn make_bridge(handle: &Handle, bridge: &Bridge) -> Result<()> {
    if is_there(&bridge.name) {
        return Ok(());
    }
    load("bridge");
    let link = LinkBridge::new(&bridge.name).build();
    handle.link().add(link).execute().await.with_context(|| format!("making the bridge {}", bridge.name))
}

async fn make_vlan(handle: &Handle, vlan: &Vlan, parent: u32) -> Result<()> {
    if is_there(&vlan.name) {
        return Ok(());
    }
    load("8021q");
    let link = LinkVlan::new(&vlan.name, parent, vlan.id).build();
    handle
        .link()
        .add(link)
        .execute()
        .await
        .with_context(|| format!("making {} on {}", vlan.name, vlan.parent))
}

fn is_there(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// Puts an interface into a bond. It has to be down for that, and the bond sets it up.
///
/// # Errors
/// When the kernel refuses.
pub(super) async fn join(handle: &Handle, member: u32, bond: u32) -> Result<()> {
    handle.link().set(LinkUnspec::new_with_index(member).down().build()).execute().await?;
    handle.link().set(LinkUnspec::new_with_index(member).controller(bond).build()).execute().await?;
    Ok(())
}

/// Puts an interface into a bridge, and sets it up. The bridge keeps the MAC address of the first one: left to itself it
/// would take the lowest of all, another one whenever a cable is plugged in, and lose its lease.
///
/// # Errors
/// When the kernel refuses.
pub(super) async fn join_bridge(handle: &Handle, member: (u32, Mac), bridge: (u32, &str)) -> Result<()> {
    /// `NET_ADDR_SET` (include/uapi/linux/netdevice.h).
    const SET: &str = "3";
    let path = Path::new("/sys/class/net").join(bridge.1).join("addr_assign_type");
    if std::fs::read_to_string(&path).is_ok_and(|kind| kind.trim() != SET) {
        let address = LinkUnspec::new_with_index(bridge.0).address(member.1.0.to_vec());
        handle.link().set(address.build()).execute().await.context("giving it its MAC address")?;
    }
    handle
        .link()
        .set(LinkUnspec::new_with_index(member.0).controller(bridge.0).up().build())
        .execute()
        .await?;
    Ok(())
}

/// A kernel that has it built in, or a host that loads it by itself, needs no module of ours.
fn load(name: &str) {
    if !usr::is_there() {
        return;
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let loaded =
        Modules::read(&Path::new("/lib/modules").join(release)).and_then(|mut modules| modules.load(name));
    if let Err(error) = loaded {
        tracing::warn!("{error:#}");
    }
}
