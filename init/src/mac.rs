//! An Ethernet address.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Text that is no interface's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no MAC address of an interface, like dc:a6:32:01:36:c2")]
pub struct BadMac(String);

impl From<BadMac> for String {
    fn from(bad: BadMac) -> Self {
        bad.to_string()
    }
}

impl Mac {
    /// Six bytes in hexadecimal, one or two digits each, with `separator` between them.
    ///
    /// # Errors
    /// For other text, a group's address, and no address at all: those belong to no interface.
    pub fn parse(text: &str, separator: char) -> Result<Self, BadMac> {
        let bytes: Option<Vec<u8>> = text
            .split(separator)
            .map(|part| {
                let good = (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
                u8::from_str_radix(part, 16).ok().filter(|_| good)
            })
            .collect();
        let mac = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()).map(Mac);
        mac.filter(|mac| mac.is_one_host()).ok_or_else(|| BadMac(text.into()))
    }

    /// Not a group of hosts, and not "none".
    pub fn is_one_host(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 0 && self.0 != [0; 6]
    }

    /// As names of files have it (a bootloader's `TFTP_PREFIX=2`): `dc-a6-32-01-36-c2`.
    pub fn hyphenated(self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    /// With `:` or `-` between the bytes, each of which has both digits.
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let mac = Self::parse(text, if text.contains('-') { '-' } else { ':' })?;
        if text.len() == mac.to_string().len() { Ok(mac) } else { Err(BadMac(text.into())) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
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
        assert_eq!(mac.hyphenated(), "dc-a6-32-01-36-c2");
        assert_eq!(Mac::parse("dc:a6:32:1:36:c2", ':'), Ok(mac));
        for bad in [
            "",
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
            "dca6320136c2",
            "dc:a6:32:01:36",
            "dc:a6:32:01:36:c2:00",
            "dc:a6:32:01:36-c2",
            "dc:a6:32:01:36:+2",
            "dc:a6:32:01:36:0c2",
            "dc:a6:32:1:36:c2",
            "5b154510",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(BadMac(bad.into())));
        }
    }
}
