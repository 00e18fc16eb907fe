//! What is wrong with settings, or dangerous: of each line, and of all of them together.

use super::board::Board;
use super::boot_order::{self, BootOrder, Mode, number};
use super::config::{Config, Entry};
use super::finding::Finding;
use super::key_table::{self, Form};
use std::net::{IpAddr, Ipv4Addr};

/// Lines longer than this are cut in config.txt, whose parser this is.
const LINE_LIMIT: usize = 98;
/// A TFTP_PREFIX_STR of 32 characters is within what is documented, and was seen to be cut.
const PREFIX_LIMIT: usize = 31;

/// All findings about settings on `board` (without one: on any), in the order of their lines.
pub fn check(config: &Config, board: Option<Board>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for other in &config.others {
        findings.push(other_line(other.line, &other.text));
    }
    for entry in &config.entries {
        findings.extend(line(entry));
    }
    findings.extend(repeated(config));
    findings.extend(orders(config, board));
    match board {
        Some(board) => findings.extend(together(config, Some(board))),
        None => findings.extend(together(config, None)),
    }
    findings.sort_by_key(|finding| (finding.line.unwrap_or(usize::MAX), std::cmp::Reverse(finding.severity)));
    findings.dedup();
    findings
}

fn other_line(line: usize, text: &str) -> Finding {
    match text.starts_with('[') {
        true => Finding::error(
            line,
            format!("{text} is no filter that is known: what follows it is for no board"),
        ),
        false => Finding::error(
            line,
            format!("{text:?} is neither a setting (KEY=VALUE) nor a filter nor a comment"),
        ),
    }
}

fn line(entry: &Entry) -> Vec<Finding> {
    let (line, name, value) = (entry.line, entry.key.as_str(), entry.value.as_str());
    let mut findings = Vec::new();
    if name.trim_ascii() != name || value.trim_ascii() != value {
        findings.push(Finding::warning(
            line,
            format!("there are spaces, or a carriage return, around {name:?} or its value: a bootloader does not take them away"),
        ));
    }
    let (name, value) = (name.trim_ascii(), value.trim_ascii());
    if name.len().saturating_add(value.len()) >= LINE_LIMIT {
        findings.push(Finding::warning(
            line,
            format!("the line is longer than {LINE_LIMIT} characters and may be cut"),
        ));
    }
    let Some(key) = key_table::find(name) else {
        let meant = key_table::nearest(name).map(|near| format!(": is {near} meant?")).unwrap_or_default();
        findings.push(Finding::warning(line, format!("{name} is no setting that is known{meant}")));
        return findings;
    };
    if let Err(wanted) = fits(key.form, value) {
        findings.push(Finding::error(line, format!("{name}={value}: it has to be {wanted}")));
    }
    if name == "TFTP_PREFIX_STR" && value.len() > PREFIX_LIMIT {
        findings.push(Finding::warning(
            line,
            format!("{name} has more than {PREFIX_LIMIT} characters: its end may be cut"),
        ));
    }
    findings
}

/// Whether a value is what it has to be; if not, what that is.
fn fits(form: Form, value: &str) -> Result<(), String> {
    let host_letter =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let mac = |value: &str| {
        let parts: Vec<_> = value.split(':').collect();
        parts.len() == 6
            && parts.iter().all(|it| it.len() == 2 && it.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let (good, wanted) = match form {
        Form::Flag => (matches!(value, "0" | "1"), "0 or 1".to_owned()),
        Form::Number(least, most) => (
            signed(value).is_some_and(|number| (least..=most).contains(&number)),
            format!("a number from {least} to {most}"),
        ),
        Form::BootOrder => {
            (BootOrder::parse(value).is_some(), "0x and at most 8 hexadecimal digits".to_owned())
        }
        Form::Address => (
            value.is_empty() || value.parse::<Ipv4Addr>().is_ok(),
            "an IPv4 address such as 192.0.2.1".to_owned(),
        ),
        Form::Host => (
            value.is_empty() || value.parse::<IpAddr>().is_ok() || value.bytes().all(host_letter),
            "a name in lower case or an address, without http://, port or path".to_owned(),
        ),
        Form::UrlPath => (
            !value.contains("://") && !value.contains([' ', '?', '#', '\\']) && !value.starts_with('/'),
            "a path without host, leading slash, spaces, ? and #".to_owned(),
        ),
        Form::Mac => (value.is_empty() || mac(value), "a MAC address such as dc:a6:32:01:36:c2".to_owned()),
        Form::Sha256 => (
            value.is_empty() || (value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit())),
            "64 hexadecimal digits".to_owned(),
        ),
        Form::Text(most) => (value.len() <= most, format!("at most {most} characters long")),
        Form::Any => (true, String::new()),
    };
    if good { Ok(()) } else { Err(wanted) }
}

fn signed(value: &str) -> Option<i64> {
    match value.strip_prefix('-') {
        Some(rest) => number(rest).map(|number| -i64::from(number)),
        None => number(value).map(i64::from),
    }
}

/// Settings that stand twice below the same filters.
fn repeated(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, entry) in config.entries.iter().enumerate() {
        let mut before = config.entries.iter().take(at).rev();
        if let Some(first) = before.find(|it| it.key == entry.key && it.filters == entry.filters) {
            findings.push(Finding::warning(
                entry.line,
                format!("{} is set in line {} already: this one holds", entry.key, first.line),
            ));
        }
    }
    findings
}

/// Every BOOT_ORDER that some board may have.
fn orders(config: &Config, board: Option<Board>) -> Vec<Finding> {
    let for_board = |entry: &&Entry| board.is_none_or(|board| entry.filters.may_have(board));
    let set = config.entries.iter().filter(|entry| entry.key == "BOOT_ORDER").filter(for_board);
    let found = set.filter_map(|entry| Some((BootOrder::parse(entry.value.trim_ascii())?, entry.line)));
    found.flat_map(|(order, line)| order.findings(board, Some(line))).collect()
}

/// What settings mean together.
fn together(config: &Config, board: Option<Board>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let line = |key: &str| config.get(board, key).map(|entry| entry.line);
    let value = |key: &str| config.value(board, key);
    let order = value("BOOT_ORDER").map_or(Some(boot_order::DEFAULT), BootOrder::parse);
    let http = order.is_some_and(|order| order.has(Mode::Http));
    let host = value("HTTP_HOST");
    if http && host.is_none() {
        findings.push(Finding::warning(
            line("BOOT_ORDER"),
            "HTTP (7) without HTTP_HOST asks Raspberry Pi's own server for its network install",
        ));
    }
    if host.is_some() && !http {
        findings
            .push(Finding::warning(line("HTTP_HOST"), "HTTP_HOST is of no use: BOOT_ORDER has no 7 (HTTP)"));
    }
    if host.is_none() {
        for key in ["HTTP_PATH", "HTTP_PORT", "HTTP_CACERT_HASH"] {
            if value(key).is_some() {
                let why = format!("{key} without HTTP_HOST is ignored");
                findings.push(match key {
                    "HTTP_CACERT_HASH" => Finding::error(line(key), why),
                    _ => Finding::warning(line(key), why),
                });
            }
        }
    }
    if value("HTTP_PORT") == Some("443") && value("HTTP_CACERT_HASH").is_none() {
        findings.push(Finding::warning(
            line("HTTP_PORT"),
            "port 443 alone makes no HTTPS: without HTTP_CACERT_HASH the bootloader speaks plain HTTP to it",
        ));
    }
    if value("NET_INSTALL_AT_POWER_ON") == Some("1") {
        findings.push(Finding::warning(
            line("NET_INSTALL_AT_POWER_ON"),
            "NET_INSTALL_AT_POWER_ON=1 offers the network install at each power-on, whatever NET_INSTALL_ENABLED says: set 0 where nobody sits at the keyboard",
        ));
    }
    findings.extend(static_network(config, board));
    findings
}

/// A static address has parts that need each other.
fn static_network(config: &Config, board: Option<Board>) -> Option<Finding> {
    let value = |key: &str| config.value(board, key);
    let lacking: Vec<_> = ["CLIENT_IP", "SUBNET"].into_iter().filter(|key| value(key).is_none()).collect();
    let entry = config.get(board, "TFTP_IP").filter(|_| lacking.len() == 1)?;
    Some(Finding::warning(
        entry.line,
        format!(
            "CLIENT_IP and SUBNET go together, and {} is missing: DHCP is not skipped",
            lacking.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eeprom::finding::Severity::{self, Error, Note, Warning};
    use proptest::prelude::*;

    fn found(text: &str, board: Option<Board>) -> Vec<(Severity, Option<usize>, String)> {
        let findings = check(&Config::parse(text.as_bytes()).unwrap(), board);
        findings.into_iter().map(|it| (it.severity, it.line, it.message)).collect()
    }

    fn has(text: &str, board: Option<Board>, severity: Severity, line: usize, part: &str) {
        let found = found(text, board);
        let hit = found
            .iter()
            .any(|(it, at, message)| *it == severity && *at == Some(line) && message.contains(part));
        assert!(hit, "{text:?}: {found:?}");
    }

    #[test]
    fn safe_settings_have_no_findings() {
        let text = "[all]\nBOOT_ORDER=0xf617\nHTTP_HOST=192.0.2.10\nHTTP_PORT=8080\nHTTP_PATH=pi/rescue\nFREEZE_VERSION=1\n";
        assert_eq!(found(text, Some(Board::Cm4)), []);
        assert_eq!(found("", Some(Board::Pi4)), []);
    }

    #[test]
    fn each_line_is_looked_at() {
        for (text, severity, part) in [
            ("BOOTORDER=0xf1", Warning, "is BOOT_ORDER meant?"),
            ("COLOUR=red", Warning, "COLOUR is no setting that is known"),
            ("BOOT_ORDER=0xg1", Error, "hexadecimal"),
            ("BOOT_UART=yes", Error, "0 or 1"),
            ("DHCP_TIMEOUT=100", Error, "from 5000"),
            ("TFTP_IP=server", Error, "IPv4"),
            ("HTTP_HOST=http://x", Error, "lower case"),
            ("HTTP_HOST=Boot.Example", Error, "lower case"),
            ("HTTP_HOST=x/y", Error, "lower case"),
            ("HTTP_PORT=0", Error, "from 1 to 65535"),
            ("HTTP_PATH=/pi", Error, "leading slash"),
            ("HTTP_CACERT_HASH=12", Error, "64 hexadecimal"),
            ("MAC_ADDRESS=dc-a6-32-01-36-c2", Error, "dc:a6:32"),
            ("NETCONSOLE=6665@169.254.100.1/eth0,6666@192.168.100.100/", Error, "32 characters"),
            ("TFTP_PREFIX_STR=12345678901234567890123456789012", Warning, "may be cut"),
            ("BOOT_UART = 1", Warning, "spaces"),
            ("BOOT_UART=1\r", Warning, "carriage return"),
            ("BOOT_UART", Error, "neither a setting"),
            ("[pi6]", Error, "no filter"),
            ("NET_INSTALL_AT_POWER_ON=1", Warning, "keyboard"),
            ("HTTP_CACERT_HASH=", Note, ""),
        ] {
            match severity {
                Note => assert!(!found(text, None).iter().any(|it| it.0 == Error), "{text}"),
                severity => has(text, None, severity, 1, part),
            }
        }
        has(&format!("PXE_OPTION43={}", "x".repeat(90)), None, Warning, 1, "98 characters");
        has("BOOT_UART=1\nBOOT_UART=0\n", None, Warning, 2, "in line 1 already");
        assert_eq!(found("BOOT_UART=1\n[cm4]\nBOOT_UART=0\n", None), []);
    }

    #[test]
    fn settings_are_looked_at_together() {
        has("BOOT_ORDER=0xf17\n", None, Warning, 1, "without HTTP_HOST");
        has("HTTP_HOST=x\n", None, Warning, 1, "of no use");
        has("HTTP_PATH=x\n", None, Warning, 1, "ignored");
        has(&format!("HTTP_CACERT_HASH={}\n", "0".repeat(64)), None, Error, 1, "ignored");
        has("BOOT_ORDER=0xf7\nHTTP_HOST=x\nHTTP_PORT=443\n", None, Warning, 3, "plain HTTP");
        has("TFTP_IP=192.0.2.1\nCLIENT_IP=192.0.2.2\n", None, Warning, 1, "SUBNET is missing");
    }

    #[test]
    fn each_board_has_its_own_boot_order() {
        let text = "BOOT_ORDER=0xf17\nHTTP_HOST=x\n[cm4]\nBOOT_ORDER=0xf71\n[0x1234]\nBOOT_ORDER=0xf31\n";
        has(text, Some(Board::Cm4), Warning, 4, "eMMC of a CM4");
        has(text, Some(Board::Cm4), Error, 6, "rpiboot");
        assert_eq!(found(text, Some(Board::Pi4)), []);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "((BOOT_ORDER|HTTP_PORT|NETCONSOLE|MAC_ADDRESS|TFTP_IP|DHCP_TIMEOUT)=[ -~]{0,70}\n){0,6}") {
            let _ = found(&text, Some(Board::Cm4));
        }
    }
}
