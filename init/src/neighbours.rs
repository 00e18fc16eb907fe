//! What the Pi tells its neighbours on the wire, and what it hears from them: its name, the switch, spanning tree.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plan::Parameter;
use crate::status::InterfaceStatus;

/// Our own parameters that this file reads: see [`crate::plan::parameters`].
pub(crate) const PARAMETERS: &[Parameter] =
    &[("lifeboat.mdns", "on|off", "announce NAME.local and the service SSH by multicast DNS (default on)")];

/// What the command line says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbours {
    /// Whether the Pi announces itself by multicast DNS.
    pub mdns: bool,
}

impl Default for Neighbours {
    fn default() -> Self {
        Neighbours { mdns: true }
    }
}

impl Neighbours {
    /// Reads a word; `false`: it is none of these.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match (name, value) {
            ("lifeboat.mdns", "on") => self.mdns = true,
            ("lifeboat.mdns", "off") => self.mdns = false,
            ("lifeboat.mdns", _) => return Err("it is on or off".into()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The other end of a cable, as it says of itself by LLDP (IEEE 802.1AB).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Its name, or its address where it has none.
    pub name: String,
    /// The port that the cable is in.
    pub port: String,
    /// The port's description, where that says something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The port's own VLAN: that of packets without a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "switch {}, port {}", self.name, self.port)?;
        if let Some(description) = &self.description {
            write!(f, " ({description})")?;
        }
        if let Some(vlan) = self.vlan {
            write!(f, ", VLAN {vlan}")?;
        }
        write!(f, " (LLDP)")
    }
}

/// Spanning tree as heard on a cable (IEEE 802.1D, 802.1w, 802.1Q).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanningTree {
    /// `STP`, `RSTP`, `MSTP` or `PVST+`.
    pub protocol: String,
    /// The root bridge: priority and address, `8000.00:11:22:33:44:55`.
    pub root: String,
    /// The bridge at the other end, and the number of its port.
    pub bridge: String,
    /// The number of its port.
    pub port: u16,
    /// The forward delay in seconds: a port of STP is silent for twice as long after each link-up.
    pub forward_delay: u16,
    /// Where the protocol tells: `discarding`, `learning` or `forwarding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_state: Option<String>,
    /// Whether the port may not carry our packets yet, by what it says or by the time since the link came up.
    pub may_block: bool,
}

impl SpanningTree {
    /// Why nothing may come through, and what to do about it; `None` where the port carries packets.
    pub fn advice(&self) -> Option<String> {
        let wait = u32::from(self.forward_delay) * 2;
        let why = match &self.port_state {
            Some(state) => format!("the switch says that this port is {state}"),
            None => "the switch's port may still be blocking".into(),
        };
        self.may_block.then(|| {
            format!("{why}, up to {wait} s after each link-up; make it an edge port (PortFast) on the switch")
        })
    }
}

impl fmt::Display for SpanningTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spanning tree on this port ({}, root {})", self.protocol, self.root)
    }
}

impl InterfaceStatus {
    /// An IPv4 address, or an IPv6 one that reaches further than the link.
    pub fn is_online(&self) -> bool {
        self.carrier && self.addresses.iter().any(|address| !address.starts_with("fe80:"))
    }

    /// What it hears on its cable, each in words. As long as it has no address, the spanning tree comes with advice.
    pub fn heard(&self) -> Vec<String> {
        let mut all: Vec<String> = self.switch.iter().map(Switch::to_string).collect();
        if let Some(tree) = &self.spanning_tree {
            all.push(match tree.advice().filter(|_| !self.is_online()) {
                Some(advice) => format!("{tree}: {advice}"),
                None => tree.to_string(),
            });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mdns_is_on_or_off() {
        let mut neighbours = Neighbours::default();
        assert!(neighbours.mdns);
        for (value, mdns) in [("off", false), ("on", true), ("off", false)] {
            assert_eq!(neighbours.take("lifeboat.mdns", value), Ok(true));
            assert_eq!(neighbours.mdns, mdns);
        }
        assert!(neighbours.take("lifeboat.mdns", "").is_err());
        assert!(neighbours.take("lifeboat.mdns", "yes").is_err());
        assert_eq!(neighbours.take("mdns", "on"), Ok(false));
    }

    #[test]
    fn a_port_that_may_block_comes_with_advice_until_there_is_an_address() {
        let tree = SpanningTree {
            protocol: "STP".into(),
            root: "8000.00:11:22:33:44:55".into(),
            forward_delay: 15,
            may_block: true,
            ..SpanningTree::default()
        };
        let switch =
            Switch { name: "sw1".into(), port: "ge-0/0/7".into(), vlan: Some(12), ..Switch::default() };
        let mut eth0 = InterfaceStatus {
            carrier: true,
            addresses: vec!["fe80::1/64".into()],
            switch: Some(switch),
            spanning_tree: Some(tree),
            ..InterfaceStatus::default()
        };
        assert_eq!(eth0.heard()[0], "switch sw1, port ge-0/0/7, VLAN 12 (LLDP)");
        let words = "spanning tree on this port (STP, root 8000.00:11:22:33:44:55)";
        let advice = "the switch's port may still be blocking, up to 30 s after each link-up; make it an edge port \
                      (PortFast) on the switch";
        assert_eq!(eth0.heard()[1], format!("{words}: {advice}"));
        eth0.addresses.push("192.0.2.7/24".into());
        assert_eq!(eth0.heard()[1], words);
    }
}
