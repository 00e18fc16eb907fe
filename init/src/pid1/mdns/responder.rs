//! The order of RFC 6762 on every interface: probe a name, announce it, answer for it, give it up for the next one where
//! another host has it. No sockets and no clock here: both are handed in.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message::{Message, Record};
use super::presence::{Presence, Stage};
use super::records::Records;
use super::{Family, MDNS_PORT, Wanted};

/// Section 8.2: so long a probe waits that gave way.
const GIVE_WAY: Duration = Duration::from_secs(1);
/// Section 8.1: after so many conflicts in a row each further name waits for so long.
const CONFLICTS: u32 = 15;
const CONFLICT_WAIT: Duration = Duration::from_secs(5);

/// A packet on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The interface's index.
    pub index: u32,
    /// Over what; `None`: over both.
    pub family: Option<Family>,
    /// To whom; `None`: to everybody on the link.
    pub to: Option<SocketAddr>,
    /// What it says.
    pub message: Message,
}

/// Sends; `false`: it could not, for now.
pub type Send<'a> = &'a mut dyn FnMut(Outgoing) -> bool;

/// We on all interfaces.
pub struct Responder {
    label: String,
    /// 1, then 2 for `NAME-2`.
    suffix: u32,
    conflicts: u32,
    presences: Vec<Presence>,
    /// Milliseconds below the limit, by chance.
    random: fn(u64) -> u64,
}

impl Responder {
    /// Nothing is said yet. `random` gives milliseconds below its argument.
    pub fn new(random: fn(u64) -> u64) -> Self {
        Responder { label: String::new(), suffix: 1, conflicts: 0, presences: Vec::new(), random }
    }

    /// The name that others find us by, once it is ours on some interface.
    pub fn name(&self) -> Option<String> {
        let is_ours = |presence: &Presence| !matches!(presence.stage, Stage::Probing(_));
        self.presences.iter().any(is_ours).then(|| format!("{}.local", self.full_label()))
    }

    /// Takes the interfaces as they are now.
    pub fn update(&mut self, now: Instant, wanted: Wanted, send: Send) {
        if wanted.label != self.label {
            self.label = wanted.label;
            (self.suffix, self.conflicts) = (1, 0);
            self.begin_anew(now, send);
        }
        self.presences.retain(|presence| wanted.links.iter().any(|link| link.index == presence.link.index));
        let label = self.full_label();
        for link in wanted.links {
            let records = Records::new(&label, &link.addresses);
            let known = self.presences.iter_mut().find(|presence| presence.link.index == link.index);
            match known {
                Some(presence) if presence.records == records => presence.link = link,
                Some(presence) => presence.change(now, link, records, send),
                None => {
                    let due = now + Duration::from_millis((self.random)(250));
                    self.presences.push(Presence::new(link, records, due));
                }
            }
        }
    }

    /// Does what is due; gives when to call again.
    pub fn tick(&mut self, now: Instant, send: Send) -> Option<Instant> {
        for presence in &mut self.presences {
            presence.tick(now, send);
        }
        let dues = self.presences.iter().flat_map(|presence| {
            presence.due.into_iter().chain(presence.waiting.iter().map(|waiting| waiting.due))
        });
        dues.min()
    }

    /// Takes a packet that came in on an interface.
    pub fn hear(
        &mut self,
        now: Instant,
        index: u32,
        family: Family,
        from: SocketAddr,
        packet: &[u8],
        send: Send,
    ) {
        // Two cables to one network: what we say by one is heard by the other.
        if self.presences.iter().any(|presence| presence.link.addresses.contains(&from.ip())) {
            return;
        }
        let Some(message) = Message::parse(packet) else { return };
        if message.response {
            if from.port() == MDNS_PORT {
                self.hear_response(now, index, &message, send);
            }
            return;
        }
        let delay = match message.truncated {
            true => 400 + (self.random)(100),
            false => 20 + (self.random)(100),
        };
        let Some(presence) = self.presences.iter_mut().find(|one| one.link.index == index) else { return };
        if matches!(presence.stage, Stage::Probing(_)) {
            if presence.records.give_way_to(&message.authorities) {
                (presence.stage, presence.due) = (Stage::Probing(0), Some(now + GIVE_WAY));
            }
            return;
        }
        presence.answer(now, now + Duration::from_millis(delay), family, from, &message, send);
    }

    /// Takes everything back: the machine goes on as something else.
    pub fn goodbye(&mut self, send: Send) {
        for presence in &self.presences {
            presence.goodbye(send);
        }
    }

    fn full_label(&self) -> String {
        match self.suffix {
            1 => self.label.clone(),
            number => {
                let end = format!("-{number}");
                let room = 63_usize.saturating_sub(end.len());
                let start = self.label.get(..room).unwrap_or(&self.label);
                format!("{start}{end}")
            }
        }
    }

    fn hear_response(&mut self, now: Instant, index: u32, message: &Message, send: Send) {
        let heard: Vec<&Record> =
            message.answers.iter().chain(&message.additionals).filter(|record| record.ttl > 0).collect();
        // Somebody may carry what we say on one link to another.
        let ours = |record: &Record| self.presences.iter().any(|presence| presence.records.says(record));
        let others: Vec<&Record> = heard.into_iter().filter(|record| !ours(record)).collect();
        let Some(presence) = self.presences.iter_mut().find(|one| one.link.index == index) else { return };
        match presence.stage {
            Stage::Probing(_) => {
                if others.iter().any(|record| presence.records.is_ours(&record.name)) {
                    self.take_next_name(now, send);
                }
            }
            Stage::Announcing(_) | Stage::Settled => {
                // Section 9: whose it is shows when both probe again.
                if others.iter().any(|record| presence.records.has(&record.name, record.kind)) {
                    let due = now + Duration::from_millis((self.random)(250));
                    (presence.stage, presence.due) = (Stage::Probing(0), Some(due));
                }
            }
        }
    }

    fn take_next_name(&mut self, now: Instant, send: Send) {
        let taken = self.full_label();
        self.suffix = self.suffix.saturating_add(1);
        self.conflicts = self.conflicts.saturating_add(1);
        // Who keeps the log short keeps it readable: a name for each packet can be made up by anybody.
        if self.conflicts <= CONFLICTS {
            tracing::warn!("mDNS: another host is called {taken}.local; trying {}.local", self.full_label());
        }
        self.begin_anew(now, send);
    }

    /// Probes on every interface, under a new name.
    fn begin_anew(&mut self, now: Instant, send: Send) {
        let label = self.full_label();
        let wait = match self.conflicts {
            ..CONFLICTS => Duration::from_millis((self.random)(250)),
            _ => CONFLICT_WAIT,
        };
        for presence in &mut self.presences {
            presence.goodbye(send);
            let records = Records::new(&label, &presence.link.addresses);
            *presence = Presence::new(presence.link.clone(), records, now + wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Link;
    use super::super::message::{A, ANY, PTR, Question};
    use super::*;
    use crate::pid1::dns::name::Name;

    const PEER: &str = "192.0.2.9:5353";

    /// A responder, its time, and what it has sent since it was last asked.
    struct Desk {
        responder: Responder,
        now: Instant,
        sent: Vec<Outgoing>,
    }

    impl Desk {
        fn new(label: &str, addresses: &[&str]) -> Self {
            let responder = Responder::new(|limit| limit / 2);
            let mut desk = Desk { responder, now: Instant::now(), sent: Vec::new() };
            desk.update(label, addresses);
            desk
        }

        fn update(&mut self, label: &str, addresses: &[&str]) {
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let wanted = Wanted {
                label: label.into(),
                links: vec![Link { index: 2, device: "eth0".into(), addresses }],
            };
            let sent = &mut self.sent;
            self.responder.update(self.now, wanted, &mut |outgoing| {
                sent.push(outgoing);
                true
            });
        }

        /// Lets so much time pass, in steps of its own choice; what was sent.
        fn pass(&mut self, milliseconds: u64) -> Vec<Outgoing> {
            let end = self.now + Duration::from_millis(milliseconds);
            let sent = &mut self.sent;
            while let Some(due) = self.responder.tick(self.now, &mut |outgoing| {
                sent.push(outgoing);
                true
            }) {
                if due > end {
                    break;
                }
                self.now = self.now.max(due);
            }
            self.now = end;
            std::mem::take(&mut self.sent)
        }

        fn hear(&mut self, from: &str, message: &Message) -> Vec<Outgoing> {
            let sent = &mut self.sent;
            let from = from.parse().unwrap();
            self.responder.hear(self.now, 2, Family::V4, from, &message.encode(), &mut |outgoing| {
                sent.push(outgoing);
                true
            });
            std::mem::take(&mut self.sent)
        }
    }

    fn settled() -> Desk {
        let mut desk = Desk::new("cm4", &["192.0.2.7"]);
        desk.pass(5000);
        desk
    }

    fn question(labels: &[&str], kind: u16, unicast: bool) -> Message {
        Message {
            questions: vec![Question { name: Name::from_labels(labels), kind, unicast }],
            ..Message::default()
        }
    }

    fn claim(label: &str, address: [u8; 4]) -> Message {
        let name = Name::from_labels(&[label, "local"]);
        let record = Record { name, kind: A, unique: true, ttl: 120, data: address.into() };
        Message { response: true, answers: vec![record], ..Message::default() }
    }

    #[test]
    fn a_name_is_probed_and_then_announced() {
        let mut desk = Desk::new("cm4", &["192.0.2.7"]);
        let sent = desk.pass(800);
        let probes = sent.iter().filter(|one| !one.message.response).count();
        assert_eq!((probes, desk.responder.name()), (3, None));
        assert!(sent.iter().all(|one| one.message.authorities.iter().all(|record| !record.unique)));
        let sent = desk.pass(5000);
        assert_eq!(sent.iter().filter(|one| one.message.response).count(), 2, "{sent:?}");
        assert_eq!(desk.responder.name().as_deref(), Some("cm4.local"));
        assert_eq!(desk.responder.tick(desk.now, &mut |_| true), None, "nothing is left to do");
    }

    #[test]
    fn a_name_that_another_has_is_left_to_it() {
        let mut desk = Desk::new("cm4", &["192.0.2.7"]);
        desk.pass(300);
        desk.hear(PEER, &claim("CM4", [192, 0, 2, 9]));
        desk.pass(5000);
        assert_eq!(desk.responder.name().as_deref(), Some("cm4-2.local"));
        // Another name, as DHCP may bring one, is tried without a number.
        desk.update("pi", &["192.0.2.7"]);
        let goodbye = &desk.sent[0].message;
        assert!(goodbye.answers.iter().all(|record| record.ttl == 0) && goodbye.answers.len() == 4);
        desk.pass(5000);
        assert_eq!(desk.responder.name().as_deref(), Some("pi.local"));
    }

    #[test]
    fn a_conflict_later_is_settled_by_new_probes() {
        let mut desk = settled();
        desk.hear(PEER, &claim("cm4", [192, 0, 2, 9]));
        assert_eq!(desk.responder.name(), None);
        // It is silent: the name stays ours.
        desk.pass(5000);
        assert_eq!(desk.responder.name().as_deref(), Some("cm4.local"));
        // It defends it: the next one is.
        desk.hear(PEER, &claim("cm4", [192, 0, 2, 9]));
        desk.hear(PEER, &claim("cm4", [192, 0, 2, 9]));
        desk.pass(5000);
        assert_eq!(desk.responder.name().as_deref(), Some("cm4-2.local"));
    }

    #[test]
    fn what_is_no_conflict_changes_nothing() {
        let mut desk = settled();
        // Our own words from another cable, the same address again, a goodbye, another port, another name.
        desk.hear("192.0.2.7:5353", &claim("cm4", [192, 0, 2, 9]));
        desk.hear(PEER, &claim("cm4", [192, 0, 2, 7]));
        let mut gone = claim("cm4", [192, 0, 2, 9]);
        gone.answers[0].ttl = 0;
        desk.hear(PEER, &gone);
        desk.hear("192.0.2.9:53", &claim("cm4", [192, 0, 2, 9]));
        desk.hear(PEER, &claim("cm5", [192, 0, 2, 9]));
        assert_eq!(desk.responder.name().as_deref(), Some("cm4.local"));
    }

    #[test]
    fn of_two_that_probe_at_once_the_smaller_gives_way() {
        let mut desk = Desk::new("cm4", &["192.0.2.7"]);
        desk.pass(300);
        let mut probe = claim("cm4", [192, 0, 2, 9]);
        (probe.response, probe.authorities) = (false, std::mem::take(&mut probe.answers));
        desk.hear(PEER, &probe);
        assert_eq!(desk.pass(900).len(), 0);
        assert_eq!(desk.pass(600).iter().filter(|one| !one.message.response).count(), 3);
    }

    #[test]
    fn each_kind_of_asker_gets_its_answer() {
        let mut desk = settled();
        let direct = desk.hear(PEER, &question(&["cm4", "local"], A, true));
        assert_eq!(direct[0].to, Some(PEER.parse().unwrap()));
        let all = desk.hear(PEER, &question(&["cm4", "local"], A, false));
        assert_eq!((all[0].to, all[0].message.id), (None, 0));
        // Once a second is enough, but for a probe.
        assert_eq!(desk.hear(PEER, &question(&["cm4", "local"], A, false)), []);
        desk.pass(500);
        let mut probe = question(&["cm4", "local"], ANY, false);
        probe.authorities = claim("cm4", [192, 0, 2, 9]).answers;
        assert_eq!(desk.hear(PEER, &probe).len(), 1);
        // A resolver of unicast DNS.
        let legacy = Message { id: 77, ..question(&["_ssh", "_tcp", "local"], PTR, true) };
        let answers = desk.hear("192.0.2.9:40000", &legacy);
        let message = &answers[0].message;
        assert_eq!((message.id, message.questions.len()), (77, 1));
        let records = message.answers.iter().chain(&message.additionals);
        assert!(records.clone().count() == 4 && records.clone().all(|one| one.ttl <= 10 && !one.unique));
        assert_eq!(desk.hear(PEER, &question(&["cm5", "local"], A, true)), []);
    }

    #[test]
    fn what_others_have_waits_and_what_is_known_is_not_said() {
        let mut desk = settled();
        let browse = question(&["_ssh", "_tcp", "local"], PTR, false);
        assert_eq!(desk.hear(PEER, &browse), []);
        let sent = desk.pass(200);
        assert_eq!(sent.len(), 1);
        let mut known = browse.clone();
        known.answers = sent[0].message.answers.clone();
        desk.pass(2000);
        desk.hear(PEER, &known);
        assert_eq!(desk.pass(1000), []);
        // Known for less than half of its time: it is said again.
        known.answers[0].ttl /= 3;
        desk.hear(PEER, &known);
        assert_eq!(desk.pass(1000).len(), 1);
        // In a second packet.
        desk.pass(2000);
        desk.hear(PEER, &browse);
        known.answers[0].ttl *= 3;
        known.questions.clear();
        desk.hear(PEER, &known);
        assert_eq!(desk.pass(1000), []);
    }

    #[test]
    fn other_addresses_are_announced_and_old_ones_taken_back() {
        let mut desk = settled();
        desk.update("cm4", &["192.0.2.8", "fe80::8"]);
        let sent = desk.pass(5000);
        let gone: Vec<_> = sent[0].message.answers.iter().map(|one| (one.ttl, one.data.clone())).collect();
        assert_eq!(gone, [(0, vec![192, 0, 2, 7])]);
        assert_eq!(sent.len(), 3, "{sent:?}");
        assert_eq!(desk.responder.name().as_deref(), Some("cm4.local"));
    }

    #[test]
    fn an_interface_that_cannot_send_yet_probes_later() {
        let mut desk = Desk::new("cm4", &["fe80::7"]);
        for _ in 0..10 {
            let due = desk.responder.tick(desk.now, &mut |_| false).unwrap();
            desk.now = due;
        }
        assert_eq!(desk.responder.name(), None);
        assert_eq!(desk.pass(10_000).len(), 5);
    }

    #[test]
    fn somebody_who_takes_every_name_gets_few_packets_for_it() {
        let mut desk = Desk::new(&"x".repeat(63), &["192.0.2.7"]);
        for _ in 0..100 {
            desk.pass(300);
            let name = desk.responder.presences[0].records.questions().remove(0).name;
            let record = Record { name, kind: A, unique: true, ttl: 120, data: vec![192, 0, 2, 9] };
            desk.hear(PEER, &Message { response: true, answers: vec![record], ..Message::default() });
        }
        assert!(desk.responder.conflicts >= CONFLICTS, "{}", desk.responder.conflicts);
        assert_eq!(desk.pass(4000), []);
    }

    proptest! {
        #[test]
        fn no_packet_panics(label in "[a-z]{1,70}", packets in proptest::collection::vec((any::<bool>(), "[a-z]{1,3}", any::<u16>(), any::<[u8; 4]>(), 0u64..3000), 0..20)) {
            let mut desk = Desk::new(&label, &["192.0.2.7", "2001:db8::7"]);
            for (response, other, kind, data, wait) in packets {
                let name = if response { label.clone() } else { other };
                let mut message = claim(&name, data);
                message.response = response;
                message.questions = question(&[&label, "local"], kind, kind % 2 == 0).questions;
                desk.hear(PEER, &message);
                desk.pass(wait);
            }
        }
    }
}
