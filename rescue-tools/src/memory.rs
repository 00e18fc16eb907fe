//! The machine's memory.

/// Bytes that programs can still have without anything being swapped or killed: `MemAvailable` of `/proc/meminfo`, or 0.
pub fn available() -> u64 {
    parse(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()).unwrap_or(0)
}

fn parse(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(parse("MemTotal:  9 kB\nMemAvailable:     1234 kB\n"), Some(1234 * 1024));
        assert_eq!(parse("MemTotal:  9 kB\n"), None);
        assert!(available() > 0);
    }
}
