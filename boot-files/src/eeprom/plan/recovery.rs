//! The folder for an SD card: the ROM starts recovery.bin from it, which flashes the EEPROM.

use super::Plan;
use super::folder::Folder;
use anyhow::Result;

/// Writes it.
///
/// # Errors
/// If a file cannot be written.
pub fn write(plan: &Plan, folder: &Folder) -> Result<()> {
    folder.write("recovery-on-sd/pieeprom.upd", plan.image.bytes())?;
    folder.write("recovery-on-sd/pieeprom.sig", plan.signature.as_bytes())?;
    if let Some(recovery) = &plan.recovery {
        folder.write("recovery-on-sd/recovery.bin", recovery)?;
    }
    Ok(())
}
