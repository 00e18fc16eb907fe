//! The machine's memory.

/// Bytes that programs can still have without anything being swapped or killed: `MemAvailable` of `/proc/meminfo`, or 0.
pub fn available() -> u64 {
    figure("MemAvailable:")
}

/// Bytes of RAM that the kernel manages: `MemTotal`, or 0.
pub fn total() -> u64 {
    figure("MemTotal:")
}

fn figure(name: &str) -> u64 {
    parse(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default(), name).unwrap_or(0)
}

fn parse(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        let text = "MemTotal:  9 kB\nMemAvailable:     1234 kB\n";
        assert_eq!(parse(text, "MemAvailable:"), Some(1234 * 1024));
        assert_eq!(parse("MemTotal:  9 kB\n", "MemAvailable:"), None);
        assert!(available() > 0 && total() >= available());
    }
}
