//! An Ethernet address.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// An Ethernet (MAC) address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// Text that is no Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an Ethernet address like dc:a6:32:01:36:c2")]
pub struct BadMac;

impl FromStr for Mac {
    type Err = BadMac;

    /// Six pairs of hexadecimal digits with `:` or `-` between them.
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or(BadMac)?;
        }
        // Multicast addresses, and none at all, are nobody's.
        let is_a_hosts = bytes != [0; 6] && bytes[0] & 1 == 0;
        if parts.next().is_none() && is_a_hosts { Ok(Self(bytes)) } else { Err(BadMac) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Mac {
    /// As TFTP's prefix has it (`TFTP_PREFIX=2`), without the slash: `dc-a6-32-01-36-c2`.
    pub fn prefix(self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mac = Mac([0xdc, 0xa6, 0x32, 0x01, 0x36, 0xc2]);
        assert_eq!(mac.to_string(), "dc:a6:32:01:36:c2");
        for good in ["dc:a6:32:01:36:c2", "DC-A6-32-01-36-C2"] {
            assert_eq!(good.parse(), Ok(mac));
        }
        assert_eq!(mac.prefix(), "dc-a6-32-01-36-c2");
        for bad in [
            "",
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
            "dca6320136c2",
            "dc:a6:32:01:36",
            "dc:a6:32:01:36:c2:00",
            "dc:a6:32:01:36:+2",
            "5b154510",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(BadMac), "{bad}");
        }
    }
}
