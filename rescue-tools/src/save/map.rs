//! GNU ddrescue's mapfile (its manual, "Mapfile structure").

use anyhow::{Context, Result, ensure};

use super::ranges::Ranges;

/// What a mapfile says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Bytes that were read.
    pub rescued: u64,
    /// What was not, for whatever reason.
    pub unread: Ranges,
    /// The end of the last part.
    pub end: u64,
}

/// Reads a mapfile.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> Result<Map> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    // The status line: position, status, pass.
    lines.next().context("the mapfile is empty")?;
    let mut map = Map::default();
    for line in lines {
        let mut words = line.split_whitespace();
        let (start, length, status) = (words.next(), words.next(), words.next());
        let (start, length) = start
            .and_then(number)
            .zip(length.and_then(number))
            .with_context(|| format!("no line of a mapfile: {line:?}"))?;
        ensure!(start == map.end, "the mapfile has a gap, or is out of order, at {line:?}");
        map.end = start.checked_add(length).with_context(|| format!("no line of a mapfile: {line:?}"))?;
        match status {
            Some("+") => map.rescued += length,
            Some("?" | "*" | "/" | "-") => map.unread.add(start, length),
            _ => anyhow::bail!("no line of a mapfile: {line:?}"),
        }
    }
    Ok(map)
}

/// ddrescue writes hexadecimal; its manual allows decimal and octal too.
fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if word.starts_with('0') && word.len() > 1 => u64::from_str_radix(word, 8).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mapfile_is_read() {
        let text = "# Mapfile. Created by GNU ddrescue version 1.27\n# Command line: ddrescue a b c\n\
            # current_pos  current_status  current_pass\n0x00100000     +               1\n\
            #      pos        size  status\n0x00000000  0x00100000  +\n0x00100000  0x00000200  -\n\
            0x00100200  0x00000200  /\n0x00100400  0x00200000  +\n";
        let map = parse(text).unwrap();
        assert_eq!((map.rescued, map.unread.bytes(), map.end), (0x30_0000, 0x400, 0x30_0400));
        assert!(map.unread.text(512).contains("in 1 places"));
        for bad in [
            "",
            "# only\n",
            "0 + 1\n0 10 x\n",
            "0 + 1\n5 10 +\n",
            "0 + 1\n0x0 0xffffffffffffffff +\n0xffffffffffffffff 5 +\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(0x[0-9a-f]{1,17} 0x[0-9a-f]{1,17} [+*?/-]\n|.{0,9}\n){0,9}") {
            let _ = parse(&text);
        }
    }
}
