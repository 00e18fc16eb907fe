//! Amounts of memory as people write them: `512M`, `2G`, `50%`.

use std::fmt;
use std::str::FromStr;

/// An amount of memory: bytes, or a share of the machine's RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many bytes.
    Bytes(u64),
    /// So many percent (1 to 100) of the RAM that the kernel manages (`MemTotal`).
    Percent(u8),
}

/// What is wrong with a size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a size is a number with K, M or G (powers of 1024) behind it, or 1% to 100% of the RAM")]
pub struct SizeError;

impl Size {
    /// The bytes this is on a machine with `total` bytes of RAM.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Size::Bytes(bytes) => bytes,
            Size::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        if let Some(number) = text.strip_suffix('%') {
            return match number.parse() {
                Ok(percent @ 1..=100) => Ok(Size::Percent(percent)),
                _ => Err(SizeError),
            };
        }
        let (number, shift) = match text.char_indices().next_back() {
            Some((at, 'k' | 'K')) => (text.get(..at), 10),
            Some((at, 'm' | 'M')) => (text.get(..at), 20),
            Some((at, 'g' | 'G')) => (text.get(..at), 30),
            _ => (Some(text), 0),
        };
        let number =
            number.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())).ok_or(SizeError)?;
        let number: u64 = number.parse().map_err(|_| SizeError)?;
        number.checked_mul(1 << shift).map(Size::Bytes).ok_or(SizeError)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Bytes(bytes) => write!(f, "{}", human(*bytes)),
            Size::Percent(percent) => write!(f, "{percent}% of RAM"),
        }
    }
}

/// Bytes for people: `79.1 MiB`. Powers of 1024, one digit behind the point.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    if value < 1.0 {
        return format!("{bytes} B");
    }
    let mut unit = "KiB";
    for next in UNITS.into_iter().skip(1) {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_as_documented() {
        assert_eq!("512M".parse(), Ok(Size::Bytes(512 << 20)));
        assert_eq!("2g".parse(), Ok(Size::Bytes(2 << 30)));
        assert_eq!("4096".parse(), Ok(Size::Bytes(4096)));
        assert_eq!("50%".parse(), Ok(Size::Percent(50)));
        for bad in
            ["", "M", "-1M", "+1M", "0%", "101%", "1.5G", "99999999999999999999", "17179869184G", "1 M"]
        {
            assert_eq!(bad.parse::<Size>(), Err(SizeError), "{bad:?}");
        }
    }

    #[test]
    fn bytes_read_well() {
        assert_eq!(human(17), "17 B");
        assert_eq!(human(1024), "1.0 KiB");
        assert_eq!(human(79_097_856), "75.4 MiB");
        assert_eq!(human(3 << 40), "3.0 TiB");
    }
}
