//! A domain name as DNS and mDNS have it on the wire (RFC 1035, sections 3.1 and 4.1.4). Packets are outside input.

/// A name's bytes, with the zero at its end (RFC 1035, section 2.3.4).
pub const NAME_LIMIT: usize = 255;
const LABEL_LIMIT: usize = 63;

/// A name without compression: labels with their length before them, a zero at the end.
/// Upper and lower case are the same: no length byte is a letter, so that the bytes are compared as one.
#[derive(Clone, Debug, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// From a host's name, with or without the dot at its end. `None`: the text cannot be a name.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut bytes = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            let is_label = (1..=LABEL_LIMIT).contains(&label.len());
            bytes.push(u8::try_from(label.len()).ok().filter(|_| is_label)?);
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        (bytes.len() <= NAME_LIMIT).then_some(Name(bytes))
    }

    /// From its labels, which are cut to their limit; a name that gets too long loses its last labels.
    pub fn from_labels<L: AsRef<[u8]>>(labels: &[L]) -> Self {
        let mut bytes = Vec::new();
        for label in labels {
            let label = label.as_ref();
            let label = label.get(..LABEL_LIMIT).unwrap_or(label);
            if label.is_empty() || bytes.len() + label.len() + 2 > NAME_LIMIT {
                break;
            }
            bytes.push(label.len() as u8);
            bytes.extend(label);
        }
        bytes.push(0);
        Name(bytes)
    }

    /// Reads the name at `start` of a packet, which may end with a pointer to an earlier place, and gives where the packet goes
    /// on behind it. `None`: there is no whole name, or none that ends.
    pub fn read(packet: &[u8], start: usize) -> Option<(Self, usize)> {
        let mut bytes = Vec::new();
        // Each pointer leads further back than the last (`before`): there is an end.
        let (mut at, mut before, mut behind) = (start, start, None);
        loop {
            let length = usize::from(*packet.get(at)?);
            match length {
                0 => break,
                1..=LABEL_LIMIT => {
                    let label = packet.get(at..at + 1 + length)?;
                    if bytes.len() + label.len() >= NAME_LIMIT {
                        return None;
                    }
                    bytes.extend(label);
                    at += label.len();
                }
                0xc0.. => {
                    let target = (length & 0x3f) << 8 | usize::from(*packet.get(at + 1)?);
                    behind.get_or_insert(at + 2);
                    if target >= before {
                        return None;
                    }
                    (at, before) = (target, target);
                }
                _ => return None,
            }
        }
        bytes.push(0);
        Some((Name(bytes), behind.unwrap_or(at + 1)))
    }

    /// Its labels with dots between them, none at the end. `None`: it is no text.
    pub fn text(&self) -> Option<String> {
        let (mut labels, mut rest) = (Vec::new(), self.bytes());
        while let Some((length @ 1.., behind)) = rest.split_first() {
            let (label, next) = behind.split_at_checked(usize::from(*length))?;
            labels.push(std::str::from_utf8(label).ok()?);
            rest = next;
        }
        Some(labels.join("."))
    }

    /// Its bytes on the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_have_limits() {
        for bad in ["", ".", "a..b", &"a".repeat(64), &["a".repeat(63).as_str(); 4].join(".")] {
            assert_eq!(Name::from_text(bad), None, "{bad:?}");
        }
        assert_eq!(Name::from_text("a.b."), Name::from_text("A.B"));
        assert_eq!(Name::from_text("a.Bc.").unwrap().text().as_deref(), Some("a.Bc"));
        let labels = |text: &str| Name::from_labels(&text.split('.').collect::<Vec<_>>());
        assert_eq!(labels(&"x".repeat(70)).bytes().len(), 65);
        assert!(labels(&vec!["y".repeat(63); 5].join(".")).bytes().len() <= NAME_LIMIT);
    }

    #[test]
    fn a_pointer_leads_back_and_never_round() {
        let packet = b"\x03net\0\x01A\xc0\0\xc0\x05\xc0\x0b\x40";
        let read = |at| Name::read(packet, at).map(|(name, end)| (name.bytes().to_vec(), end));
        assert_eq!(read(0), Some((b"\x03net\0".into(), 5)));
        assert_eq!(read(5), Some((b"\x01A\x03net\0".into(), 9)));
        assert_eq!(read(9), Some((b"\x01A\x03net\0".into(), 11)));
        // To itself; of a kind that nobody uses; from behind the end.
        assert_eq!((read(11), read(13), read(99)), (None, None, None));
        // Five labels of 63 bytes are no name.
        assert_eq!(Name::read(&[&[63; 64][..]; 5].concat(), 0), None);
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_within_the_limit(
            packet in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..16, Just(0xc0)], 0..300),
            at in 0_usize..300,
        ) {
            if let Some((name, end)) = Name::read(&packet, at) {
                prop_assert!(name.bytes().len() <= NAME_LIMIT && end <= packet.len());
                prop_assert_eq!(Name::read(name.bytes(), 0), Some((name.clone(), name.bytes().len())));
            }
        }
    }
}
