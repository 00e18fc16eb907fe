//! One record of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg): `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];MESSAGE`,
//! then lines with a blank in front that say which device it is about.

use serde::Serialize;

/// The version of a record's JSON.
pub const RECORD_FORMAT: u32 = 1;
/// The kernel's own facility, figure 0; what programs write to `/dev/kmsg` has another.
const KERNEL: &str = "kern";
/// The names of syslog(3), by their figures.
const FACILITIES: [&str; 12] =
    [KERNEL, "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];

/// How bad it is: the words of dmesg(1), the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The system cannot be used.
    Emerg,
    /// Something must be done at once.
    Alert,
    /// A grave failure.
    Crit,
    /// A failure.
    Err,
    /// Something that may become one.
    Warn,
    /// Worth knowing.
    Notice,
    /// The ordinary.
    Info,
    /// For who looks for a fault in the code.
    Debug,
}

impl Level {
    /// All of them, by their figures.
    pub const ALL: [Level; 8] = [
        Level::Emerg,
        Level::Alert,
        Level::Crit,
        Level::Err,
        Level::Warn,
        Level::Notice,
        Level::Info,
        Level::Debug,
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Level::Emerg => "emerg",
            Level::Alert => "alert",
            Level::Crit => "crit",
            Level::Err => "err",
            Level::Warn => "warn",
            Level::Notice => "notice",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Level::ALL.into_iter().find(|level| level.name() == text);
        known.ok_or_else(|| {
            format!("there is no level {text:?}; there are {}", Level::ALL.map(Level::name).join(", "))
        })
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The version of this format: [`RECORD_FORMAT`].
    pub format: u32,
    /// Its number; a gap means that the kernel had no room for those between.
    pub sequence: u64,
    /// Microseconds since the kernel's start.
    pub time_us: u64,
    /// How bad it is.
    pub level: Level,
    /// syslog's word for where it comes from: `kern`, and `user` for programs.
    pub facility: &'static str,
    /// The program, where the message begins with its name and a colon; not for the kernel's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The device that it is about, as the kernel names it: `b8:0`, `c189:1`, `n2`, `+usb:1-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The message, in one piece and without control characters.
    pub message: String,
}

impl Record {
    /// Whether it is the kernel's own, and not PID 1's or another program's.
    pub fn is_kernel(&self) -> bool {
        self.facility == KERNEL
    }

    /// Reads the lines of one record. None: they are none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (head, message) = lines.next()?.split_once(';')?;
        let mut fields = head.split(',');
        let priority: u32 = fields.next()?.parse().ok()?;
        let sequence = fields.next()?.parse().ok()?;
        let time_us = fields.next()?.parse().ok()?;
        let message = unescape(message);
        let facility = FACILITIES.get(priority as usize >> 3).copied().unwrap_or("local");
        Some(Record {
            format: RECORD_FORMAT,
            sequence,
            time_us,
            level: Level::ALL.get(priority as usize & 7).copied()?,
            facility,
            program: (facility != KERNEL).then(|| program(&message)).flatten(),
            device: lines.find_map(|line| line.strip_prefix(" DEVICE=").map(unescape)),
            message,
        })
    }
}

fn program(message: &str) -> Option<String> {
    let (name, _) = message.split_once(": ")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.[]".contains(c);
    (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_string())
}

/// The kernel writes bytes that are no printable ASCII as `\x` and two hexadecimal digits. What is a control character
/// then becomes a blank: some of it comes from disks and USB devices.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'\\', b'x', high, low, ..] => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { rest.get(4..).unwrap_or_default() } else { after };
    }
    let text = String::from_utf8_lossy(&bytes);
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn digit(byte: u8) -> Option<u8> {
    u8::try_from(char::from(byte).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_and_a_programs_records() {
        let text =
            "4,339,5140900,-;sda: unable to read\\x0a partition \\xc3\\xa4\n SUBSYSTEM=block\n DEVICE=b8:0\n";
        let record = Record::parse(text).unwrap();
        assert_eq!((record.sequence, record.time_us, record.level), (339, 5_140_900, Level::Warn));
        assert_eq!(record.message, "sda: unable to read  partition ä");
        assert!(record.is_kernel() && record.program.is_none());
        assert_eq!(record.device.as_deref(), Some("b8:0"));
        let record = Record::parse("13,340,6000000,-,caller=T1;lifeboat: 1/6 console: done, 3 ms").unwrap();
        assert_eq!((record.facility, record.program.as_deref()), ("user", Some("lifeboat")));
        assert_eq!(record.level, Level::Notice);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bad in ["", "hello", "6,1;x", "a,1,2,-;x", "6,1,x,-;y", "99999999999,1,2,-;x"] {
            assert_eq!(Record::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived_without_control_characters(text in "(?s)[0-9]{1,3},[0-9]{1,9},[0-9]{1,9},-;.{0,200}") {
            let record = Record::parse(&text).unwrap();
            prop_assert!(!record.message.contains(char::is_control));
        }
    }
}
