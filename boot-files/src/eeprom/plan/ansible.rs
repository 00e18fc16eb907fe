//! The variables of the Ansible role `pi_eeprom`.

use super::Plan;
use super::flashrom::{device, prerequisites};
use super::folder::Folder;
use crate::eeprom::image::Soc;
use anyhow::Result;
use std::fmt::Write;

/// Writes them, and the image.
///
/// # Errors
/// If a file cannot be written.
pub fn write(plan: &Plan, folder: &Folder) -> Result<()> {
    folder.write("ansible/pieeprom.bin", plan.image.bytes())?;
    folder.write("ansible/pieeprom.sig", plan.signature.as_bytes())?;
    folder.write("ansible/pi_eeprom.yml", variables(plan).as_bytes())
}

fn variables(plan: &Plan) -> String {
    let soc = match plan.board.soc() {
        Soc::Bcm2711 => "bcm2711",
        Soc::Bcm2712 => "bcm2712",
    };
    let mut text = format!(
        "---
# Variables of the role pi_eeprom, by `boot-files eeprom plan`. Paths are relative to this file.
pi_eeprom_board: {}
pi_eeprom_soc: {soc}
pi_eeprom_image: pieeprom.bin
pi_eeprom_image_sha256: {}
pi_eeprom_signature: pieeprom.sig
pi_eeprom_spi_device: {}
pi_eeprom_spi_speeds: [16000, 8000, 8000, 8000, 8000]
",
        plan.board.word(),
        plan.sha256,
        device(plan.board.soc()),
    );
    list(&mut text, "pi_eeprom_config_txt", prerequisites(plan.board));
    text.push_str("pi_eeprom_bootconf: |2\n");
    for line in plan.settings.lines() {
        // Settings are plain ASCII, so a block takes them as they are; an empty line needs no indent.
        let _ = if line.is_empty() { writeln!(text) } else { writeln!(text, "  {line}") };
    }
    text
}

fn list(text: &mut String, name: &str, values: &[&str]) {
    let quoted: Vec<_> = values.iter().map(|value| format!("\"{value}\"")).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name}: [{}]", quoted.join(", "));
}
