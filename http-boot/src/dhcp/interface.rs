//! The machine's Ethernet interfaces and their IPv4 addresses.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;

use init::mac::Mac;

/// An Ethernet interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IPv4 addresses and the lengths of their prefixes, in the kernel's order.
    pub addresses: Vec<(Ipv4Addr, u8)>,
}

/// All interfaces of this network namespace that have an Ethernet address.
///
/// # Errors
/// Where the kernel does not list them.
pub fn all() -> Result<Vec<Interface>> {
    let mut interfaces: Vec<Interface> = Vec::new();
    let listed: Vec<_> = getifaddrs().context("listing the network interfaces")?.collect();
    for one in &listed {
        let link = one.address.as_ref().and_then(|address| address.as_link_addr());
        if let Some((link, mac)) = link.and_then(|link| Some((link, link.addr()?)))
            && mac != [0; 6]
        {
            let index = u32::try_from(link.ifindex()).context("reading an interface's number")?;
            let name = one.interface_name.clone();
            interfaces.push(Interface { name, index, mac: Mac(mac), addresses: Vec::new() });
        }
    }
    for one in &listed {
        let address = one.address.as_ref().and_then(|address| address.as_sockaddr_in());
        let mask = one.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in());
        // An address with a label of its own (eth0:1) belongs to the interface before the colon.
        let name = one.interface_name.split(':').next().unwrap_or_default();
        if let (Some(address), Some(mask)) = (address, mask)
            && let Some(interface) = interfaces.iter_mut().find(|interface| interface.name == name)
        {
            let prefix = mask.ip().to_bits().leading_ones();
            interface.addresses.push((address.ip(), u8::try_from(prefix).unwrap_or(32)));
        }
    }
    Ok(interfaces)
}
