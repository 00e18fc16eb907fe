//! A record of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg) as a message of syslog (RFC 5424).
//!
//! A Pi has no clock that is right, so that a message has no time of its own but that of the machine, `sysUpTime`; who
//! receives it adds the day. Its number says what was lost, and what came twice.

/// RFC 5424 section 6: each field's limit.
const APP_NAME: usize = 48;
/// The kernel writes no longer line.
const TEXT: usize = 2048;
/// The largest number of RFC 5424 section 7.3.1; then it begins anew.
const SEQUENCE: u64 = 2_147_483_647;
/// The facility of syslog itself, and of a warning.
const OWN_PRIORITY: u32 = 5 << 3 | 4;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Facility and level.
    priority: u32,
    /// Its number.
    pub sequence: u64,
    /// Microseconds since the kernel's start.
    time_us: u64,
    text: &'a str,
}

impl<'a> Record<'a> {
    /// Reads what one `read` of `/dev/kmsg` gives: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT`, then lines about the
    /// device, which are left out. `None`: it is none.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        // What is no printable ASCII the kernel has written as \xNN.
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, text) = text.lines().next()?.split_once(';')?;
        let mut fields = head.split(',');
        let priority = fields.next()?.parse().ok().filter(|priority| *priority <= 191)?;
        let (sequence, time_us) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let end = text.floor_char_boundary(TEXT);
        Some(Record { priority, sequence, time_us, text: text.get(..end)? })
    }

    /// As a message of the host `host`.
    pub fn message(&self, host: &str) -> String {
        // What programs write begins with their names.
        let is_kernel = self.priority >> 3 == 0;
        let named = self.text.split_once(": ").filter(|(name, _)| !is_kernel && is_app_name(name));
        let (name, text) = named.unwrap_or((if is_kernel { "kernel" } else { "-" }, self.text));
        let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!(
            "<{}>1 - {host} {name} - - [meta sequenceId=\"{}\" sysUpTime=\"{}\"] {clean}",
            self.priority,
            self.sequence % SEQUENCE + 1,
            self.time_us / 10_000
        )
    }
}

/// What is said where records are missing.
pub fn lost(count: u64, host: &str) -> String {
    format!(
        "<{OWN_PRIORITY}>1 - {host} lifeboat-log - - - {count} records of the kernel's log were lost here"
    )
}

/// RFC 5424's HOSTNAME: printable, without blanks.
pub fn host_name(text: &str) -> String {
    let name: String = text.chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".into() } else { name }
}

fn is_app_name(name: &str) -> bool {
    (1..=APP_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(text: &str) -> String {
        Record::parse(text.as_bytes()).unwrap().message("cm4-7")
    }

    #[test]
    fn priority_facility_number_and_time_are_kept() {
        assert_eq!(
            message("4,339,5140900,-;sda: unable to read\n SUBSYSTEM=block\n DEVICE=b8:0\n"),
            "<4>1 - cm4-7 kernel - - [meta sequenceId=\"340\" sysUpTime=\"514\"] sda: unable to read"
        );
        assert_eq!(
            message("13,0,6000000,-,caller=T1;lifeboat: 1/6 console: done, 3 ms\n"),
            "<13>1 - cm4-7 lifeboat - - [meta sequenceId=\"1\" sysUpTime=\"600\"] 1/6 console: done, 3 ms"
        );
        assert!(message("14,1,1,-;no name at all").contains(" cm4-7 - - - ["));
        assert!(message("14,1,1,-;two words: x").ends_with("] two words: x"));
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bad in ["", "hello", "6,1;x", "a,1,2,-;x", "192,1,2,-;x", "6,1,x,-;y"] {
            assert_eq!(Record::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Record::parse(b"6,1,2,-;\xff"), None);
    }

    proptest! {
        #[test]
        fn any_record_is_one_line(text in "(?s)[0-9]{1,3},[0-9]{1,9},[0-9]{1,9},-;.{0,200}", host in ".{0,300}") {
            if let Some(record) = Record::parse(text.as_bytes()) {
                let message = record.message(&host_name(&host));
                prop_assert!(!message.contains(char::is_control));
                prop_assert_eq!(message.split(' ').nth(1), Some("-"));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            Record::parse(&bytes);
        }
    }
}
