//! Where the next start goes, as far as a Pi's firmware lets one choose: a partition number, and `tryboot`, handed over
//! as the argument of reboot(2). Sources: Raspberry Pi's documentation of the EEPROM boot flow ("Fail-safe OS updates");
//! in its kernel tree `drivers/watchdog/bcm2835_wdt.c` (the number goes into PM_RSTS) and `drivers/firmware/raspberrypi.c`
//! (` tryboot` goes to the firmware's mailbox). The mainline kernel, which is Debian's, has neither. Not proven on a board.

use std::path::Path;
use std::str::FromStr;

use crate::refusal::refused;

/// 63 means "halt" to the firmware; 0 is its own choice.
const LAST_PARTITION: u8 = 62;

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// This rescue again.
    Rescue,
    /// The system on the disk.
    Disk,
    /// What the firmware has a word for.
    Firmware {
        /// The partition to boot from; 0: the firmware's choice.
        partition: u8,
        /// Whether `tryboot.txt` stands in for `config.txt`, once.
        tryboot: bool,
    },
}

impl FromStr for Into {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let partition = |text: &str| {
            let number = text.parse::<u8>().ok().filter(|number| *number <= LAST_PARTITION);
            number.ok_or_else(|| {
                format!(
                    "{text:?} is not rescue, disk, tryboot or a partition's number from 1 to {LAST_PARTITION}"
                )
            })
        };
        match text {
            "rescue" => Ok(Into::Rescue),
            "disk" => Ok(Into::Disk),
            "tryboot" => Ok(Into::Firmware { partition: 0, tryboot: true }),
            // As Raspberry Pi OS takes it: `reboot '0 tryboot'`.
            text => match text.split_once(' ') {
                Some((number, "tryboot")) => {
                    Ok(Into::Firmware { partition: partition(number)?, tryboot: true })
                }
                _ => Ok(Into::Firmware { partition: partition(text)?, tryboot: false }),
            },
        }
    }
}

/// What decides whether it is possible.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// The device tree's `model`.
    model: String,
    /// The kernel's release.
    kernel: String,
    /// The driver that only Raspberry Pi's kernel has.
    has_mailbox: bool,
    /// The boot mode that the bootloader came by: a figure of `BOOT_ORDER`.
    boot_mode: Option<u32>,
}

impl Board {
    /// This one.
    pub fn here() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mode = std::fs::read("/proc/device-tree/chosen/bootloader/boot-mode").ok();
        Board {
            model: text("/proc/device-tree/model").trim_end_matches('\0').to_string(),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_string(),
            has_mailbox: Path::new("/dev/vcio").exists(),
            boot_mode: mode.and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?))),
        }
    }

    /// The argument of reboot(2) that leads there.
    ///
    /// # Errors
    /// [`Refused`](crate::refusal::Refused), with the reason and another way, where nothing does.
    pub fn argument(&self, into: Into) -> anyhow::Result<String> {
        let not_here = |why: String| Err(refused(format!("not possible here: {why}")));
        match into {
            Into::Rescue => not_here(format!(
                "the firmware has no word for a start from the network; the EEPROM's BOOT_ORDER decides{}. Without --into \
                 the machine goes by that order",
                self.came_by()
            )),
            Into::Disk => not_here(
                "the firmware has no word for it; the EEPROM's BOOT_ORDER decides. `rescue boot` goes into a disk's system \
                 from here; --into NUMBER names a partition of the disk that the firmware finds"
                    .into(),
            ),
            Into::Firmware { .. } if !self.model.starts_with("Raspberry Pi") => {
                not_here(format!("{:?} is no Raspberry Pi, whose firmware takes such a word", self.model))
            }
            Into::Firmware { .. } if !self.is_raspberry_kernel() => not_here(format!(
                "the kernel {} does not pass it on: only Raspberry Pi's own does (the image's kernel package \
                 decides)",
                self.kernel
            )),
            Into::Firmware { partition, tryboot: true } => Ok(format!("{partition} tryboot")),
            Into::Firmware { partition, tryboot: false } => Ok(partition.to_string()),
        }
    }

    fn came_by(&self) -> String {
        match self.boot_mode {
            Some(7) => " (this time it led to HTTP)".into(),
            Some(2) => " (this time it led to TFTP)".into(),
            Some(mode) => format!(" (this time it led to boot mode {mode})"),
            None => String::new(),
        }
    }

    /// `6.12.47+rpt-rpi-v8` is Raspberry Pi OS', `6.12.47-v8+` of their tree.
    fn is_raspberry_kernel(&self) -> bool {
        self.has_mailbox || self.kernel.contains("rpi") || self.kernel.contains("-v8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pi(kernel: &str) -> Board {
        Board {
            model: "Raspberry Pi 4 Model B Rev 1.4".into(),
            kernel: kernel.into(),
            boot_mode: Some(7),
            ..Board::default()
        }
    }

    fn argument(board: &Board, into: &str) -> Result<String, String> {
        board.argument(into.parse()?).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_raspberry_pis_kernel_passes_on() {
        let board = pi("6.12.47+rpt-rpi-v8");
        for (into, word) in
            [("tryboot", "0 tryboot"), ("0 tryboot", "0 tryboot"), ("2", "2"), ("3 tryboot", "3 tryboot")]
        {
            assert_eq!(argument(&board, into).unwrap(), word);
        }
    }

    #[test]
    fn what_is_not_possible_says_why_and_what_is() {
        let debian = pi("6.12.48+deb13-arm64");
        for (board, into, says) in [
            (&debian, "rescue", "this time it led to HTTP"),
            (&debian, "disk", "rescue boot"),
            (&debian, "tryboot", "6.12.48+deb13-arm64 does not pass it on"),
            (&Board::default(), "2", "no Raspberry Pi"),
        ] {
            let error = argument(board, into).unwrap_err();
            assert!(error.starts_with("not possible here: ") && error.contains(says), "{error}");
        }
        for bad in ["63", "-1", "usb", "2 now", "", " tryboot"] {
            assert!(argument(&debian, bad).unwrap_err().contains("is not rescue, disk, tryboot"), "{bad}");
        }
    }
}
