//! Which Raspberry Pi is imitated.

use std::fmt;
use std::str::FromStr;

use init::mac::Mac;

/// A kind of board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Board {
    /// Raspberry Pi 4 Model B.
    #[value(name = "4b")]
    Pi4B,
    /// Compute Module 4.
    #[value(name = "cm4")]
    Cm4,
}

impl Board {
    /// The device tree's `model`.
    pub fn model(self) -> &'static str {
        match self {
            Self::Pi4B => "Raspberry Pi 4 Model B Rev 1.4",
            Self::Cm4 => "Raspberry Pi Compute Module 4 Rev 1.1",
        }
    }

    /// The file that the firmware looks for when config.txt names none.
    pub fn device_tree(self) -> &'static str {
        match self {
            Self::Pi4B => "bcm2711-rpi-4-b.dtb",
            Self::Cm4 => "bcm2711-rpi-cm4.dtb",
        }
    }

    /// The type in the revision code, as config.txt's `[board-type=]` compares it.
    pub fn board_type(self) -> u32 {
        match self {
            Self::Pi4B => 0x11,
            Self::Cm4 => 0x14,
        }
    }

    /// The new-style revision code of a board with `memory` MiB (rounded to the next size that was sold).
    pub fn revision(self, memory: u32) -> u32 {
        let size = match memory {
            ..=1024 => 2,
            1025..=2048 => 3,
            2049..=4096 => 4,
            4097.. => 5,
        };
        let minor = match self {
            Self::Pi4B => 4,
            Self::Cm4 => 1,
        };
        (1 << 23) | (size << 20) | (3 << 12) | (self.board_type() << 4) | minor
    }

    /// Whether a model filter of config.txt, without its brackets, matches; `None` where it is no model filter.
    pub fn matches_filter(self, name: &str) -> Option<bool> {
        match name {
            // All that have a BCM2711.
            "pi4" => Some(true),
            "cm4" => Some(self == Self::Cm4),
            "pi0" | "pi0w" | "pi02" | "pi1" | "pi2" | "pi3" | "pi3+" | "pi400" | "cm0" | "cm1" | "cm3"
            | "cm3+" | "cm4s" | "pi5" | "pi500" | "cm5" => Some(false),
            _ => None,
        }
    }
}

/// A serial number: 64 bits, of which config.txt and TFTP use the lower 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial(pub u64);

impl Default for Serial {
    fn default() -> Self {
        Self(0x1000_0000_9ffe_fdef)
    }
}

impl FromStr for Serial {
    type Err = String;

    /// Up to 16 hexadecimal digits, `0x` or not. With 8 or fewer they are the lower half, as the bootloader shows it.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let number =
            u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+') && digits.len() <= 16);
        let number =
            number.ok_or("not a serial number: 1 to 16 hexadecimal digits, like 10000000deadbeef")?;
        Ok(if digits.len() <= 8 { Self(0x1000_0000_0000_0000 | number) } else { Self(number) })
    }
}

impl fmt::Display for Serial {
    /// As the device tree's `serial-number` has it: 16 digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One single Pi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pi {
    /// Its kind.
    pub board: Board,
    /// Its serial number.
    pub serial: Serial,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its RAM in MiB.
    pub memory: u32,
}

impl Pi {
    /// A Pi whose Ethernet address follows from its serial number.
    pub fn new(board: Board, serial: Serial, memory: u32) -> Self {
        let [_, _, _, _, _, a, b, c] = serial.0.to_be_bytes();
        Self { board, serial, mac: Mac([0xdc, 0xa6, 0x32, a, b, c]), memory }
    }

    /// Its revision code.
    pub fn revision(&self) -> u32 {
        self.board.revision(self.memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_codes() {
        assert_eq!(Board::Pi4B.revision(1024), 0xa0_3114);
        assert_eq!(Board::Pi4B.revision(4096), 0xc0_3114);
        assert_eq!(Board::Cm4.revision(8192), 0xd0_3141);
    }

    #[test]
    fn serial_numbers() {
        assert_eq!("deadbeef".parse::<Serial>().unwrap().to_string(), "10000000deadbeef");
        assert_eq!("0x10000000deadbeef".parse::<Serial>().unwrap().to_string(), "10000000deadbeef");
        for wrong in ["", "0x", "xyz", "+1", "10000000deadbeef0"] {
            assert!(wrong.parse::<Serial>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ethernet_addresses() {
        let pi = Pi::new(Board::Pi4B, Serial(0x1000_0000_de01_36c2), 1024);
        assert_eq!(pi.mac.to_string(), "dc:a6:32:01:36:c2");
        assert_eq!("DC-A6-32-01-36-C2".parse::<Mac>().unwrap(), pi.mac);
        for wrong in ["", "dc:a6:32:01:36", "dc:a6:32:01:36:c2:00", "dc:a6:32:01:36:+2", "01:00:5e:00:00:01"]
        {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }
}
