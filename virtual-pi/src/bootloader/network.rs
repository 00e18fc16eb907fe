//! Boot mode NETWORK (2): DHCP, then the files of a TFTP server, in the order in which a Pi 4 asks for them (facts, section 3).

use std::thread;
use std::time::{Duration, Instant};

use super::boot_files::BootFiles;
use super::config::Config;
use super::dhcp::{self, Lease, Want};
use super::eeprom::Eeprom;
use super::firmware::{self, Boot};
use super::log::Log;
use super::ramdisk::Ramdisk;
use super::refusal::{Kind, Refusal, Stage};
use super::tftp::TftpFolder;
use crate::board::Pi;
use crate::wire::Stack;

/// What the bootloader looks for after config.txt and before start4.elf: its own update, and NOOBS.
const LOOKED_FOR: [&str; 3] = ["pieeprom.sig", "recover4.elf", "recovery.elf"];
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(5);

/// Boots from the network, as often as `NET_BOOT_MAX_RETRIES` says; no try begins after `end`.
///
/// # Errors
/// That of the last try.
pub fn boot(
    pi: &Pi,
    eeprom: &Eeprom,
    stack: &mut Stack,
    end: Instant,
    log: &mut Log,
) -> Result<Boot, Refusal> {
    let mut tries = 0_u32;
    loop {
        match once(pi, eeprom, stack, log) {
            Err(refusal)
                if refusal.stage == Stage::Bootloader
                    && eeprom.net_boot_max_retries.is_none_or(|most| tries < most)
                    && Instant::now() + PAUSE < end =>
            {
                log.note(format_args!("{refusal}; again in {} s", PAUSE.as_secs()));
                thread::sleep(PAUSE);
                tries += 1;
            }
            result => return result,
        }
    }
}

fn once(pi: &Pi, eeprom: &Eeprom, stack: &mut Stack, log: &mut Log) -> Result<Boot, Refusal> {
    if eeprom.signed_boot {
        return Err(Refusal::new(
            Kind::NotFound,
            "SIGNED_BOOT=1 and TFTP do not go together on a BCM2712, and nobody knows about a Pi 4: use HTTP",
        ));
    }
    let lease = address(pi, eeprom, stack, Want::BootFiles, log)?;
    let server = eeprom.tftp_ip.or(lease.tftp).ok_or_else(|| {
        Refusal::new(
            Kind::NoAddress,
            "nobody said where the boot files are (TFTP_IP, or DHCP's option 66 or 43)",
        )
    })?;
    let mut folder = TftpFolder::new(stack, server, eeprom, eeprom.tftp_prefix.of(pi));
    if !folder.has("start4.elf", log)? && !folder.has("start.elf", log)? {
        folder.drop_prefix();
    }
    let config = folder.read("config.txt", log)?.unwrap_or_default();
    // At this stage `include` does nothing, and the log has told of the file's faults later.
    let config = Config::parse(&config, pi, &mut |_, _| None, &mut Log::new(std::io::sink()));
    for name in LOOKED_FOR {
        folder.has(name, log)?;
    }
    if config.number("boot_ramdisk") == Some(1) {
        let image = folder.read("boot.img", log)?.ok_or_else(|| {
            Refusal::new(Kind::NotFound, "boot_ramdisk=1, and there is no boot.img on the TFTP server")
        })?;
        log.read("boot.img", image.len());
        return firmware::load(pi, &mut Ramdisk::open(&image)?, log);
    }
    firmware::load(pi, &mut folder, log)
}

/// An address, from the EEPROM or by DHCP; `stack` has it from now on.
///
/// # Errors
/// With [`Kind::NoAddress`] where there is none.
pub fn address(
    pi: &Pi,
    eeprom: &Eeprom,
    stack: &mut Stack,
    want: Want,
    log: &mut Log,
) -> Result<Lease, Refusal> {
    let lease = match (eeprom.fixed, eeprom.tftp_ip) {
        (Some(fixed), tftp) => Lease {
            address: fixed.address,
            prefix: fixed.prefix,
            router: fixed.router,
            dns: Vec::new(),
            tftp,
        },
        // Where TFTP_IP says who has the files, an ordinary offer is enough.
        (None, Some(_)) => dhcp::ask(pi, eeprom, stack, Want::Address, log)?,
        (None, None) => dhcp::ask(pi, eeprom, stack, want, log)?,
    };
    stack.configure(lease.address, lease.prefix, lease.router, &lease.dns);
    log.note(format_args!("the Pi has {}/{}", lease.address, lease.prefix));
    Ok(lease)
}
