//! Whether this process may open the server's sockets.

use super::{Level, Line};

const CHECK: &str = "rights";
/// Numbers of capabilities (capabilities(7)).
const NET_BIND_SERVICE: u32 = 10;
const NET_RAW: u32 = 13;

pub(super) fn check() -> Vec<Line> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let first_free = read("/proc/sys/net/ipv4/ip_unprivileged_port_start").trim().parse().unwrap_or(1024);
    vec![judge(&read("/proc/self/status"), first_free)]
}

fn judge(status: &str, first_free_port: u16) -> Line {
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(held) = held.and_then(|held| u64::from_str_radix(held.trim(), 16).ok()) else {
        return Line::new(
            CHECK,
            Level::Unknown,
            "/proc/self/status names no capabilities",
            "is /proc mounted?",
        );
    };
    let lacks = |number: u32| held & (1 << number) == 0;
    let mut missing = Vec::new();
    // TFTP's port, and DHCP's.
    if lacks(NET_BIND_SERVICE) && first_free_port > 67 {
        missing.push("CAP_NET_BIND_SERVICE (ports 67, 69 and 80)");
    }
    if lacks(NET_RAW) {
        missing.push("CAP_NET_RAW (--dhcp)");
    }
    if missing.is_empty() {
        return Line::ok(CHECK, "low ports and packet sockets may be opened by who started this");
    }
    Line::new(
        CHECK,
        Level::Warning,
        format!("who started this lacks {}", missing.join(" and ")),
        "run the doctor as the server runs, or as root; the server needs AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW \
         in its unit, or: setcap cap_net_bind_service,cap_net_raw=+ep http-boot",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let status = |bits: u64| format!("Name:\tx\nCapEff:\t{bits:016x}\n");
        assert_eq!(judge(&status(1 << 10 | 1 << 13), 1024).level, Level::Ok);
        let none = judge(&status(0), 1024).found;
        assert!(none.contains("NET_BIND_SERVICE") && none.contains("NET_RAW"), "{none}");
        let low = judge(&status(0), 0).found;
        assert!(!low.contains("NET_BIND_SERVICE") && low.contains("NET_RAW"), "{low}");
        assert_eq!(judge("", 1024).level, Level::Unknown);
    }
}
