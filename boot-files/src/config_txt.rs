//! `config.txt` and `cmdline.txt`: what the Pi's firmware reads. It takes pure ASCII, cuts long lines off without a
//! word, and reads no more than 4 KiB.

use anyhow::{Result, ensure};

/// The firmware reads less than this of config.txt, in bytes.
const CONFIG_TXT_LIMIT: usize = 4096;
/// The firmware cuts longer lines off, in bytes.
const LINE_LIMIT: usize = 98;
/// arm64's COMMAND_LINE_SIZE, in bytes; the firmware adds words of its own.
const CMDLINE_LIMIT: usize = 1024;

/// The text of config.txt.
///
/// # Errors
/// If a line or the whole is more than the firmware takes.
pub fn checked(lines: &[String]) -> Result<String> {
    let mut text = String::new();
    for line in lines {
        ensure!(
            line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()),
            "config_txt: the firmware takes plain ASCII only, not {line:?}"
        );
        ensure!(
            line.len() <= LINE_LIMIT,
            "config_txt: the firmware cuts lines off after {LINE_LIMIT} bytes, this has {}: {line:?}",
            line.len()
        );
        text.push_str(line);
        text.push('\n');
    }
    ensure!(
        text.len() < CONFIG_TXT_LIMIT,
        "config_txt: {} bytes, but the firmware reads less than {CONFIG_TXT_LIMIT}",
        text.len()
    );
    Ok(text)
}

/// The text of cmdline.txt: one line.
///
/// # Errors
/// If it is no single line of ASCII, or too long for the kernel.
pub fn checked_cmdline(line: &str) -> Result<String> {
    let line = line.trim();
    ensure!(
        line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()),
        "cmdline: must be one line of plain ASCII, not {line:?}"
    );
    ensure!(
        line.len() <= CMDLINE_LIMIT,
        "cmdline: {} bytes, but the kernel takes {CMDLINE_LIMIT}",
        line.len()
    );
    Ok(format!("{line}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_firmware_would_drop_silently_is_refused() {
        assert_eq!(checked(&["a=1".into(), "[all]".into()]).unwrap(), "a=1\n[all]\n");
        assert!(checked(&["# für".into()]).is_err());
        assert!(checked(&["x".repeat(98)]).is_ok());
        assert!(checked(&["x".repeat(99)]).is_err());
        assert!(checked(&vec!["x".repeat(90); 45]).is_ok());
        assert!(checked(&vec!["x".repeat(90); 46]).is_err());
    }

    #[test]
    fn cmdline_is_one_line() {
        assert_eq!(checked_cmdline(" panic=1 \n").unwrap(), "panic=1\n");
        assert!(checked_cmdline("a\nb").is_err());
        assert!(checked_cmdline(&"x".repeat(1025)).is_err());
    }
}
