//! `BOOT_ORDER`: where a Pi looks for an OS, one hexadecimal digit for each place, read from right to left.

use super::board::Board;
use super::finding::Finding;
use std::fmt;

/// What a bootloader does without the setting.
pub const DEFAULT: BootOrder = BootOrder(0xf41);

/// A place to boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The SD card, waiting for one (deprecated).
    SdDetect,
    /// The SD card or eMMC.
    Sd,
    /// DHCP and TFTP.
    Network,
    /// A computer on the USB port runs rpiboot.
    Rpiboot,
    /// A USB disk.
    UsbMsd,
    /// A USB disk on the chip's own port.
    BcmUsbMsd,
    /// An NVMe disk.
    Nvme,
    /// A signed boot.img over HTTP.
    Http,
    /// Stop and blink.
    Stop,
    /// Begin anew.
    Restart,
    /// A digit without a meaning: the bootloader takes it for the SD card.
    Undefined(u8),
}

impl Mode {
    fn of(digit: u32) -> Self {
        match digit {
            0x0 => Mode::SdDetect,
            0x1 => Mode::Sd,
            0x2 => Mode::Network,
            0x3 => Mode::Rpiboot,
            0x4 => Mode::UsbMsd,
            0x5 => Mode::BcmUsbMsd,
            0x6 => Mode::Nvme,
            0x7 => Mode::Http,
            0xe => Mode::Stop,
            0xf => Mode::Restart,
            other => Mode::Undefined(u8::try_from(other).unwrap_or(u8::MAX)),
        }
    }

    /// Whether an OS that starts and then breaks keeps the Pi from what comes after it.
    fn is_disk(self) -> bool {
        !matches!(self, Mode::Network | Mode::Http | Mode::Rpiboot | Mode::Stop | Mode::Restart)
    }

    fn is_network(self) -> bool {
        matches!(self, Mode::Network | Mode::Http)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::SdDetect => out.write_str("SD card, waiting for one"),
            Mode::Sd => out.write_str("SD card or eMMC"),
            Mode::Network => out.write_str("network (DHCP and TFTP)"),
            Mode::Rpiboot => out.write_str("rpiboot over USB"),
            Mode::UsbMsd => out.write_str("USB disk"),
            Mode::BcmUsbMsd => out.write_str("USB disk on the USB-C or USB 2 port"),
            Mode::Nvme => out.write_str("NVMe disk"),
            Mode::Http => out.write_str("HTTP"),
            Mode::Stop => out.write_str("stop"),
            Mode::Restart => out.write_str("begin anew"),
            Mode::Undefined(digit) => write!(out, "{digit:x}, which has no meaning and counts as SD"),
        }
    }
}

/// A boot order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootOrder(u32);

impl BootOrder {
    /// HTTP and nothing else.
    pub const HTTP: BootOrder = BootOrder(0x7);

    /// Reads `0xf71`, or the same in decimal as config.txt's numbers may be. Nothing is the default.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(DEFAULT);
        }
        number(text).map(BootOrder)
    }

    /// The places, first to last. Zeros on the left are none.
    pub fn modes(self) -> Vec<Mode> {
        let digits = match self.0 {
            0 => 1,
            number => 8_u32.saturating_sub(number.leading_zeros() / 4),
        };
        (0..digits).map(|digit| Mode::of((self.0 >> (4 * digit)) & 0xf)).collect()
    }

    /// Whether it is one of the places.
    pub fn has(self, mode: Mode) -> bool {
        self.modes().contains(&mode)
    }

    /// What is wrong with it on `board` (any, without one), or dangerous. `line` is where it is set.
    pub fn findings(self, board: Option<Board>, line: Option<usize>) -> Vec<Finding> {
        let modes = self.modes();
        let mut findings = Vec::new();
        for (at, mode) in modes.iter().enumerate() {
            let follows = modes.get(at.saturating_add(1)..).unwrap_or_default();
            findings.extend(at_place(*mode, follows, self, line));
        }
        if !matches!(modes.last(), Some(Mode::Restart | Mode::Stop | Mode::Rpiboot)) {
            findings.push(Finding::warning(line, format!(
                "BOOT_ORDER={self} is over after \"{}\": with f (begin anew) on its left a Pi whose server is away for a while tries again",
                modes.last().map(Mode::to_string).unwrap_or_default(),
            )));
        }
        if matches!(modes.first(), Some(Mode::Restart)) {
            findings.push(Finding::error(
                line,
                format!("BOOT_ORDER={self} begins with f (begin anew): the Pi never boots"),
            ));
        }
        findings.extend(network_last(&modes, self, board, line));
        if board.is_none_or(|board| board.soc() == super::image::Soc::Bcm2712)
            && self.has(Mode::BcmUsbMsd)
            && board.is_some()
        {
            findings.push(Finding::warning(line, format!("BOOT_ORDER={self}: a Pi 5 has no mode 5")));
        }
        findings
    }
}

/// What is wrong with one place, given those that follow it.
fn at_place(mode: Mode, follows: &[Mode], order: BootOrder, line: Option<usize>) -> Option<Finding> {
    match mode {
        Mode::Undefined(_) => Some(Finding::warning(line, format!("BOOT_ORDER={order} has {mode}"))),
        Mode::SdDetect => Some(Finding::warning(
            line,
            format!(
                "BOOT_ORDER={order} has 0, which is deprecated and waits for a card for ever: 1 is meant"
            ),
        )),
        Mode::Rpiboot if !follows.is_empty() => Some(Finding::error(
            line,
            format!(
                "BOOT_ORDER={order}: rpiboot (3) waits for ever, what is on its left is never tried: put it last"
            ),
        )),
        Mode::Stop | Mode::Restart if !follows.is_empty() => Some(Finding::error(
            line,
            format!("BOOT_ORDER={order}: what is on the left of \"{mode}\" is never tried: put it last"),
        )),
        _ => None,
    }
}

/// The network after a disk. Where the disk cannot be taken out, that is where rescues are never reached.
fn network_last(
    modes: &[Mode],
    order: BootOrder,
    board: Option<Board>,
    line: Option<usize>,
) -> Option<Finding> {
    let disk = modes.iter().position(|mode| mode.is_disk())?;
    let network = modes.iter().position(|mode| mode.is_network())?;
    if network < disk {
        return None;
    }
    let message = format!(
        "BOOT_ORDER={order} comes to the network after a disk: a disk that has boot files and a broken OS is booted each time, and \
         the network is never reached"
    );
    Some(match board {
        Some(board) if board.is_module() => Finding::warning(
            line,
            format!("{message}; nobody can take the eMMC of a {board} out: put 7 (or 2) on the right of it"),
        ),
        _ => Finding::note(line, message),
    })
}

/// A number as config.txt has it: decimal, or hexadecimal after `0x`; at most 32 bits.
pub fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // from_str_radix would take a plus sign.
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, radix).ok().filter(|_| plain)
}

impl fmt::Display for BootOrder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eeprom::finding::Severity;

    fn order(text: &str) -> BootOrder {
        BootOrder::parse(text).unwrap()
    }

    fn words(text: &str, board: Option<Board>) -> Vec<(Severity, String)> {
        order(text).findings(board, None).into_iter().map(|it| (it.severity, it.message)).collect()
    }

    #[test]
    fn digits_are_read_from_right_to_left() {
        assert_eq!(
            order("0xf7612").modes(),
            [Mode::Network, Mode::Sd, Mode::Nvme, Mode::Http, Mode::Restart]
        );
        assert_eq!(order("").modes(), [Mode::Sd, Mode::UsbMsd, Mode::Restart]);
        assert_eq!(order("0").modes(), [Mode::SdDetect]);
        assert_eq!(order("0xffffffff").modes().len(), 8);
        assert_eq!(order("241"), order("0xf1"));
        for bad in ["0x", "f41", "0xg", "0x123456789", "-1", "+1", "0x+1", " 1", "4294967296"] {
            assert_eq!(BootOrder::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn traps_are_named() {
        assert_eq!(words("0xf17", Some(Board::Cm4)), []);
        for (text, board, severity, part) in [
            ("0xf31", None, Severity::Error, "rpiboot (3) waits for ever"),
            ("0x1f7", None, Severity::Error, "\"begin anew\" is never tried"),
            ("0x1e", None, Severity::Error, "\"stop\" is never tried"),
            ("0x7f", None, Severity::Error, "never boots"),
            ("0x17", None, Severity::Warning, "is over after \"SD card or eMMC\""),
            ("0xf07", None, Severity::Warning, "deprecated"),
            ("0xf87", None, Severity::Warning, "8, which has no meaning"),
            ("0xf71", Some(Board::Cm4), Severity::Warning, "eMMC of a CM4"),
            ("0xf21", Some(Board::Cm5), Severity::Warning, "eMMC of a CM5"),
            ("0xf71", Some(Board::Pi4), Severity::Note, "network is never reached"),
            ("0xf57", Some(Board::Pi5), Severity::Warning, "no mode 5"),
        ] {
            let found = words(text, board);
            assert!(
                found.iter().any(|(it, message)| *it == severity && message.contains(part)),
                "{text}: {found:?}"
            );
        }
        assert_eq!(words("0x317", None), [], "rpiboot may be the last");
        assert_eq!(words("0xf57", Some(Board::Cm4)), []);
    }
}
