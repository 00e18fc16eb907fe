//! The folder for `rpiboot`: a computer at the Pi's USB port flashes the EEPROM. It works with every Pi that has one, whatever
//! its EEPROM holds.

use super::Plan;
use super::folder::Folder;
use crate::eeprom::image::Soc;
use anyhow::Result;

/// What recovery.bin does when it is done: blink, as a person is there.
const CONFIG_TXT: &str = "# Messages on the serial console.
uart_2ndstage=1
";

/// Writes it.
///
/// # Errors
/// If a file cannot be written.
pub fn write(plan: &Plan, folder: &Folder) -> Result<()> {
    folder.write("rpiboot/pieeprom.bin", plan.image.bytes())?;
    folder.write("rpiboot/pieeprom.sig", plan.signature.as_bytes())?;
    folder.write("rpiboot/boot.conf", plan.settings.as_bytes())?;
    folder.write("rpiboot/config.txt", CONFIG_TXT.as_bytes())
}

/// The file of usbboot that has to be beside ours: recovery.bin under the name that the ROM asks for.
pub fn needed(soc: Soc) -> (&'static str, &'static str) {
    match soc {
        Soc::Bcm2711 => ("bootcode4.bin", "recovery/bootcode4.bin"),
        Soc::Bcm2712 => ("bootcode5.bin", "recovery5/bootcode5.bin"),
    }
}
