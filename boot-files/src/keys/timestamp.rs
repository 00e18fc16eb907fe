//! Which time is written into what we make, so that the same input can give the same bytes.

use anyhow::{Context, Result, bail};
use std::time::{SystemTime, UNIX_EPOCH};

/// The time of `SOURCE_DATE_EPOCH` (seconds since 1970), if that is set.
///
/// # Errors
/// If it is set and is no such number: guessing would break the promise that the variable makes.
pub fn source_date_epoch() -> Result<Option<u64>> {
    parse(std::env::var_os("SOURCE_DATE_EPOCH").as_deref())
}

fn parse(value: Option<&std::ffi::OsStr>) -> Result<Option<u64>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let seconds = value.to_str().and_then(|text| text.parse().ok());
    let Some(seconds) = seconds else { bail!("SOURCE_DATE_EPOCH is {value:?}, not a number of seconds") };
    Ok(Some(seconds))
}

/// `given`, else `SOURCE_DATE_EPOCH`, else now, in seconds since 1970.
///
/// # Errors
/// A malformed `SOURCE_DATE_EPOCH`, or a clock before 1970.
pub fn choose(given: Option<u64>) -> Result<u64> {
    if let Some(seconds) = given {
        return Ok(seconds);
    }
    if let Some(seconds) = source_date_epoch()? {
        return Ok(seconds);
    }
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("reading the clock")?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_is_taken() {
        assert_eq!(parse(None).unwrap(), None);
        assert_eq!(parse(Some("".as_ref())).unwrap(), None);
        assert_eq!(parse(Some("1790000000".as_ref())).unwrap(), Some(1_790_000_000));
        assert!(parse(Some("yesterday".as_ref())).is_err());
        assert!(parse(Some("-1".as_ref())).is_err());
    }

    #[test]
    fn what_is_given_wins() {
        assert_eq!(choose(Some(7)).unwrap(), 7);
    }
}
