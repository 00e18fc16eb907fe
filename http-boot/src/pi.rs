//! Which Pi it is, and of which kind.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The low 32 bits of a Pi's serial number: the bootloader says no more, here and as a folder on TFTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PiSerial(pub u32);

/// Text that is no serial number of a Pi.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Pi's serial number, which is 8 or 16 hexadecimal digits like 5b154510 or 100000005b154510")]
pub struct BadSerial;

impl FromStr for PiSerial {
    type Err = BadSerial;

    /// The last eight digits, or all sixteen as Linux shows them.
    fn from_str(text: &str) -> Result<Self, BadSerial> {
        let digits = matches!(text.len(), 8 | 16) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let low = text.len().checked_sub(8).and_then(|from| text.get(from..)).filter(|_| digits);
        low.and_then(|low| u32::from_str_radix(low, 16).ok()).map(Self).ok_or(BadSerial)
    }
}

impl fmt::Display for PiSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Serialize for PiSerial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A board revision code of the new style (bit 23 is set).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revision(pub u32);

impl Revision {
    /// The board, where it is one that we know: its type is in bits 4 to 11.
    pub fn board(self) -> Option<Board> {
        let is_new_style = self.0 & (1 << 23) != 0;
        let kind = self.0 >> 4 & 0xff;
        BOARDS.iter().find(|known| is_new_style && known.number == kind).map(Board)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

/// A kind of Pi.
#[derive(Clone, Copy, Debug)]
pub struct Board(&'static Kind);

#[derive(Debug)]
struct Kind {
    /// The type in a revision code (raspberrypi/documentation, revision-codes).
    number: u32,
    /// The name that config.txt's filters have for it.
    name: &'static str,
    /// What people call it.
    label: &'static str,
    /// What the device tree's `model` begins with.
    model: &'static str,
}

/// The kinds that can boot from a network.
const BOARDS: [Kind; 15] = [
    kind(0x04, "pi2", "Pi 2", "Raspberry Pi 2"),
    kind(0x08, "pi3", "Pi 3B", "Raspberry Pi 3 Model B Rev"),
    kind(0x0d, "pi3+", "Pi 3B+", "Raspberry Pi 3 Model B Plus"),
    kind(0x0e, "pi3+", "Pi 3A+", "Raspberry Pi 3 Model A Plus"),
    kind(0x0a, "cm3", "CM3", "Raspberry Pi Compute Module 3 Rev"),
    kind(0x10, "cm3+", "CM3+", "Raspberry Pi Compute Module 3 Plus"),
    kind(0x12, "pi02", "Pi Zero 2", "Raspberry Pi Zero 2"),
    kind(0x11, "pi4", "Pi 4B", "Raspberry Pi 4"),
    kind(0x13, "pi400", "Pi 400", "Raspberry Pi 400"),
    kind(0x15, "cm4s", "CM4S", "Raspberry Pi Compute Module 4S"),
    kind(0x14, "cm4", "CM4", "Raspberry Pi Compute Module 4"),
    kind(0x17, "pi5", "Pi 5", "Raspberry Pi 5"),
    kind(0x19, "pi500", "Pi 500", "Raspberry Pi 500"),
    kind(0x18, "cm5", "CM5", "Raspberry Pi Compute Module 5"),
    kind(0x1a, "cm5", "CM5 Lite", "Raspberry Pi Compute Module 5 Lite"),
];

const fn kind(number: u32, name: &'static str, label: &'static str, model: &'static str) -> Kind {
    Kind { number, name, label, model }
}

impl PartialEq for Board {
    fn eq(&self, other: &Self) -> bool {
        self.0.number == other.0.number
    }
}

impl Eq for Board {}

impl Board {
    /// By the device tree's `model`: the one of which it has most.
    pub fn of_model(model: &str) -> Option<Self> {
        let known = BOARDS.iter().filter(|kind| model.starts_with(kind.model));
        known.max_by_key(|kind| kind.model.len()).map(Self)
    }

    /// All names.
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<_> = BOARDS.iter().map(|kind| kind.name).collect();
        names.dedup();
        names
    }

    /// Whether its bootloader is in an EEPROM, and says in option 97 what it is.
    pub fn has_eeprom(self) -> bool {
        matches!(self.0.name, "pi4" | "pi400" | "cm4" | "cm4s" | "pi5" | "pi500" | "cm5")
    }

    /// Its name in config.txt's filters: `pi4`, `cm4`, `pi5` …
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What people call it.
    pub fn label(self) -> &'static str {
        self.0.label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials() {
        assert_eq!("9ffefdef".parse(), Ok(PiSerial(0x9ffe_fdef)));
        assert_eq!("100000009FFEFDEF".parse(), Ok(PiSerial(0x9ffe_fdef)));
        assert_eq!(PiSerial(0xbeef).to_string(), "0000beef");
        for wrong in ["", "9ffefde", "9ffefdeff", "+ffefdef", "9ffefdeg", "overlays", "é234567"] {
            assert_eq!(wrong.parse::<PiSerial>(), Err(BadSerial), "{wrong}");
        }
    }

    #[test]
    fn boards() {
        let of_revision = |code| Revision(code).board().map(Board::name);
        assert_eq!(of_revision(0xa0_3111), Some("pi4"));
        assert_eq!(of_revision(0xd0_3141), Some("cm4"));
        assert_eq!(of_revision(0xc0_4170), Some("pi5"));
        assert_eq!(of_revision(0x11), None, "a code of the old kind");
        assert_eq!(of_revision(0xa0_3ff1), None);
        let of_model = |model| Board::of_model(model).map(Board::label);
        assert_eq!(of_model("Raspberry Pi 4 Model B Rev 1.5"), Some("Pi 4B"));
        assert_eq!(of_model("Raspberry Pi 400 Rev 1.0"), Some("Pi 400"));
        assert_eq!(of_model("Raspberry Pi Compute Module 4S Rev 1.0"), Some("CM4S"));
        assert_eq!(of_model("Raspberry Pi Compute Module 5 Lite Rev 1.0"), Some("CM5 Lite"));
        assert_eq!(of_model("QEMU"), None);
    }
}
