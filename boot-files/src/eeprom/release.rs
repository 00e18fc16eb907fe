//! Which bootloader an image has: the words that its code leaves in it (`VERSION:224877da`, `DATE: 2026/05/17`, …).

use jiff::civil::Date;
use jiff::{Timestamp, tz};
use serde::{Serialize, Serializer};

/// The largest text that is looked at after a word.
const LONGEST: usize = 20;

/// What an image says of its bootloader. An image that packs its code says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Release {
    /// The commit it was built from: eight hexadecimal digits.
    pub version: Option<String>,
    /// The day of the build, as the file's name has it.
    #[serde(serialize_with = "as_text")]
    pub date: Option<Date>,
    /// The time of the build, `HH:MM:SS`.
    pub time: Option<String>,
    /// The same in seconds since 1970.
    pub build_timestamp: Option<i64>,
    /// What a board's `/chosen/rpi-min-boot-ver` is compared with.
    pub mfg_version: Option<u32>,
}

fn as_text<S: Serializer>(date: &Option<Date>, to: S) -> Result<S::Ok, S::Error> {
    match date {
        Some(date) => to.collect_str(date),
        None => to.serialize_none(),
    }
}

impl Release {
    /// Looks for all of it.
    pub fn find(image: &[u8]) -> Self {
        let date = |text: &str| Date::strptime("%Y/%m/%d", text.get(..10)?).ok();
        let is_time = |text: &str| {
            let form = text.bytes().zip(0..).all(|(byte, at)| match at {
                2 | 5 => byte == b':',
                _ => byte.is_ascii_digit(),
            });
            form.then(|| text.to_owned())
        };
        Release {
            version: after(image, "VERSION:", |text| {
                let digits = text.get(..8).filter(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit()));
                digits.map(str::to_owned)
            }),
            date: after(image, "DATE: ", date),
            time: after(image, "TIME: ", |text| text.get(..8).and_then(is_time)),
            build_timestamp: after(image, "BUILD_TIMESTAMP=", |text| number(text)?.parse().ok()),
            mfg_version: after(image, "MFG_VER: ", |text| number(text)?.parse().ok()),
        }
    }

    /// The day of the build, by which release notes count.
    pub fn day(&self) -> Option<Date> {
        let built = || Timestamp::from_second(self.build_timestamp?).ok();
        self.date.or_else(|| Some(built()?.to_zoned(tz::TimeZone::UTC).date()))
    }
}

/// What `read` makes of the text after the first `word` with which it can do something.
fn after<T>(image: &[u8], word: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let found = memchr::memmem::find_iter(image, word);
    let texts = found.filter_map(|at| {
        let start = at.saturating_add(word.len());
        let rest = image.get(start..image.len().min(start.saturating_add(LONGEST)))?;
        let end = rest.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(rest.len());
        std::str::from_utf8(rest.get(..end)?).ok()
    });
    texts.filter_map(read).next()
}

fn number(text: &str) -> Option<&str> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_words_of_a_real_image() {
        let found = Release::find(include_bytes!("../../tests/data/eeprom/pieeprom-2711-2026-05-17.bin"));
        assert_eq!(found.version.as_deref(), Some("224877da"));
        assert_eq!(found.date, Some(jiff::civil::date(2026, 5, 17)));
        assert_eq!(found.time.as_deref(), Some("20:13:18"));
        assert_eq!((found.build_timestamp, found.mfg_version), (Some(1_779_045_198), Some(1)));
        let by_timestamp = Release { date: None, ..found };
        assert_eq!(by_timestamp.day(), Some(jiff::civil::date(2026, 5, 17)));
        assert_eq!(Release::find(b"no DATE: 2026/13/44 TIME: 1234"), Release::default());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(text in "(VERSION:|DATE: |TIME: |BUILD_TIMESTAMP=|MFG_VER: ).{0,20}") {
            let _ = Release::find(text.as_bytes()).day();
        }
    }
}
