//! `lifeboat.zram=`: swap in compressed RAM.

use crate::plan::Parameter;
use crate::size::{Size, SizeError};

/// Our own parameters that this file reads: see [`crate::plan::parameters`].
pub(crate) const PARAMETERS: &[Parameter] =
    &[("lifeboat.zram", "SIZE", "swap in compressed RAM, so much before it is compressed: 512M, 2G or 50%")];

/// Reads a word; `None`: it is none of these.
pub(crate) fn take(name: &str, value: &str) -> Result<Option<Size>, String> {
    if name != "lifeboat.zram" {
        return Ok(None);
    }
    match value.parse() {
        Ok(Size::Bytes(0..0x10_0000)) => Err("a swap of less than 1M is none".into()),
        Ok(size) => Ok(Some(size)),
        Err(error) => Err(SizeError::to_string(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_overlay() {
        for (value, size) in
            [("512M", Size::Bytes(512 << 20)), ("50%", Size::Percent(50)), ("1048576", Size::Bytes(1 << 20))]
        {
            assert_eq!(take("lifeboat.zram", value), Ok(Some(size)), "{value}");
        }
        for bad in ["", "0", "4K", "101%", "lots", "-1M"] {
            assert!(take("lifeboat.zram", bad).is_err(), "{bad}");
        }
        assert_eq!(take("lifeboat.overlay", "lots"), Ok(None));
    }
}
