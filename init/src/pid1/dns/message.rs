//! Questions to a name server and its answers (RFC 1035, section 4), as far as addresses are asked for. Answers are outside
//! input.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::name::Name;

/// RFC 1035, section 4.1.1.
const HEADER: usize = 12;
/// No answer that is looked at has more records.
const RECORDS: u16 = 256;
/// No name has more aliases in a row.
const ALIASES: usize = 16;
const CLASS_INTERNET: u16 = 1;
const TYPE_CNAME: u16 = 5;

/// The family that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `A` (RFC 1035, section 3.4.1).
    V4,
    /// `AAAA` (RFC 3596).
    V6,
}

impl Family {
    fn record_type(self) -> u16 {
        match self {
            Family::V4 => 1,
            Family::V6 => 28,
        }
    }
}

/// What one server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    id: u16,
    name: Name,
    family: Family,
}

/// What it says to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The name's addresses; none: it has none of this family.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// There is more than a datagram holds: ask over TCP.
    Truncated,
    /// The server has no answer (RCODE, RFC 1035 section 4.1.1): another may have one.
    Trouble(u8),
}

impl Question {
    /// `None`: the text cannot be a name.
    pub fn new(id: u16, name: &str, family: Family) -> Option<Self> {
        Some(Question { id, name: Name::from_text(name)?, family })
    }

    /// The datagram to send: recursion is desired.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.name.bytes().len() + 4);
        bytes.extend(self.id.to_be_bytes());
        bytes.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend(self.name.bytes());
        bytes.extend(self.family.record_type().to_be_bytes());
        bytes.extend(CLASS_INTERNET.to_be_bytes());
        bytes
    }

    /// Reads an answer. `None`: it is none to this question, or damaged.
    pub fn read(&self, bytes: &[u8]) -> Option<Reply> {
        let flags = u16_at(bytes, 2)?;
        let (is_answer, opcode) = (flags & 0x8000 != 0, flags >> 11 & 0xf);
        if u16_at(bytes, 0)? != self.id || !is_answer || opcode != 0 {
            return None;
        }
        let code = (flags & 0xf) as u8;
        let questions = u16_at(bytes, 4)?;
        let mut at = HEADER;
        match questions {
            // A server that did not understand may leave the question out.
            0 if code != 0 => return Some(Reply::Trouble(code)),
            1 => {}
            _ => return None,
        }
        let (name, after) = Name::read(bytes, at)?;
        let asked = (self.family.record_type(), CLASS_INTERNET);
        if name != self.name || (u16_at(bytes, after)?, u16_at(bytes, after + 2)?) != asked {
            return None;
        }
        at = after + 4;
        match code {
            0 if flags & 0x0200 != 0 => Some(Reply::Truncated),
            0 => self.addresses(bytes, at).map(Reply::Addresses),
            // NXDOMAIN
            3 => Some(Reply::NoSuchName),
            code => Some(Reply::Trouble(code)),
        }
    }

    /// Follows the aliases, and gives what is at their end.
    fn addresses(&self, bytes: &[u8], mut at: usize) -> Option<Vec<IpAddr>> {
        let mut records = Vec::new();
        for _ in 0..u16_at(bytes, 6)?.min(RECORDS) {
            let record = Record::read(bytes, at)?;
            at = record.end;
            records.push(record);
        }
        let mut wanted = &self.name;
        for _ in 0..ALIASES {
            let of_wanted = || records.iter().filter(|record| record.owner == *wanted);
            let found: Vec<IpAddr> = of_wanted().filter_map(|record| record.address(self.family)).collect();
            if !found.is_empty() {
                return Some(found);
            }
            match of_wanted().find_map(|record| record.alias.as_ref()) {
                Some(alias) => wanted = alias,
                None => break,
            }
        }
        Some(Vec::new())
    }
}

/// A resource record (RFC 1035, section 4.1.3).
struct Record<'a> {
    owner: Name,
    kind: u16,
    data: &'a [u8],
    alias: Option<Name>,
    end: usize,
}

impl<'a> Record<'a> {
    fn read(bytes: &'a [u8], at: usize) -> Option<Self> {
        let (owner, at) = Name::read(bytes, at)?;
        let (kind, class) = (u16_at(bytes, at)?, u16_at(bytes, at + 2)?);
        // Behind them: four bytes of lifetime, which nothing here outlives.
        let length = usize::from(u16_at(bytes, at + 8)?);
        let (start, end) = (at + 10, at + 10 + length);
        let data = bytes.get(start..end)?;
        let kind = if class == CLASS_INTERNET { kind } else { 0 };
        let alias = if kind == TYPE_CNAME { Some(Name::read(bytes, start)?.0) } else { None };
        Some(Record { owner, kind, data, alias, end })
    }

    fn address(&self, family: Family) -> Option<IpAddr> {
        if self.kind != family.record_type() {
            return None;
        }
        match family {
            Family::V4 => <[u8; 4]>::try_from(self.data).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
            Family::V6 => <[u8; 16]>::try_from(self.data).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer to `question` with these records: owner (a pointer into the message or a name), type, data.
    fn answer(question: &Question, flags: u16, records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut bytes = question.encode();
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (owner, kind, data) in records {
            bytes.extend(*owner);
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1, 0, 0, 0, 60]);
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(*data);
        }
        bytes
    }

    const OWNER: &[u8] = &[0xc0, 12];

    fn question(name: &str, family: Family) -> Question {
        Question::new(0x1234, name, family).unwrap()
    }

    #[test]
    fn aliases_are_followed() {
        let asked = question("www.Example.org", Family::V4);
        let alias = b"\x03cdn\x07example\x03NET\0";
        let records: [(&[u8], u16, &[u8]); 4] = [
            (b"\x05other\0", 1, &[192, 0, 2, 9]),
            (OWNER, TYPE_CNAME, alias),
            (alias, 1, &[192, 0, 2, 1]),
            (alias, 1, &[192, 0, 2, 2]),
        ];
        let reply = asked.read(&answer(&asked, 0x8180, &records));
        let addresses = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        assert_eq!(reply, Some(Reply::Addresses(addresses.into())));
        // Another family than was asked for, and an alias of itself.
        let asked = question("www.example.org", Family::V6);
        assert_eq!(asked.read(&answer(&asked, 0x8180, &records)), Some(Reply::Addresses(Vec::new())));
        let circle = answer(&asked, 0x8180, &[(OWNER, TYPE_CNAME, OWNER)]);
        assert_eq!(asked.read(&circle), Some(Reply::Addresses(Vec::new())));
    }

    #[test]
    fn what_a_server_says_besides_is_told_apart() {
        let asked = question("a", Family::V6);
        let v6 = "2001:db8::1".parse::<Ipv6Addr>().unwrap();
        for (flags, reply) in [
            (0x8180, Some(Reply::Addresses(vec![v6.into()]))),
            (0x8380, Some(Reply::Truncated)),
            (0x8183, Some(Reply::NoSuchName)),
            (0x8182, Some(Reply::Trouble(2))),
            // A question, and another operation.
            (0x0100, None),
            (0x9180, None),
        ] {
            assert_eq!(asked.read(&answer(&asked, flags, &[(OWNER, 28, &v6.octets())])), reply, "{flags:x}");
        }
        let refused = [0x12, 0x34, 0x81, 0x85, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(asked.read(&refused), Some(Reply::Trouble(5)));
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let asked = question("a", Family::V4);
        let ours = answer(&asked, 0x8180, &[]);
        assert!(asked.read(&ours).is_some());
        for other in [
            Question::new(0x1235, "a", Family::V4).unwrap(),
            question("b", Family::V4),
            question("a", Family::V6),
        ] {
            assert_eq!(other.read(&ours), None);
        }
        assert!((0..ours.len()).all(|cut| asked.read(&ours[..cut]).is_none()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), records in 0_u16..4) {
            let asked = question("a.example", Family::V4);
            let _ = asked.read(&bytes);
            let mut answer = answer(&asked, 0x8180, &[]);
            answer[6..8].copy_from_slice(&records.to_be_bytes());
            answer.extend(&bytes);
            let _ = asked.read(&answer);
        }
    }
}
