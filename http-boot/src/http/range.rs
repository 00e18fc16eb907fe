//! The `Range` header (RFC 9110, section 14): one range of bytes.

/// Which bytes of a file to send. Never empty, except for a whole file of length 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte's offset.
    pub start: u64,
    /// How many bytes.
    pub length: u64,
}

/// What a `Range` header asks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: there is no header, or one that RFC 9110 lets a server ignore (another unit, a wrong syntax, several
    /// ranges).
    Whole,
    /// One part (206).
    Part(Span),
    /// No byte that it has (416).
    Unsatisfiable,
}

/// Reads a `Range` header for a file of `size` bytes.
pub fn parse(header: &str, size: u64) -> Wanted {
    let Some((unit, ranges)) = header.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let Some((first, last)) = ranges.trim().split_once('-') else { return Wanted::Whole };
    match (number(first), number(last)) {
        (Number::Some(first), Number::Some(last)) if first > last => Wanted::Whole,
        (Number::Some(first), _) if first >= size => {
            if matches!(number(last), Number::Wrong) {
                Wanted::Whole
            } else {
                Wanted::Unsatisfiable
            }
        }
        (Number::Some(first), Number::Some(last)) => {
            Wanted::Part(Span { start: first, length: last.min(size - 1) - first + 1 })
        }
        (Number::Some(first), Number::None) => Wanted::Part(Span { start: first, length: size - first }),
        (Number::None, Number::Some(last)) if last == 0 || size == 0 => Wanted::Unsatisfiable,
        (Number::None, Number::Some(last)) => {
            let length = last.min(size);
            Wanted::Part(Span { start: size - length, length })
        }
        _ => Wanted::Whole,
    }
}

enum Number {
    Some(u64),
    None,
    Wrong,
}

fn number(digits: &str) -> Number {
    let digits = digits.trim_matches([' ', '\t']);
    match digits {
        "" => Number::None,
        // A number too large for 64 bits is past the end of any file.
        _ if digits.bytes().all(|b| b.is_ascii_digit()) => Number::Some(digits.parse().unwrap_or(u64::MAX)),
        _ => Number::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn part(start: u64, length: u64) -> Wanted {
        Wanted::Part(Span { start, length })
    }

    #[test]
    fn ranges_of_ten_bytes() {
        for (header, wanted) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-", part(0, 10)),
            ("bytes=3-", part(3, 7)),
            ("bytes=3-5", part(3, 3)),
            ("bytes=3-99", part(3, 7)),
            ("bytes=-4", part(6, 4)),
            ("bytes=-99", part(0, 10)),
            ("Bytes = 9-9", part(9, 1)),
            ("bytes=9-18446744073709551616", part(9, 1)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=10-20", Wanted::Unsatisfiable),
            ("bytes=18446744073709551616-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-3", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=12-x", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=--1", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
        ] {
            assert_eq!(parse(header, 10), wanted, "{header}");
        }
    }

    #[test]
    fn an_empty_file_has_no_range() {
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(parse(header, 0), Wanted::Unsatisfiable, "{header}");
        }
    }

    proptest! {
        #[test]
        fn never_outside_the_file(header in "(bytes ?= ?)?[0-9 ,x-]{0,24}|\\PC{0,16}", size in prop_oneof![0u64..99, any::<u64>()]) {
            if let Wanted::Part(span) = parse(&header, size) {
                prop_assert!(span.length > 0);
                prop_assert!(span.start.checked_add(span.length).is_some_and(|end| end <= size));
            }
        }

        #[test]
        fn a_range_is_what_it_says(first in 0u64..300, last in 0u64..300, size in 0u64..300) {
            let all: Vec<u64> = (0..size).filter(|i| (first..=last).contains(i)).collect();
            let wanted = match parse(&format!("bytes={first}-{last}"), size) {
                Wanted::Part(span) => (span.start..span.start + span.length).collect(),
                Wanted::Unsatisfiable => { prop_assert!(first >= size); vec![] }
                Wanted::Whole => { prop_assert!(first > last); vec![] }
            };
            prop_assert_eq!(wanted, all);
        }
    }
}
