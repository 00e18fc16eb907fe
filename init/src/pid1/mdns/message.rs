//! DNS messages as mDNS has them (RFC 1035 section 4, RFC 6762 section 18): what of them we read, and what we write.
//! Names are never compressed by us; what others send may be.

use crate::pid1::dns::name::Name;

/// Types of records (RFC 1035, 2782, 3596, 4034).
pub const A: u16 = 1;
/// A pointer to another name.
pub const PTR: u16 = 12;
/// Words about a service.
pub const TXT: u16 = 16;
/// An IPv6 address.
pub const AAAA: u16 = 28;
/// Where a service is.
pub const SRV: u16 = 33;
/// Which types a name has, and so which it has not.
pub const NSEC: u16 = 47;
/// In a question: every type.
pub const ANY: u16 = 255;

/// The class "Internet".
const IN: u16 = 1;
/// In a question's class: a unicast answer is welcome. In a record's: it replaces what was known (RFC 6762 section 18).
const TOP_BIT: u16 = 0x8000;
/// Flags: a response, by somebody who has authority.
const RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
/// More known answers follow.
const TRUNCATED: u16 = 0x0200;
/// Opcode and response code are zero in mDNS.
const MUST_BE_ZERO: u16 = 0x780f;
/// Nobody on a link has so many questions or records in one packet for us.
const ENTRIES: usize = 512;

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// The type, or [`ANY`].
    pub kind: u16,
    /// Whether a unicast answer is welcome (QU).
    pub unicast: bool,
}

/// A record of class IN.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The name.
    pub name: Name,
    /// The type.
    pub kind: u16,
    /// Whether it replaces all others of its name and type: nobody else may have such.
    pub unique: bool,
    /// For so many seconds it may be remembered; 0: it is no more.
    pub ttl: u32,
    /// Its data, without compressed names.
    pub data: Vec<u8>,
}

impl Record {
    /// Whether both say the same, whatever their times.
    pub fn says_the_same(&self, other: &Record) -> bool {
        let is_name = self.kind == PTR || self.kind == SRV;
        self.kind == other.kind
            && self.name == other.name
            && (self.data == other.data || is_name && self.data.eq_ignore_ascii_case(&other.data))
    }
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Its number: of use to those only that ask like a resolver of unicast DNS.
    pub id: u16,
    /// Whether it is a response.
    pub response: bool,
    /// Whether more known answers follow.
    pub truncated: bool,
    /// The questions.
    pub questions: Vec<Question>,
    /// The answers; in a question those that are known.
    pub answers: Vec<Record>,
    /// In a probe, what its sender wants to have.
    pub authorities: Vec<Record>,
    /// What may be of use.
    pub additionals: Vec<Record>,
}

impl Message {
    /// Reads a packet. `None`: it is none of mDNS. Records of other classes are left out.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader { packet, at: 0 };
        let (id, flags) = (reader.u16()?, reader.u16()?);
        if flags & MUST_BE_ZERO != 0 {
            return None;
        }
        let mut counts = [0; 4];
        for count in &mut counts {
            *count = usize::from(reader.u16()?);
        }
        if counts.iter().sum::<usize>() > ENTRIES {
            return None;
        }
        let [questions, answers, authorities, additionals] = counts;
        let (response, truncated) = (flags & RESPONSE != 0, flags & TRUNCATED != 0);
        let mut message = Message { id, response, truncated, ..Message::default() };
        for _ in 0..questions {
            let (name, kind, class) = (reader.name()?, reader.u16()?, reader.u16()?);
            if matches!(class & !TOP_BIT, IN | ANY) {
                message.questions.push(Question { name, kind, unicast: class & TOP_BIT != 0 });
            }
        }
        message.answers = reader.records(answers)?;
        message.authorities = reader.records(authorities)?;
        message.additionals = reader.records(additionals)?;
        Some(message)
    }

    /// Its bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let flags = if self.response { RESPONSE | AUTHORITATIVE } else { 0 };
        let mut bytes = Vec::new();
        let sections = [&self.answers, &self.authorities, &self.additionals];
        let lengths = sections.map(|section| section.len() as u16);
        for number in [self.id, flags, self.questions.len() as u16].into_iter().chain(lengths) {
            bytes.extend(number.to_be_bytes());
        }
        for question in &self.questions {
            bytes.extend(question.name.bytes());
            bytes.extend(question.kind.to_be_bytes());
            bytes.extend((IN | if question.unicast { TOP_BIT } else { 0 }).to_be_bytes());
        }
        for record in sections.into_iter().flatten() {
            bytes.extend(record.name.bytes());
            bytes.extend(record.kind.to_be_bytes());
            bytes.extend((IN | if record.unique { TOP_BIT } else { 0 }).to_be_bytes());
            bytes.extend(record.ttl.to_be_bytes());
            bytes.extend((record.data.len() as u16).to_be_bytes());
            bytes.extend(&record.data);
        }
        bytes
    }
}

struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let bytes = self.packet.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn name(&mut self) -> Option<Name> {
        let (name, behind) = Name::read(self.packet, self.at)?;
        self.at = behind;
        Some(name)
    }

    fn records(&mut self, count: usize) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        for _ in 0..count {
            let (name, kind, class) = (self.name()?, self.u16()?, self.u16()?);
            let ttl = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
            let length = usize::from(self.u16()?);
            let end = self.at.checked_add(length).filter(|end| *end <= self.packet.len())?;
            let mut data = Vec::new();
            match kind {
                PTR => data.extend(self.name()?.bytes()),
                SRV => {
                    data.extend(self.take(6)?);
                    data.extend(self.name()?.bytes());
                }
                _ => data.extend(self.take(length)?),
            }
            if self.at != end {
                return None;
            }
            // EDNS's OPT and its like have other things there.
            if class & !TOP_BIT == IN {
                records.push(Record { name, kind, unique: class & TOP_BIT != 0, ttl, data });
            }
        }
        Some(records)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_labels(&text.split('.').collect::<Vec<_>>())
    }

    #[test]
    fn what_is_written_is_read() {
        let record =
            Record { name: name("a.local"), kind: A, unique: true, ttl: 120, data: vec![192, 0, 2, 7] };
        let srv = [&[0, 0, 0, 0, 0, 22][..], name("a.local").bytes()].concat();
        let message = Message {
            id: 7,
            response: true,
            questions: vec![Question { name: name("A.LOCAL"), kind: ANY, unicast: true }],
            answers: vec![record.clone()],
            authorities: vec![Record { kind: SRV, data: srv, unique: false, ..record.clone() }],
            additionals: vec![Record { kind: PTR, data: name("b.local").bytes().into(), ..record }],
            ..Message::default()
        };
        let read = Message::parse(&message.encode()).unwrap();
        assert_eq!(read, message);
        assert_eq!(read.questions[0].name, read.answers[0].name);
    }

    #[test]
    fn compressed_names_are_read_and_loops_are_not() {
        // As Avahi has it: a question, and an answer whose name and data point into it.
        let mut packet = vec![0, 0, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        packet.extend(name("_ssh._tcp.local").bytes());
        packet.extend([0, 12, 0, 1]);
        packet.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0x11, 0x94, 0, 4, 1, b'x', 0xc0, 12]);
        let message = Message::parse(&packet).unwrap();
        assert_eq!(message.answers[0].name, name("_ssh._tcp.local"));
        assert_eq!(message.answers[0].data, name("x._ssh._tcp.local").bytes());
        for (at, pointer) in [(packet.len() - 1, packet.len() as u8 - 2), (34, 34)] {
            let mut bad = packet.clone();
            bad[at] = pointer;
            assert_eq!(Message::parse(&bad), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(message) = Message::parse(&bytes) {
                prop_assert_eq!(Message::parse(&Message { truncated: false, ..message.clone() }.encode()), Some(Message { truncated: false, ..message }));
            }
        }

        #[test]
        fn no_body_panics(counts in proptest::array::uniform4(0u8..3), body in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..16, Just(0xc0)], 0..200)) {
            let mut packet = vec![0, 0, 0x84, 0];
            counts.iter().for_each(|count| packet.extend([0, *count]));
            packet.extend(body);
            if let Some(message) = Message::parse(&packet) {
                prop_assert_eq!(Message::parse(&message.encode()), Some(message));
            }
        }
    }
}
