//! What tells one Pi from another.

use std::fmt;
use std::str::FromStr;

/// A Pi's serial number, as far as all stages of a boot know it: its low 32 bits. A bootloader asks TFTP for `9ffefdef/`, and has
/// those 32 bits in DHCP's option 97; `init` has 64 bits, of which the upper ones are the same for all boards of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PiSerial(pub u32);

impl FromStr for PiSerial {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no serial number: 8 or 16 hexadecimal digits, as in /proc/cpuinfo");
        if !matches!(text.len(), 8 | 16) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let low = text.get(text.len() - 8..).ok_or_else(wrong)?;
        u32::from_str_radix(low, 16).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for PiSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no Ethernet address, like dc:a6:32:01:36:c2");
        let mut mac = [0; 6];
        let mut pairs = text.split([':', '-']);
        for byte in &mut mac {
            let is_pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
            let pair = pairs.next().filter(is_pair).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        if pairs.next().is_some() || mac == [0; 6] || mac.first().is_some_and(|first| first & 1 == 1) {
            return Err(wrong());
        }
        Ok(Self(mac))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials() {
        assert_eq!("10000000abcdef01".parse(), Ok(PiSerial(0xabcd_ef01)));
        assert_eq!("ABCDEF01".parse(), Ok(PiSerial(0xabcd_ef01)));
        assert_eq!(PiSerial(0x1f).to_string(), "0000001f");
        for wrong in ["", "abcdef0", "abcdefg1", "0x123456", "10000000abcdef0", "+bcdef01", "äbcdef0"] {
            assert!(wrong.parse::<PiSerial>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!("DC-A6-32-01-36-c2".parse::<Mac>().unwrap().to_string(), "dc:a6:32:01:36:c2");
        for wrong in [
            "",
            "dc:a6:32:01:36",
            "dc:a6:32:01:36:c2:00",
            "dc:a6:32:1:36:c2",
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
            "+c:a6:32:01:36:c2",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }
}
