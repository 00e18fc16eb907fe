//! What a client asks for, and what it gets: blksize (RFC 2348), tsize and timeout (RFC 2349), windowsize (RFC 7440).

use std::time::Duration;

use super::packet::Packet;

/// Bytes of a block where nothing else was agreed on (RFC 1350).
pub const DEFAULT_BLOCK: u16 = 512;
/// RFC 2348.
const BLOCKS: std::ops::RangeInclusive<u64> = 8..=65464;
/// More blocks than this in one go help nobody: at 1468 bytes it is more than a Gbit/s carries in half a millisecond.
const WIDEST_WINDOW: u64 = 64;
/// Nor do more bytes: a receiver's queue has about 200 KiB, and what does not fit there is lost.
const WINDOW_BYTES: u64 = 128 * 1024;

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Bytes of a block.
    pub block: u16,
    /// Blocks that are sent before an answer is waited for.
    pub window: u16,
    /// How long the client waits before it says something again, if it said so.
    pub timeout: Option<Duration>,
    /// The options of the OACK; none where the client asked for none that is known.
    accepted: Vec<(String, String)>,
}

impl Agreed {
    /// Answers to a request's options for a file of `size` bytes; `largest`: bytes of a block that the path takes in one
    /// piece ([`largest_block`]). An option that is unknown or has a value that it cannot have is left out of the answer
    /// (RFC 2347).
    pub fn on(asked: &[(String, String)], size: u64, largest: u16) -> Self {
        let mut agreed = Self { block: DEFAULT_BLOCK, window: 1, timeout: None, accepted: Vec::new() };
        let value = |name: &str| {
            let (_, value) = asked.iter().find(|(asked, _)| asked == name)?;
            value.parse::<u64>().ok().filter(|_| value.bytes().all(|b| b.is_ascii_digit()))
        };
        if let Some(block) = value("blksize").filter(|n| n >= BLOCKS.start()) {
            agreed.block = u16::try_from(block.min(*BLOCKS.end())).unwrap_or(DEFAULT_BLOCK).min(largest);
        }
        if let Some(window) = value("windowsize").filter(|n| *n >= 1) {
            let most = (WINDOW_BYTES / u64::from(agreed.block)).clamp(1, WIDEST_WINDOW);
            agreed.window = u16::try_from(window.min(most)).unwrap_or(1);
        }
        let timeout = value("timeout").filter(|n| (1..=255).contains(n));
        agreed.timeout = timeout.map(Duration::from_secs);
        for (name, _) in asked {
            let answer = match name.as_str() {
                "blksize" if value(name).is_some_and(|n| n >= *BLOCKS.start()) => u64::from(agreed.block),
                "windowsize" if value(name).is_some_and(|n| n >= 1) => u64::from(agreed.window),
                "timeout" if timeout.is_some() => timeout.unwrap_or_default(),
                "tsize" if value(name).is_some() => size,
                _ => continue,
            };
            if !agreed.accepted.iter().any(|(known, _)| known == name) {
                agreed.accepted.push((name.clone(), answer.to_string()));
            }
        }
        agreed
    }

    /// The OACK, if there has to be one.
    pub fn answer(&self) -> Option<Packet<'static>> {
        (!self.accepted.is_empty()).then(|| Packet::OptionAck(self.accepted.clone()))
    }
}

/// How many bytes of a file one IP packet takes: without the headers of IP, UDP and TFTP. Never less than everybody has to
/// take: [`DEFAULT_BLOCK`].
pub fn largest_block(mtu: u32, ipv6: bool) -> u16 {
    let headers = if ipv6 { 40 + 8 + 4 } else { 20 + 8 + 4 };
    let largest = u64::from(mtu.saturating_sub(headers)).clamp(u64::from(DEFAULT_BLOCK), *BLOCKS.end());
    u16::try_from(largest).unwrap_or(DEFAULT_BLOCK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agree(asked: &[(&str, &str)]) -> (Agreed, Vec<(String, String)>) {
        let asked: Vec<_> =
            asked.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let agreed = Agreed::on(&asked, 5000, 1468);
        let answer = match agreed.answer() {
            Some(Packet::OptionAck(options)) => options,
            _ => Vec::new(),
        };
        (agreed, answer)
    }

    #[test]
    fn a_bootloaders_options() {
        let (agreed, answer) = agree(&[("tsize", "0"), ("blksize", "1024")]);
        assert_eq!((agreed.block, agreed.window, agreed.timeout), (1024, 1, None));
        assert_eq!(answer, [("tsize".into(), "5000".into()), ("blksize".into(), "1024".into())]);
    }

    #[test]
    fn bounds() {
        let block = |asked| agree(&[("blksize", asked)]).0.block;
        assert_eq!(block("8"), 8);
        assert_eq!(block("65464"), 1468);
        assert_eq!(block("99999999999"), 1468);
        let window = |asked| agree(&[("windowsize", asked), ("blksize", "1024")]).0.window;
        assert_eq!(window("1"), 1);
        assert_eq!(window("64"), 64);
        assert_eq!(window("65535"), 64);
        assert_eq!(agree(&[("timeout", "255")]).0.timeout, Some(Duration::from_secs(255)));
        let large = [("blksize".to_owned(), "65464".to_owned()), ("windowsize".to_owned(), "8".to_owned())];
        assert_eq!(Agreed::on(&large, 1, 65464).window, 2);
    }

    #[test]
    fn what_it_cannot_have_is_left_out() {
        for (name, value) in [
            ("blksize", "7"),
            ("blksize", "-1"),
            ("blksize", "+9"),
            ("blksize", "1e3"),
            ("blksize", ""),
            ("windowsize", "0"),
            ("timeout", "0"),
            ("timeout", "256"),
            ("tsize", "x"),
            ("multicast", ""),
        ] {
            let (agreed, answer) = agree(&[(name, value)]);
            assert_eq!(answer, [], "{name} {value}");
            assert_eq!((agreed.block, agreed.window, agreed.timeout), (512, 1, None));
            let (_, answer) = agree(&[(name, value), ("tsize", "0")]);
            assert!(answer.iter().all(|(known, _)| known == "tsize"), "{name} {value}");
        }
        assert_eq!(agree(&[("tsize", "0"), ("tsize", "0")]).1.len(), 1);
    }

    #[test]
    fn blocks_of_paths() {
        assert_eq!(largest_block(1500, false), 1468);
        assert_eq!(largest_block(1500, true), 1448);
        assert_eq!(largest_block(65536, false), 65464);
        assert_eq!(largest_block(0, false), 512);
    }

    proptest! {
        #[test]
        fn never_more_than_was_asked_for(block in 8u64..70000, window in 1u64..70000, largest in 512u16..) {
            let asked = [("blksize".to_owned(), block.to_string()), ("windowsize".to_owned(), window.to_string())];
            let agreed = Agreed::on(&asked, 1, largest);
            prop_assert!(u64::from(agreed.block) <= block && agreed.block <= largest && agreed.block >= 8);
            prop_assert!(u64::from(agreed.window) <= window && agreed.window >= 1);
            prop_assert!(agreed.window == 1 || u64::from(agreed.window) * u64::from(agreed.block) <= WINDOW_BYTES);
        }
    }
}
