//! What we have to say on one interface: the host's addresses, and the service that a person looks for (RFC 6763).

use std::net::IpAddr;

use super::message::{A, AAAA, ANY, NSEC, PTR, Question, Record, SRV, TXT};
use crate::pid1::dns::name::Name;

/// RFC 6762 section 10: what depends on the host's name or address, and the rest.
const HOST_TTL: u32 = 120;
const OTHER_TTL: u32 = 4500;
/// The service's port.
const SSH: u16 = 22;
/// What a client may fill in by itself: `u`, the user (the register of service names has this key for `_ssh._tcp`).
const WORDS: &[u8] = b"u=root";
/// No more addresses of an interface are told: each makes the packets longer.
const ADDRESSES: usize = 16;

/// The records of an interface.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    host: Name,
    instance: Name,
    service: Name,
    /// Those to announce first, then those that say what there is not.
    all: Vec<Record>,
}

impl Records {
    /// Of a host with this label and these addresses.
    pub fn new(label: &str, addresses: &[IpAddr]) -> Self {
        let host = Name::from_labels(&[label, "local"]);
        let instance = Name::from_labels(&[label, "_ssh", "_tcp", "local"]);
        let service = Name::from_labels(&["_ssh", "_tcp", "local"]);
        let unique =
            |name: &Name, kind, ttl, data| Record { name: name.clone(), kind, unique: true, ttl, data };
        let mut all: Vec<Record> = Vec::new();
        for address in addresses.iter().take(ADDRESSES) {
            all.push(match address {
                IpAddr::V4(address) => unique(&host, A, HOST_TTL, address.octets().into()),
                IpAddr::V6(address) => unique(&host, AAAA, HOST_TTL, address.octets().into()),
            });
        }
        let place = [&[0, 0, 0, 0], &SSH.to_be_bytes()[..], host.bytes()].concat();
        all.push(unique(&instance, SRV, HOST_TTL, place));
        all.push(unique(&instance, TXT, OTHER_TTL, [&[WORDS.len() as u8], WORDS].concat()));
        let pointer = |name: Name, to: &Name| Record {
            name,
            kind: PTR,
            unique: false,
            ttl: OTHER_TTL,
            data: to.bytes().into(),
        };
        all.push(pointer(service.clone(), &instance));
        all.push(pointer(Name::from_labels(&["_services", "_dns-sd", "_udp", "local"]), &service));
        for name in [&host, &instance] {
            let kinds: Vec<u16> = all.iter().filter(|one| one.name == *name).map(|one| one.kind).collect();
            all.push(unique(name, NSEC, HOST_TTL, [name.bytes(), &bitmap(&kinds)].concat()));
        }
        Records { host, instance, service, all }
    }

    /// The record of this number.
    pub fn get(&self, number: usize) -> Option<&Record> {
        self.all.get(number)
    }

    /// The numbers of those that are announced.
    pub fn announced(&self) -> impl Iterator<Item = usize> {
        self.all.iter().enumerate().filter(|(_, record)| record.kind != NSEC).map(|(number, _)| number)
    }

    /// Those that nobody else may have.
    pub fn unique(&self) -> impl Iterator<Item = &Record> {
        self.all.iter().filter(|record| record.unique && record.kind != NSEC)
    }

    /// Those that are nobody else's: that there is the service at all is said by others as well.
    pub fn ours(&self) -> impl Iterator<Item = &Record> {
        self.all.iter().filter(|one| (one.unique && one.kind != NSEC) || one.name == self.service)
    }

    /// What a probe asks for.
    pub fn questions(&self) -> Vec<Question> {
        let question = |name: &Name| Question { name: name.clone(), kind: ANY, unicast: false };
        vec![question(&self.host), question(&self.instance)]
    }

    /// Whether nobody else may have this name.
    pub fn is_ours(&self, name: &Name) -> bool {
        *name == self.host || *name == self.instance
    }

    /// Whether one of ours says the same.
    pub fn says(&self, record: &Record) -> bool {
        self.all.iter().any(|ours| ours.says_the_same(record))
    }

    /// Whether we have a unique record of this name and type.
    pub fn has(&self, name: &Name, kind: u16) -> bool {
        self.unique().any(|record| record.kind == kind && record.name == *name)
    }

    /// The numbers of the records that answer. A type that a name of ours has not is answered by saying so (RFC 6762
    /// section 6.1): who asks need not wait.
    pub fn answer(&self, question: &Question) -> Vec<usize> {
        let numbers = |wanted: &dyn Fn(&Record) -> bool| {
            let fitting =
                self.all.iter().enumerate().filter(|(_, one)| one.name == question.name && wanted(one));
            fitting.map(|(number, _)| number).collect::<Vec<_>>()
        };
        let there = numbers(&|one| one.kind == question.kind || question.kind == ANY && one.kind != NSEC);
        if there.is_empty() { numbers(&|one| one.kind == NSEC) } else { there }
    }

    /// The numbers of those that will be asked for next (RFC 6763 section 12).
    pub fn further(&self, answers: &[usize]) -> Vec<usize> {
        let given =
            |wanted: &dyn Fn(&Record) -> bool| answers.iter().filter_map(|n| self.get(*n)).any(wanted);
        let whole = given(&|one| one.kind == SRV || one.name == self.service);
        let host = whole || given(&|one| one.name == self.host && one.kind != NSEC);
        let all = self.all.iter().enumerate().filter(|(number, _)| !answers.contains(number));
        let wanted = |one: &Record| (whole && one.name == self.instance) || (host && one.name == self.host);
        all.filter(|(_, one)| one.kind != NSEC && wanted(one)).map(|(number, _)| number).collect()
    }

    /// Whether ours are before theirs in the order of RFC 6762 section 8.2, so that we give way.
    pub fn give_way_to(&self, theirs: &[Record]) -> bool {
        [&self.host, &self.instance]
            .into_iter()
            .any(|name| theirs.iter().any(|one| one.name == *name) && self.is_before(theirs, name))
    }

    /// Compares in that order without sorting: the next of each in turn.
    fn is_before(&self, theirs: &[Record], name: &Name) -> bool {
        let mut last = None;
        loop {
            let ours = next_above(&mut self.unique().filter(|one| one.name == *name), last);
            let theirs = next_above(&mut theirs.iter().filter(|one| one.name == *name), last);
            match (ours, theirs) {
                (Some(ours), Some(theirs)) if ours == theirs => last = Some(ours),
                (Some(ours), Some(theirs)) => return ours < theirs,
                (ours, theirs) => return ours.is_none() && theirs.is_some(),
            }
        }
    }
}

/// The smallest type and data above `last`.
fn next_above<'a>(
    records: &mut dyn Iterator<Item = &'a Record>,
    last: Option<(u16, &[u8])>,
) -> Option<(u16, &'a [u8])> {
    let mut found: Option<(u16, &[u8])> = None;
    for record in records {
        let this = (record.kind, record.data.as_slice());
        if last.is_none_or(|last| this > last) && found.is_none_or(|found| this < found) {
            found = Some(this);
        }
    }
    found
}

/// The types of NSEC (RFC 4034 section 4.1.2): all of ours are in the first window.
fn bitmap(kinds: &[u16]) -> Vec<u8> {
    let mut bits: Vec<u8> = Vec::new();
    for kind in kinds {
        let byte = usize::from(kind / 8);
        if bits.len() <= byte {
            bits.resize(byte + 1, 0);
        }
        if let Some(bits) = bits.get_mut(byte) {
            *bits |= 0x80 >> (kind % 8);
        }
    }
    if bits.is_empty() { bits } else { [&[0, bits.len() as u8], &bits[..]].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Records {
        Records::new("cm4", &["192.0.2.7".parse().unwrap(), "fe80::7".parse().unwrap()])
    }

    fn kinds(records: &Records, numbers: &[usize]) -> Vec<u16> {
        numbers.iter().map(|number| records.get(*number).unwrap().kind).collect()
    }

    fn ask(labels: &[&str], kind: u16) -> (Vec<u16>, Vec<u16>) {
        let records = records();
        let question = Question { name: Name::from_labels(labels), kind, unicast: false };
        let answers = records.answer(&question);
        (kinds(&records, &answers), kinds(&records, &records.further(&answers)))
    }

    #[test]
    fn each_question_has_its_answer() {
        assert_eq!(ask(&["CM4", "local"], A), (vec![A], vec![AAAA]));
        assert_eq!(ask(&["cm4", "local"], ANY), (vec![A, AAAA], vec![]));
        assert_eq!(ask(&["cm4", "local"], TXT), (vec![NSEC], vec![]));
        assert_eq!(ask(&["_ssh", "_tcp", "local"], PTR), (vec![PTR], vec![A, AAAA, SRV, TXT]));
        assert_eq!(ask(&["cm4", "_ssh", "_tcp", "local"], SRV), (vec![SRV], vec![A, AAAA, TXT]));
        assert_eq!(ask(&["_services", "_dns-sd", "_udp", "local"], PTR), (vec![PTR], vec![]));
        for other in [&["cm5", "local"][..], &["_http", "_tcp", "local"], &["local"], &[]] {
            assert_eq!(ask(other, ANY), (vec![], vec![]), "{other:?}");
        }
    }

    #[test]
    fn what_a_name_has_not_is_told_in_bits() {
        assert_eq!(bitmap(&[A, AAAA]), [0, 4, 0x40, 0, 0, 0x08]);
        assert_eq!(bitmap(&[SRV, TXT]), [0, 5, 0, 0, 0x80, 0, 0x40]);
        assert!(bitmap(&[]).is_empty());
    }

    #[test]
    fn the_larger_of_two_probes_has_its_way() {
        let theirs = |address: &str| {
            Records::new("cm4", &[address.parse().unwrap()]).unique().take(1).cloned().collect::<Vec<_>>()
        };
        let ours = Records::new("cm4", &["192.0.2.7".parse().unwrap()]);
        assert!(ours.give_way_to(&theirs("192.0.2.200")));
        assert!(!ours.give_way_to(&theirs("192.0.2.6")));
        assert!(!ours.give_way_to(&theirs("192.0.2.7")));
        assert!(!ours.give_way_to(&[]));
    }
}
