//! The boards, and how the filters of `bootconf.txt` name them.

use super::image::Soc;
use std::fmt;

/// A board that `plan` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Board {
    /// Raspberry Pi 4 Model B and 400.
    Pi4,
    /// Compute Module 4.
    Cm4,
    /// Raspberry Pi 5 and 500.
    Pi5,
    /// Compute Module 5.
    Cm5,
}

impl Board {
    /// All of them.
    pub const ALL: [Board; 4] = [Board::Pi4, Board::Cm4, Board::Pi5, Board::Cm5];

    /// Its chip.
    pub fn soc(self) -> Soc {
        match self {
            Board::Pi4 | Board::Cm4 => Soc::Bcm2711,
            Board::Pi5 | Board::Cm5 => Soc::Bcm2712,
        }
    }

    /// Whether it is a Compute Module: its disk is soldered on, and it starts no recovery.bin from that.
    pub fn is_module(self) -> bool {
        matches!(self, Board::Cm4 | Board::Cm5)
    }

    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Board::Pi4 => "pi4",
            Board::Cm4 => "cm4",
            Board::Pi5 => "pi5",
            Board::Cm5 => "cm5",
        }
    }

    /// Whether lines below the filter `[model]` are for it. `[pi4]` and `[pi5]` are for all boards with their chip.
    pub fn has_model(self, model: &str) -> bool {
        match self {
            Board::Pi4 => model == "pi4",
            Board::Cm4 => model == "pi4" || model == "cm4",
            Board::Pi5 => model == "pi5",
            Board::Cm5 => model == "pi5" || model == "cm5",
        }
    }

    /// Its type in the revision code, by which `[board-type=0x14]` filters.
    pub fn board_type(self) -> u32 {
        match self {
            Board::Pi4 => 0x11,
            Board::Cm4 => 0x14,
            Board::Pi5 => 0x17,
            Board::Cm5 => 0x18,
        }
    }
}

impl fmt::Display for Board {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Board::Pi4 => "Pi 4",
            Board::Cm4 => "CM4",
            Board::Pi5 => "Pi 5",
            Board::Cm5 => "CM5",
        })
    }
}
