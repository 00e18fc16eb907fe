//! The folder for flashrom: a script that writes the EEPROM while the Pi's own OS runs.

use super::Plan;
use super::folder::Folder;
use crate::eeprom::board::Board;
use crate::eeprom::image::Soc;
use anyhow::Result;

const SCRIPT: &str = include_str!("flash.sh");

/// Writes it.
///
/// # Errors
/// If a file cannot be written.
pub fn write(plan: &Plan, folder: &Folder) -> Result<()> {
    folder.write("flashrom/pieeprom.bin", plan.image.bytes())?;
    folder.write("flashrom/flash.sh", script(plan.board, &plan.sha256).as_bytes())?;
    folder.make_executable("flashrom/flash.sh")
}

/// The SPI device of the EEPROM.
pub fn device(soc: Soc) -> &'static str {
    match soc {
        Soc::Bcm2711 => "/dev/spidev0.0",
        Soc::Bcm2712 => "/dev/spidev10.0",
    }
}

/// What config.txt needs before there is such a device.
pub fn prerequisites(board: Board) -> &'static [&'static str] {
    match board {
        Board::Cm4 => &["[cm4]", "dtparam=spi=on", "dtoverlay=audremap", "dtoverlay=spi-gpio40-45"],
        Board::Pi4 => &["[pi4]", "dtparam=spi=on", "dtoverlay=audremap", "dtoverlay=spi-gpio40-45"],
        Board::Pi5 | Board::Cm5 => &[],
    }
}

fn script(board: Board, sha256: &str) -> String {
    let soc = match board.soc() {
        Soc::Bcm2711 => "bcm2711",
        Soc::Bcm2712 => "bcm2712",
    };
    let lines = prerequisites(board).join(" ");
    SCRIPT
        .replace("@DEVICE@", device(board.soc()))
        .replace("@SHA256@", sha256)
        .replace("@SOC@", soc)
        .replace("@CONFIG@", if lines.is_empty() { "nothing that is known" } else { &lines })
}
