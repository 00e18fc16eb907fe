//! Whether a firewall of this machine drops what it does not know. Its rules are a language of their own: this reads the
//! policies alone, and says which ports have to be open.

use std::process::Command;

use super::{Level, Line};

const CHECK: &str = "firewall";
const ADVICE: &str = "open UDP 67 (DHCP), UDP 4011 (proxyDHCP), UDP 69 (TFTP, whose answers come from other ports unless \
    --tftp-single-port is given) and HTTP's port: nft add rule inet filter input udp dport '{ 67, 69, 4011 }' accept";

pub(super) fn check() -> Vec<Line> {
    let rules = Command::new("nft").args(["-s", "list", "ruleset"]).output();
    vec![match rules {
        Err(_) => Line::new(
            CHECK,
            Level::Unknown,
            "there is no nft here to ask",
            "where another firewall is (iptables, a cloud's, a switch's), UDP 67, 69, 4011 and HTTP's port have to be open",
        ),
        Ok(output) if !output.status.success() => Line::new(
            CHECK,
            Level::Unknown,
            format!("nft does not say: {}", String::from_utf8_lossy(&output.stderr).trim()),
            "run the doctor as root",
        ),
        Ok(output) => judge(&String::from_utf8_lossy(&output.stdout)),
    }]
}

fn judge(rules: &str) -> Line {
    let drops = rules.lines().any(|line| line.contains("hook input") && line.contains("policy drop"));
    let refuses = rules.lines().map(str::trim).any(|line| line.starts_with("reject") || line == "drop");
    match (drops, refuses) {
        (true, _) => Line::new(CHECK, Level::Warning, "its input drops what no rule lets in", ADVICE),
        (false, true) => Line::new(CHECK, Level::Warning, "a chain ends in a rule that refuses", ADVICE),
        _ => Line::ok(CHECK, "none of this machine's own that drops what it does not know"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let chain = |policy: &str, rule: &str| {
            format!(
                "table inet filter {{\n\tchain input {{\n\t\ttype filter hook input priority filter; policy {policy};\n\t\t{rule}\n\t}}\n}}\n"
            )
        };
        assert_eq!(judge("").level, Level::Ok);
        assert_eq!(judge(&chain("accept", "tcp dport 22 accept")).level, Level::Ok);
        assert_eq!(judge(&chain("drop", "")).level, Level::Warning);
        assert_eq!(judge(&chain("accept", "reject with icmpx admin-prohibited")).level, Level::Warning);
    }
}
