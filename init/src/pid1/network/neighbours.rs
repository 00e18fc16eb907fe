//! What the network child tells its neighbours and hears from them: the name that it is found by ([`crate::pid1::mdns`]),
//! the switch and its spanning tree ([`crate::pid1::switch`]).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, channel};

use super::{Interface, Network};
use crate::pid1::mdns::{self, Link, Wanted};
use crate::pid1::switch::{self, Heard};
use crate::plan::Plan;
use crate::status::InterfaceStatus;

/// So long an interface may be without an address until its spanning tree is told on the console as a cause.
const PATIENCE: Duration = Duration::from_secs(5);
/// A port that says nothing of itself carries packets after twice the forward delay, and a little.
const GRACE: Duration = Duration::from_secs(2);

/// News of the neighbours.
pub(super) enum News {
    /// The name that we are found by.
    Name(Option<String>),
    /// What was heard on an interface.
    Heard(u32, Heard),
}

/// Both threads. Either may be missing: the network works without.
pub(super) struct Neighbours {
    mdns: Option<mdns::Handle>,
    switch: Option<switch::Handle>,
    /// The interfaces that are listened on.
    joined: Vec<u32>,
    name: Option<String>,
}

/// What there is to know of an interface besides its status.
#[derive(Default)]
pub(super) struct Wire {
    /// When its link came up.
    link_up: Option<Instant>,
    /// Until when the switch's announcement is good.
    switch_until: Option<Instant>,
    told: bool,
    told_to_wait: bool,
}

impl Wire {
    /// At each change of its carrier: it may be another cable.
    pub(super) fn new_link(status: &mut InterfaceStatus) -> Self {
        (status.switch, status.spanning_tree) = (None, None);
        Wire { link_up: status.carrier.then(Instant::now), ..Wire::default() }
    }
}

impl Neighbours {
    pub(super) fn start(plan: &Plan) -> (Self, Receiver<News>) {
        let (sender, receiver) = channel(64);
        let names = sender.clone();
        let mdns = plan.neighbours.mdns.then(|| {
            mdns::start(move |name| {
                // Nobody listens any more only when the whole child ends.
                let _ = names.blocking_send(News::Name(name));
            })
        });
        let mdns = mdns.and_then(|started| {
            started.inspect_err(|error| tracing::warn!("mDNS: {error:#}: nobody finds this by name")).ok()
        });
        let heard =
            switch::listen(move |index, heard| sender.blocking_send(News::Heard(index, heard)).is_ok());
        let switch =
            heard.inspect_err(|error| tracing::warn!("{error:#}: switches are not listened to")).ok();
        (Neighbours { mdns, switch, joined: Vec::new(), name: None }, receiver)
    }
}

impl Network {
    pub(super) fn take_neighbour(&mut self, news: News) {
        match news {
            News::Name(name) => {
                if let Some(name) = &name {
                    tracing::info!("found as {name}: ssh root@{name}");
                }
                self.neighbours.name = name;
            }
            News::Heard(index, heard) => {
                if let Some(interface) = self.interfaces.get_mut(&index).filter(|one| one.status.carrier) {
                    interface.take_heard(heard);
                }
            }
        }
    }

    /// Before the status is written: what has become too old goes, and the threads learn of what has changed.
    pub(super) fn refresh_neighbours(&mut self) {
        let now = Instant::now();
        let mut links = Vec::new();
        for (index, interface) in &mut self.interfaces {
            interface.refresh(now);
            if !self.neighbours.joined.contains(index) {
                self.neighbours.joined.push(*index);
                if let Some(Err(error)) = self.neighbours.switch.as_ref().map(|switch| switch.join(*index)) {
                    tracing::warn!("{}: {error:#}: its switch is not listened to", interface.status.name);
                }
            }
            let status = &interface.status;
            let addresses: Vec<IpAddr> =
                status.addresses.iter().filter_map(|text| text.split('/').next()?.parse().ok()).collect();
            if status.carrier && !addresses.is_empty() {
                links.push(Link { index: *index, device: status.name.clone(), addresses });
            }
        }
        self.neighbours.joined.retain(|index| self.interfaces.contains_key(index));
        let label = mdns::label(self.hostname().as_deref());
        if let Some(mdns) = &mut self.neighbours.mdns {
            mdns.update(Wanted { label, links });
        }
    }

    /// The name that a person finds this machine by.
    pub(super) fn mdns_name(&self) -> Option<String> {
        self.neighbours.name.clone()
    }
}

impl Interface {
    fn take_heard(&mut self, heard: Heard) {
        let (status, wire) = (&mut self.status, &mut self.wire);
        match heard {
            Heard::Switch(announcement) if announcement.lifetime == 0 => status.switch = None,
            Heard::Switch(announcement) => {
                if status.switch.as_ref().is_none_or(|known| known.name != announcement.switch.name)
                    && wire.switch_until.is_none()
                {
                    tracing::info!("{}: {}", status.name, announcement.switch);
                }
                wire.switch_until = Some(Instant::now() + Duration::from_secs(announcement.lifetime.into()));
                status.switch = Some(announcement.switch);
            }
            Heard::SpanningTree(tree) => {
                if !std::mem::replace(&mut wire.told, true) {
                    tracing::info!("{}: {tree}", status.name);
                }
                status.spanning_tree = Some(tree);
            }
        }
    }

    fn refresh(&mut self, now: Instant) {
        let (status, wire) = (&mut self.status, &mut self.wire);
        if wire.switch_until.is_some_and(|until| until < now) {
            status.switch = None;
        }
        let age = wire.link_up.map(|up| now.saturating_duration_since(up)).unwrap_or_default();
        let online = status.is_online();
        let Some(tree) = &mut status.spanning_tree else { return };
        if tree.port_state.is_none() {
            tree.may_block = age < Duration::from_secs(tree.forward_delay.into()) * 2 + GRACE;
        }
        let advice = tree.advice().filter(|_| !online && age > PATIENCE && !wire.told_to_wait);
        if let Some(advice) = advice {
            wire.told_to_wait = true;
            tracing::warn!("{}: no address yet: {advice}", status.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbours::{SpanningTree, Switch};
    use crate::pid1::switch::lldp::Announcement;

    fn interface() -> Interface {
        let mut status = InterfaceStatus { carrier: true, ..InterfaceStatus::default() };
        let wire = Wire::new_link(&mut status);
        Interface {
            status,
            mac: crate::mac::Mac([0; 6]),
            method: crate::network::Method::default(),
            client: None,
            lease: None,
            leased: None,
            controller: None,
            announced: Default::default(),
            ipv6: Default::default(),
            wire,
        }
    }

    #[test]
    fn a_port_that_says_nothing_may_block_until_its_time_is_over() {
        let mut eth0 = interface();
        let up = eth0.wire.link_up.unwrap();
        let tree = SpanningTree { forward_delay: 15, ..SpanningTree::default() };
        eth0.take_heard(Heard::SpanningTree(tree.clone()));
        for (seconds, may_block, told) in [(1, true, false), (6, true, true), (33, false, true)] {
            eth0.refresh(up + Duration::from_secs(seconds));
            assert_eq!(eth0.status.spanning_tree.as_ref().unwrap().may_block, may_block, "{seconds}");
            assert_eq!(eth0.wire.told_to_wait, told, "{seconds}");
        }
        // One that speaks for itself is believed.
        let says = SpanningTree { port_state: Some("discarding".into()), may_block: true, ..tree };
        eth0.take_heard(Heard::SpanningTree(says));
        eth0.refresh(up + Duration::from_secs(99));
        assert!(eth0.status.spanning_tree.as_ref().unwrap().may_block);
        // With another cable all begins anew.
        eth0.wire = Wire::new_link(&mut eth0.status);
        assert_eq!(eth0.status.spanning_tree, None);
    }

    #[test]
    fn a_switch_is_forgotten_when_its_time_is_over() {
        let mut eth0 = interface();
        let announcement = |lifetime| Heard::Switch(Announcement { switch: Switch::default(), lifetime });
        eth0.take_heard(announcement(120));
        eth0.refresh(Instant::now() + Duration::from_secs(100));
        assert!(eth0.status.switch.is_some());
        eth0.refresh(Instant::now() + Duration::from_secs(130));
        assert_eq!(eth0.status.switch, None);
        eth0.take_heard(announcement(120));
        eth0.take_heard(announcement(0));
        assert_eq!(eth0.status.switch, None);
    }
}
