//! Sizes as people write them: `128K`, `1M`, `65536`.

use init::manifest::CHUNK_SIZES;

/// A squashfs' block size in bytes.
///
/// # Errors
/// If it is no power of two from 4 KiB to 1 MiB.
pub fn block(text: &str) -> Result<u32, String> {
    let bytes = power_of_two(text).filter(|bytes| (4 << 10..=1 << 20).contains(bytes));
    bytes
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or_else(|| "not a power of two from 4K to 1M".to_owned())
}

/// The size of a manifest's chunk in bytes.
///
/// # Errors
/// If it is no power of two in [`CHUNK_SIZES`].
pub fn chunk(text: &str) -> Result<u64, String> {
    let bytes = power_of_two(text).filter(|bytes| CHUNK_SIZES.contains(bytes));
    bytes.ok_or_else(|| "not a power of two from 64K to 16M".to_owned())
}

fn power_of_two(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let shift = match text.strip_prefix(digits)?.to_ascii_uppercase().as_str() {
        "" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    bytes.is_power_of_two().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_bounded() {
        assert_eq!(block("128K"), Ok(128 << 10));
        assert_eq!(block("1m"), Ok(1 << 20));
        assert_eq!(block("4096"), Ok(4096));
        assert_eq!(chunk("16MiB"), Ok(16 << 20));
        for bad in ["", "K", "100K", "2K", "2M", "-4K", "4KB", "99999999999999999999K"] {
            assert!(block(bad).is_err(), "{bad}");
        }
        assert!(chunk("32M").is_err() && chunk("32K").is_err());
    }
}
