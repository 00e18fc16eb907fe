//! Why a Pi would not boot what it was given.

use std::fmt;

/// The kinds of refusals. Each has its own exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The server has no such file (404): the bootloader advances to its next boot mode.
    NotFound,
    /// No DHCP server gave what is needed.
    NoAddress,
    /// A file could not be fetched, or the server answered in a way that the bootloader does not take.
    Download,
    /// A file is larger than the bootloader takes.
    TooLarge,
    /// The signature is missing, malformed or wrong.
    Signature,
    /// boot.img has no FAT file system.
    NotFat,
    /// boot.img's file system cannot be read.
    Unreadable,
    /// start4.elf or its fixup is missing or is none.
    Firmware,
    /// The kernel is missing.
    NoKernel,
    /// The kernel is no arm64 kernel.
    BadKernel,
    /// The device tree is missing or is none.
    DeviceTree,
    /// An initramfs that config.txt names is missing.
    Initramfs,
}

/// How the green LED blinks: so many long flashes, then so many short ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Led {
    /// Long flashes.
    pub long: u8,
    /// Short flashes.
    pub short: u8,
}

impl fmt::Display for Led {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} long, {} short flashes", self.long, self.short)
    }
}

impl Kind {
    /// The exit code of `virtual-pi`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NotFound => 10,
            Self::Download | Self::TooLarge => 11,
            Self::NoAddress => 15,
            Self::Signature => 12,
            Self::NotFat | Self::Unreadable | Self::Firmware => 13,
            Self::NoKernel | Self::BadKernel | Self::DeviceTree | Self::Initramfs => 14,
        }
    }

    /// What the LED shows, where that is documented. An initramfs or device tree has no code of its own.
    pub fn led(self) -> Option<Led> {
        let (long, short) = match self {
            Self::Signature => (2, 4),
            Self::NotFat => (2, 1),
            Self::Unreadable => (2, 2),
            Self::Firmware => (0, 4),
            Self::NoKernel => (0, 7),
            _ => return None,
        };
        Some(Led { long, short })
    }

    /// The number in the bootloader's `Error %u loading %s`.
    pub fn error_number(self) -> Option<u8> {
        match self {
            Self::Download | Self::TooLarge => Some(3),
            Self::NotFound => Some(6),
            Self::Unreadable => Some(12),
            _ => None,
        }
    }
}

/// Whose refusal it is: `start4.elf` takes the place of the EEPROM's program, which cannot go on to anything after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The program in the EEPROM.
    Bootloader,
    /// `start4.elf`.
    Start4,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Its kind.
    pub kind: Kind,
    /// Whose it is.
    pub stage: Stage,
    /// What is wrong with which file, in one line.
    pub reason: String,
}

impl Refusal {
    /// A refusal of the program in the EEPROM.
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, stage: Stage::Bootloader, reason: reason.into() }
    }

    /// The same as one of `start4.elf`.
    #[must_use]
    pub fn of_start4(self) -> Self {
        Self { stage: Stage::Start4, ..self }
    }
}
