//! TFTP's packets (RFC 1350, section 5; RFC 2347), to bytes and back.

use std::fmt;

/// The longest packet of a client that is looked at, in bytes. RFC 2347 gives a request 512; ACK and ERROR are shorter.
pub const LONGEST: usize = 1024;
/// More options in one request are no client's.
const MOST_OPTIONS: usize = 32;

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RRQ: a client wants a file.
    Read(Request),
    /// WRQ: a client wants to write one.
    Write(Request),
    /// A block of a file; the number wraps from 65535 to 0.
    Data {
        /// Its number.
        block: u16,
        /// Its bytes: as many as were agreed on, fewer at the end.
        bytes: &'a [u8],
    },
    /// All blocks up to this one have come.
    Ack(u16),
    /// The transfer is over.
    Error {
        /// Why.
        code: ErrorCode,
        /// Why, in words.
        text: String,
    },
    /// OACK: these options count (RFC 2347).
    OptionAck(Vec<(String, String)>),
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The file's name, as it came.
    pub name: Vec<u8>,
    /// How bytes are to be sent.
    pub mode: Mode,
    /// Options and their values, in the order in which they came; names in lower case.
    pub options: Vec<(String, String)>,
}

/// How bytes are to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// As they are.
    Octet,
    /// As text, its line ends made CR LF.
    Netascii,
    /// Something else.
    Other,
}

/// The code of an ERROR packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// See the words. A Pi's bootloader says so too when it has learnt that a file is there.
    pub const OTHER: Self = Self(0);
    /// File not found.
    pub const NOT_FOUND: Self = Self(1);
    /// Access violation.
    pub const ACCESS: Self = Self(2);
    /// Illegal TFTP operation.
    pub const ILLEGAL: Self = Self(4);
    /// The OACK is not to the client's liking (RFC 2347).
    pub const OPTIONS: Self = Self(8);
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes that are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no TFTP packet")]
pub struct Malformed;

impl<'a> Packet<'a> {
    /// Parses a datagram.
    ///
    /// # Errors
    /// When it is shorter than its kind has to be, or of no kind that is known.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, rest) = number(bytes)?;
        match kind {
            1 => Ok(Self::Read(Request::parse(rest)?)),
            2 => Ok(Self::Write(Request::parse(rest)?)),
            3 => number(rest).map(|(block, bytes)| Self::Data { block, bytes }),
            4 => number(rest).map(|(block, _)| Self::Ack(block)),
            5 => {
                let (code, rest) = number(rest)?;
                // Many leave out the NUL at the end.
                let text = rest.split(|b| *b == 0).next().unwrap_or_default();
                Ok(Self::Error { code: ErrorCode(code), text: printable(text) })
            }
            6 => Ok(Self::OptionAck(options(rest))),
            _ => Err(Malformed),
        }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, mut rest): (u16, Vec<u8>) = match self {
            Self::Read(request) => (1, request.to_bytes()),
            Self::Write(request) => (2, request.to_bytes()),
            Self::Data { block, bytes } => (3, [&block.to_be_bytes()[..], bytes].concat()),
            Self::Ack(block) => (4, block.to_be_bytes().to_vec()),
            Self::Error { code, text } => (5, [&code.0.to_be_bytes()[..], text.as_bytes(), &[0]].concat()),
            Self::OptionAck(options) => (6, options_to_bytes(options)),
        };
        rest.splice(..0, kind.to_be_bytes());
        rest
    }
}

/// What is before the bytes of a block.
pub fn data_header(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

impl Request {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (name, rest) = string(bytes).ok_or(Malformed)?;
        let (mode, rest) = string(rest).ok_or(Malformed)?;
        let mode = match mode.to_ascii_lowercase().as_slice() {
            b"octet" => Mode::Octet,
            b"netascii" => Mode::Netascii,
            _ => Mode::Other,
        };
        Ok(Self { name: name.to_vec(), mode, options: options(rest) })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mode: &[u8] = match self.mode {
            Mode::Octet => b"octet",
            Mode::Netascii => b"netascii",
            Mode::Other => b"mail",
        };
        [&self.name, &[0][..], mode, &[0], &options_to_bytes(&self.options)].concat()
    }
}

/// Pairs of strings. What does not end with a NUL, and what is behind an empty name (some clients fill up with zeros), is no
/// option.
fn options(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while found.len() < MOST_OPTIONS
        && let Some((name, rest)) = string(bytes)
        && !name.is_empty()
        && let Some((value, rest)) = string(rest)
    {
        found.push((printable(name).to_ascii_lowercase(), printable(value)));
        bytes = rest;
    }
    found
}

fn options_to_bytes(options: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in options {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
    }
    bytes
}

fn number(bytes: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (number, rest) = bytes.split_first_chunk::<2>().ok_or(Malformed)?;
    Ok((u16::from_be_bytes(*number), rest))
}

/// Up to the next NUL, and what is behind it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// For the log and for comparisons: ASCII that can be printed, the rest as `?`.
fn printable(bytes: &[u8]) -> String {
    bytes.iter().map(|b| if (b' '..=b'~').contains(b) { char::from(*b) } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bootloaders_request() {
        let bytes = b"\0\x019ffefdef/start4.elf\0octet\0tsize\x000\0blksize\x001468\0";
        let Ok(Packet::Read(request)) = Packet::parse(bytes) else { panic!("no request") };
        assert_eq!(request.name, b"9ffefdef/start4.elf");
        assert_eq!(request.mode, Mode::Octet);
        assert_eq!(request.options, [("tsize".into(), "0".into()), ("blksize".into(), "1468".into())]);
    }

    #[test]
    fn what_is_no_packet() {
        for bytes in [
            &b""[..],
            b"\0",
            b"\0\0",
            b"\0\x07",
            b"\0\x04",
            b"\0\x04\0",
            b"\0\x03\0",
            b"\0\x05\0",
            b"\0\x01",
            b"\0\x01name",
            b"\0\x01name\0octet",
            b"\x01\x01name\0octet\0",
        ] {
            assert_eq!(Packet::parse(bytes), Err(Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn half_options_are_none() {
        for (end, count) in [
            (&b""[..], 0),
            (b"blksize", 0),
            (b"blksize\0", 0),
            (b"blksize\x001", 0),
            (b"BLKSIZE\x001\0tsize\0", 1),
            (b"\0\0\0\0", 0),
        ] {
            let bytes = [b"\0\x01f\0OCTET\0", end].concat();
            let Ok(Packet::Read(request)) = Packet::parse(&bytes) else { panic!("{bytes:?}") };
            assert_eq!(request.options.len(), count, "{bytes:?}");
            assert!(request.options.iter().all(|(name, _)| name == "blksize"));
        }
        let many = [b"\0\x01f\0octet\0".to_vec(), b"a\0b\0".repeat(200)].concat();
        let Ok(Packet::Read(request)) = Packet::parse(&many) else { panic!("no request") };
        assert_eq!(request.options.len(), MOST_OPTIONS);
    }

    #[test]
    fn errors_with_and_without_an_end() {
        for bytes in [&b"\0\x05\0\0Early terminate\0"[..], b"\0\x05\0\0Early terminate"] {
            let error = Packet::Error { code: ErrorCode::OTHER, text: "Early terminate".into() };
            assert_eq!(Packet::parse(bytes), Ok(error));
        }
        let Ok(Packet::Error { text, .. }) = Packet::parse(b"\0\x05\0\x09\x1b[2J\n\0") else {
            panic!("none")
        };
        assert_eq!(text, "?[2J?");
    }

    fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        prop::collection::vec(("[a-z]{1,9}", "[ -~]{0,9}"), 0..9)
    }

    fn packets() -> impl Strategy<Value = Packet<'static>> {
        let mode = prop_oneof![Just(Mode::Octet), Just(Mode::Netascii), Just(Mode::Other)];
        let request = (prop::collection::vec(1u8.., 0..40), mode, pairs());
        let request = request.prop_map(|(name, mode, options)| Request { name, mode, options }).boxed();
        prop_oneof![
            request.clone().prop_map(Packet::Read),
            request.prop_map(Packet::Write),
            any::<u16>().prop_map(|block| Packet::Data { block, bytes: b"some bytes" }),
            any::<u16>().prop_map(Packet::Ack),
            (any::<u16>(), "[ -~]{0,40}")
                .prop_map(|(code, text)| Packet::Error { code: ErrorCode(code), text }),
            pairs().prop_map(Packet::OptionAck),
        ]
    }

    proptest! {
        #[test]
        fn packets_survive(packet in packets()) {
            let bytes = packet.to_bytes();
            prop_assert_eq!(Packet::parse(&bytes), Ok(packet.clone()));
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(prop_oneof![Just(0u8), 0u8..8, any::<u8>()], 0..80)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                let again = packet.to_bytes();
                prop_assert_eq!(Packet::parse(&again), Ok(packet.clone()));
            }
        }
    }
}
