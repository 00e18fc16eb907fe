//! The order of RFC 6762 on every interface: probe a name, announce it, answer for it, give it up for the next one where
//! another host has it. No sockets and no clock here: both are handed in.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message::{Message, Question, Record};
use super::records::Records;
use super::{Family, Link, MDNS_PORT, Wanted};

/// RFC 6762 section 8.1.
const PROBES: u8 = 3;
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// Section 8.2: so long a probe waits that gave way.
const GIVE_WAY: Duration = Duration::from_secs(1);
/// Section 8.1: after so many conflicts in a row each further name waits for so long.
const CONFLICTS: u32 = 15;
const CONFLICT_WAIT: Duration = Duration::from_secs(5);
/// Section 8.3.
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(1);
/// Section 6: a record is not multicast again so soon, and to defend it against a probe not so soon.
const NOT_BEFORE: Duration = Duration::from_secs(1);
const DEFEND_NOT_BEFORE: Duration = Duration::from_millis(250);
/// Section 6.7: who asks like a resolver of unicast DNS may keep the answer for so long.
const LEGACY_TTL: u32 = 10;
/// So many answers wait on an interface for their moment.
const WAITING: usize = 32;

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

/// Where we are on an interface.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// So many probes were sent.
    Probing(u8),
    /// So many announcements were sent.
    Announcing(u8),
    Settled,
}

/// An answer that waits, since others may have the same one.
struct Waiting {
    due: Instant,
    family: Family,
    from: SocketAddr,
    numbers: Vec<usize>,
}

/// We on one interface.
struct Presence {
    link: Link,
    records: Records,
    stage: Stage,
    due: Option<Instant>,
    waiting: Vec<Waiting>,
    /// When the record of this number was multicast last.
    sent: Vec<Option<Instant>>,
}

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

impl Presence {
    fn new(link: Link, records: Records, due: Instant) -> Self {
        Presence {
            link,
            records,
            stage: Stage::Probing(0),
            due: Some(due),
            waiting: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Other addresses: no name is in doubt, so that they are announced at once (section 8.4).
    fn change(&mut self, now: Instant, link: Link, records: Records, send: Send) {
        let is_probing = matches!(self.stage, Stage::Probing(_));
        let gone: Vec<Record> = self.records.unique().filter(|old| !records.says(old)).cloned().collect();
        if !is_probing && !gone.is_empty() {
            self.say_goodbye(gone, send);
        }
        (self.link, self.records) = (link, records);
        (self.waiting, self.sent) = (Vec::new(), Vec::new());
        if !is_probing {
            (self.stage, self.due) = (Stage::Announcing(0), Some(now));
        }
    }

    fn tick(&mut self, now: Instant, send: Send) {
        while let Some(at) = self.waiting.iter().position(|waiting| waiting.due <= now) {
            let waiting = self.waiting.swap_remove(at);
            self.multicast(now, NOT_BEFORE, Some(waiting.family), &waiting.numbers, send);
        }
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        match self.stage {
            Stage::Probing(PROBES) => {
                self.stage = Stage::Announcing(0);
                self.announce(now, send);
            }
            Stage::Probing(sent) => {
                let wanted =
                    self.records.unique().map(|one| Record { unique: false, ..one.clone() }).collect();
                let message = Message {
                    questions: self.records.questions(),
                    authorities: wanted,
                    ..Message::default()
                };
                // An IPv6 address that is not known to be ours alone yet sends nothing: the probe counts once it is sent.
                let was_sent = send(self.to_all(None, message));
                (self.stage, self.due) = (Stage::Probing(sent + u8::from(was_sent)), Some(now + PROBE_EVERY));
            }
            Stage::Announcing(_) => self.announce(now, send),
            Stage::Settled => self.due = None,
        }
    }

    fn announce(&mut self, now: Instant, send: Send) {
        let numbers: Vec<usize> = self.records.announced().collect();
        let was_sent = self.multicast(now, Duration::ZERO, None, &numbers, send);
        let sent = match self.stage {
            Stage::Announcing(sent) => sent + u8::from(was_sent),
            _ => ANNOUNCEMENTS,
        };
        let is_last = sent >= ANNOUNCEMENTS;
        self.stage = if is_last { Stage::Settled } else { Stage::Announcing(sent) };
        self.due = (!is_last).then_some(now + ANNOUNCE_AGAIN);
    }

    /// Answers what is asked: at once, or at `later` where others may have the same answer (section 6).
    fn answer(
        &mut self,
        now: Instant,
        later: Instant,
        family: Family,
        from: SocketAddr,
        asked: &Message,
        send: Send,
    ) {
        if asked.questions.is_empty() {
            return self.forget_known(from, &asked.answers);
        }
        if from.port() != MDNS_PORT {
            return self.answer_legacy(family, from, asked, send);
        }
        let (direct, all): (Vec<&Question>, Vec<&Question>) =
            asked.questions.iter().partition(|question| question.unicast);
        let direct = self.numbers(&direct, &asked.answers);
        if !direct.is_empty() {
            let message = self.message(&direct);
            send(Outgoing { index: self.link.index, family: Some(family), to: Some(from), message });
        }
        let all = self.numbers(&all, &asked.answers);
        if all.is_empty() {
            return;
        }
        let is_probe = !asked.authorities.is_empty();
        let are_unique = all.iter().filter_map(|number| self.records.get(*number)).all(|one| one.unique);
        if is_probe {
            self.multicast(now, DEFEND_NOT_BEFORE, Some(family), &all, send);
        } else if are_unique && !asked.truncated {
            self.multicast(now, NOT_BEFORE, Some(family), &all, send);
        } else if self.waiting.len() < WAITING {
            self.waiting.push(Waiting { due: later, family, from, numbers: all });
        }
    }

    /// Section 6.7: like any name server, and to the one who asked alone.
    fn answer_legacy(&self, family: Family, from: SocketAddr, asked: &Message, send: Send) {
        let is_answered = |question: &&Question| !self.records.answer(question).is_empty();
        let questions: Vec<&Question> = asked.questions.iter().filter(is_answered).collect();
        let numbers = self.numbers(&questions, &[]);
        if numbers.is_empty() {
            return;
        }
        let mut message = Message { id: asked.id, ..self.message(&numbers) };
        message.questions =
            questions.into_iter().map(|one| Question { unicast: false, ..one.clone() }).collect();
        for record in message.answers.iter_mut().chain(&mut message.additionals) {
            (record.ttl, record.unique) = (record.ttl.min(LEGACY_TTL), false);
        }
        send(Outgoing { index: self.link.index, family: Some(family), to: Some(from), message });
    }

    /// The numbers of the records that answer, without those that are known (section 7.1).
    fn numbers(&self, questions: &[&Question], known: &[Record]) -> Vec<usize> {
        let mut numbers = Vec::new();
        for number in questions.iter().flat_map(|question| self.records.answer(question)) {
            if !numbers.contains(&number) && !self.is_known(number, known) {
                numbers.push(number);
            }
        }
        numbers
    }

    fn is_known(&self, number: usize, known: &[Record]) -> bool {
        let Some(ours) = self.records.get(number) else { return false };
        known.iter().any(|theirs| ours.says_the_same(theirs) && theirs.ttl >= ours.ttl / 2)
    }

    /// Section 7.2: the rest of what somebody knows, who asked before.
    fn forget_known(&mut self, from: SocketAddr, known: &[Record]) {
        let mut waiting = std::mem::take(&mut self.waiting);
        for one in waiting.iter_mut().filter(|one| one.from == from) {
            one.numbers.retain(|number| !self.is_known(*number, known));
        }
        self.waiting = waiting;
    }

    fn message(&self, answers: &[usize]) -> Message {
        let records = |numbers: &[usize]| {
            numbers.iter().filter_map(|number| self.records.get(*number).cloned()).collect()
        };
        let additionals = records(&self.records.further(answers));
        Message { response: true, answers: records(answers), additionals, ..Message::default() }
    }

    /// To everybody, but for what they have just heard.
    fn multicast(
        &mut self,
        now: Instant,
        not_before: Duration,
        family: Option<Family>,
        numbers: &[usize],
        send: Send,
    ) -> bool {
        let is_due = |number: &usize| {
            let sent = self.sent.get(*number).copied().flatten();
            sent.is_none_or(|sent| now.saturating_duration_since(sent) >= not_before)
        };
        let numbers: Vec<usize> = numbers.iter().copied().filter(is_due).collect();
        if numbers.is_empty() {
            return true;
        }
        for number in &numbers {
            if self.sent.len() <= *number {
                self.sent.resize(number + 1, None);
            }
            if let Some(sent) = self.sent.get_mut(*number) {
                *sent = Some(now);
            }
        }
        let message = self.message(&numbers);
        send(self.to_all(family, message))
    }

    fn goodbye(&self, send: Send) {
        if matches!(self.stage, Stage::Probing(_)) {
            return;
        }
        self.say_goodbye(self.records.ours().cloned().collect(), send);
    }

    fn say_goodbye(&self, records: Vec<Record>, send: Send) {
        let answers = records.into_iter().map(|record| Record { ttl: 0, ..record }).collect();
        send(self.to_all(None, Message { response: true, answers, ..Message::default() }));
    }

    fn to_all(&self, family: Option<Family>, message: Message) -> Outgoing {
        Outgoing { index: self.link.index, family, to: None, message }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::{A, ANY, Name, PTR};
    use super::*;

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
        Message { questions: vec![Question { name: Name::new(labels), kind, unicast }], ..Message::default() }
    }

    fn claim(label: &str, address: [u8; 4]) -> Message {
        let name = Name::new(&[label, "local"]);
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
