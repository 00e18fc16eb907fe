//! We on one interface: the stage that we are in there, and what we say.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message::{Message, Question, Record};
use super::records::Records;
use super::responder::{Outgoing, Send};
use super::{Family, Link, MDNS_PORT};

/// RFC 6762 section 8.1.
const PROBES: u8 = 3;
const PROBE_EVERY: Duration = Duration::from_millis(250);
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

/// Where we are on an interface.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    /// So many probes were sent.
    Probing(u8),
    /// So many announcements were sent.
    Announcing(u8),
    Settled,
}

/// An answer that waits, since others may have the same one.
pub(super) struct Waiting {
    pub(super) due: Instant,
    family: Family,
    from: SocketAddr,
    numbers: Vec<usize>,
}

/// We on one interface.
pub(super) struct Presence {
    pub(super) link: Link,
    pub(super) records: Records,
    pub(super) stage: Stage,
    pub(super) due: Option<Instant>,
    pub(super) waiting: Vec<Waiting>,
    /// When the record of this number was multicast last.
    sent: Vec<Option<Instant>>,
}

impl Presence {
    pub(super) fn new(link: Link, records: Records, due: Instant) -> Self {
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
    pub(super) fn change(&mut self, now: Instant, link: Link, records: Records, send: Send) {
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

    pub(super) fn tick(&mut self, now: Instant, send: Send) {
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
    pub(super) fn answer(
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

    pub(super) fn goodbye(&self, send: Send) {
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
