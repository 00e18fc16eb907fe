//! README.txt of a plan: which way to take, what the settings do, how to go back, and what to know before.

use super::Plan;
use super::flashrom::{device, prerequisites};
use super::rpiboot::needed;
use crate::eeprom::board::Board;
use crate::eeprom::boot_order::Mode;
use crate::eeprom::image::Soc;
use std::fmt::Write;

/// The text.
pub fn text(plan: &Plan) -> String {
    let mut text = head(plan);
    text.push_str(&order(plan));
    text.push_str(&ways(plan));
    text.push_str(&back(plan));
    text.push_str(TRAPS);
    if plan.board.soc() == Soc::Bcm2712 {
        text.push_str(
            "* An image for BCM2712 (Pi 5, CM5) made by this program has not been tried on a real board.\n",
        );
    }
    text.push_str("\nWHAT A CHECK OF THE IMAGE SAYS\n\n");
    match plan.findings.is_empty() {
        true => text.push_str("Nothing was found.\n"),
        false => plan.findings.iter().for_each(|finding| push(&mut text, &format!("{finding}\n"))),
    }
    text
}

fn head(plan: &Plan) -> String {
    let key = match &plan.key {
        Some(sha256) => format!("yours; SHA-256 of its DER: {sha256}"),
        None => "none: the Pi takes only what Raspberry Pi has signed".to_owned(),
    };
    let certificate = match &plan.wanted.certificate_hash {
        Some(hash) => format!("yours; SHA-256 {hash}"),
        None => "none: plain HTTP, and boot.sig alone tells the Pi whom to trust".to_owned(),
    };
    format!(
        "HTTP BOOT FOR A {}

This folder was made by `boot-files eeprom plan`. The image in it, SHA-256 {},
has the settings in boot.conf and makes the Pi fetch

    {}
    {}

The public key is {key}.
The certificate authority is {certificate}.

FIRST: try it on a Pi within your reach. Have a second way in (rpiboot over USB) before you flash one that is far away.

",
        plan.board.to_string().to_uppercase(),
        plan.sha256,
        plan.wanted.url("boot.sig"),
        plan.wanted.url("boot.img"),
    )
}

fn order(plan: &Plan) -> String {
    let order = plan.wanted.order;
    let mut text = format!("WHERE IT LOOKS FOR AN OS\n\nBOOT_ORDER={order} is read from right to left:\n\n");
    for (mode, number) in order.modes().iter().zip(1..) {
        push(&mut text, &format!("    {number}. {mode}\n"));
    }
    if order.modes().first() == Some(&Mode::Http) {
        text.push_str(
            "
The network comes first, so the server decides: where it has an image for this Pi, that is booted; where it answers 404, or
does not answer at all, the Pi goes on to its disk. A dead server costs a start the time that the bootloader waits for it.
Put a disk first (1 on the right, 0xf71) only where somebody can take the disk out: a disk that has boot files and a broken
OS is started again and again, and what comes after it is never reached. The eMMC of a Compute Module cannot be taken out.
",
        );
    }
    text.push_str(
        "The f on the left begins all over again, for ever: a Pi whose server comes back in an hour boots then. rpiboot (3) waits for
ever: it may only be the last.

",
    );
    text
}

fn ways(plan: &Plan) -> String {
    let (name, source) = needed(plan.board.soc());
    let jumper = match plan.board {
        Board::Cm4 | Board::Cm5 => {
            "Set the jumper that pulls nRPIBOOT low (\"disable eMMC boot\"), connect the carrier's\n   USB slave port, power on"
        }
        Board::Pi4 => "A Pi 4 has no such pin until one is set in its OTP: take the SD card instead",
        Board::Pi5 => "Hold the power button while you plug in the USB-C cable",
    };
    let mut text = format!(
        "THE WAYS IN: TAKE ONE

1. rpiboot/: over USB, from another computer. The way for a bare module; works whatever the EEPROM holds.
   One file of Raspberry Pi's usbboot has to be beside ours; it is in https://github.com/raspberrypi/usbboot, and in
   the package rpiboot (/usr/share/rpiboot instead of usbboot):

       cp usbboot/{source} rpiboot/{name}
       sudo rpiboot -d rpiboot

   {jumper}. When it is flashed, the LED blinks steadily.
   Take the jumper away and power it off and on.

",
    );
    let recovery = match &plan.recovery {
        Some(_) => "",
        None => {
            "   recovery.bin is missing there: it is in the package rpi-eeprom\n   (/usr/lib/firmware/raspberrypi/bootloader-2711 or -2712, folder default).\n"
        }
    };
    push(&mut text, &format!(
        "2. recovery-on-sd/: with an SD card. Copy all files onto a card's FAT partition, put it in, power on. The ROM starts
   recovery.bin, which flashes pieeprom.upd, renames itself to recovery.000, and resets.
{recovery}   The ROM looks on SD cards only, never on USB disks or the network; a Compute Module with eMMC does not look at all.

"
    ));
    let lines = prerequisites(plan.board);
    let config = match lines.is_empty() {
        true => format!("   It needs {}.\n", device(plan.board.soc())),
        false => format!(
            "   It needs {}; for that config.txt has to have, before a reboot:\n\n       {}\n\n",
            device(plan.board.soc()),
            lines.join("\n       ")
        ),
    };
    push(&mut text, &format!(
        "3. flashrom/: on the running Pi, also from afar. Copy the folder to it and run `sudo ./flash.sh` there. It saves what is in
   the EEPROM, writes, reads back and compares, up to 5 times.
{config}   NOT SAFE AGAINST A POWER CUT: a Pi that loses power while it writes needs way 1 or 2. If it says that it failed, do
   not reboot: run it again. The lines of config.txt are known for the CM4; for other boards they are likely and untried.

4. ansible/: pi_eeprom.yml has the variables for the role pi_eeprom, which does what way 3 does, for many.

"
    ));
    text
}

fn back(plan: &Plan) -> String {
    format!(
        "HOW TO GO BACK

* flash.sh left backup-SERIAL.bin beside itself: `sudo ./flash.sh backup-SERIAL.bin` puts it back.
* A Pi that does not start at all: way 1 with the image of Raspberry Pi's instead of ours (as rpiboot/pieeprom.bin, with
  `boot-files eeprom digest -i pieeprom.bin -o pieeprom.sig`), or way 2 where there is a card slot.
* Only the settings were wrong: make a plan anew with another folder, {}.

",
        match plan.board.is_module() {
            true => "and flash that by way 1 or 3",
            false => "and flash that by way 2 or 3",
        }
    )
}

const TRAPS: &str = "WHAT TO KNOW BEFORE

* A stock update (rpi-eeprom-update, or an upgrade of the package rpi-eeprom) keeps boot.conf and LOSES the public key and the
  certificate: HTTP boot is over then. FREEZE_VERSION=1 in the settings keeps it away. To update, make a plan anew from the
  newer image.
* The bootloader can update itself from TFTP, USB or a disk. That is not atomic and not for a Pi that is far away:
  ENABLE_SELF_UPDATE=0 in the settings switches it off.
* On a Compute Module a network that comes last is never reached while its eMMC has boot files.
* NET_INSTALL_AT_POWER_ON=1, which stock images have, asks for a keyboard at each power-on: it is 0 in the settings.
* Nothing but a write-protected EEPROM is safe against whoever is root on the Pi.
* The server has to answer with Content-Length, without redirects, and sign boot.img with your key (boot.sig). A missing
  boot.sig counts as no image, and the next place is tried. The bootloader of 2025-08-27 was seen to stop at a 404 instead.
* The bootloader knows no VLAN: the switch port has to be untagged, and must not block at first (spanning tree: edge port).
";

fn push(text: &mut String, more: &str) {
    // Writing to a String cannot fail.
    let _ = text.write_str(more);
}
