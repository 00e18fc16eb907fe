//! The parts of a disk that could not be read.

use init::size::human;
use serde::Serialize;

/// So many are told one by one.
const TOLD: usize = 20;

/// Parts of a disk, in their order, none touching another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ranges(Vec<Range>);

/// A part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    /// Its first byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

impl Ranges {
    /// Adds what is behind all others, or touches the last one.
    pub fn add(&mut self, start: u64, length: u64) {
        match self.0.last_mut() {
            Some(last) if last.start.saturating_add(last.length) == start => last.length += length,
            _ if length == 0 => {}
            _ => self.0.push(Range { start, length }),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, range| sum.saturating_add(range.length))
    }

    /// One line each, of a disk with such sectors.
    pub fn text(&self, sector: u32) -> String {
        let mut text = format!("{} could not be read, in {} places:\n", human(self.bytes()), self.0.len());
        for Range { start, length } in self.0.iter().take(TOLD) {
            let sector = u64::from(sector.max(1));
            text += &format!(
                "  bytes {start} to {} ({} sectors from {})\n",
                start + length - 1,
                length.div_ceil(sector),
                start / sector
            );
        }
        if self.0.len() > TOLD {
            text += &format!("  and {} more\n", self.0.len() - TOLD);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_touches_is_one() {
        let mut ranges = Ranges::default();
        assert!(ranges.is_empty());
        for (start, length) in [(512, 512), (1024, 0), (1024, 1024), (4096, 512)] {
            ranges.add(start, length);
        }
        assert_eq!(ranges.0, [Range { start: 512, length: 1536 }, Range { start: 4096, length: 512 }]);
        let text = ranges.text(512);
        assert!(
            text.starts_with("2.0 KiB could not be read, in 2 places:\n")
                && text.contains("bytes 512 to 2047 (3 sectors from 1)"),
            "{text}"
        );
        (0..30).for_each(|number| ranges.add(10_000 * (number + 1), 1));
        assert!(ranges.text(512).ends_with("and 12 more\n"));
    }
}
