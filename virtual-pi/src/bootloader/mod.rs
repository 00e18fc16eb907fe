//! The boot up to the first instruction of the kernel: boot modes HTTP and NETWORK of a Pi 4's bootloader, then its firmware.
//!
//! Words in the log that are not after `virtual-pi:` are the real bootloader's.

pub mod boot_files;
pub mod config;
pub mod dhcp;
pub mod eeprom;
pub mod firmware;
pub mod http;
pub mod kernel;
pub mod log;
pub mod modes;
pub mod network;
pub mod ramdisk;
pub mod refusal;
pub mod signature;
pub mod tftp;
pub mod tls;
pub mod transport;
pub mod version;

use crate::board::Pi;
use firmware::Boot;
use http::Source;
use log::Log;
use ramdisk::Ramdisk;
use refusal::{Kind, Refusal, Stage};
use signature::PublicKey;
use transport::{HostNetwork, Transport};

/// The largest boot.img, in bytes.
pub const IMAGE_LIMIT: u64 = 128 << 20;
/// The largest boot.sig, in bytes.
pub const SIG_LIMIT: u64 = 64 << 10;

/// Boot mode HTTP (07), and no other, over this machine's network: fetches boot.sig and boot.img, checks them, and loads what is in
/// them.
///
/// # Errors
/// What the real Pi would not boot, in its words where they are known.
pub fn http_boot(pi: &Pi, source: &Source, key: &PublicKey, log: &mut Log) -> Result<Boot, Refusal> {
    log.line("Boot mode: HTTP (07) order 0");
    http_boot_over(&mut HostNetwork, pi, source, key, log)
}

/// The same over any network.
fn http_boot_over(
    network: &mut dyn Transport,
    pi: &Pi,
    source: &Source,
    key: &PublicKey,
    log: &mut Log,
) -> Result<Boot, Refusal> {
    log.note(format_args!(
        "{} (revision {:x}), serial {}, {}",
        pi.board.model(),
        pi.revision(),
        pi.serial,
        pi.mac
    ));
    let mut fetch = |file: &str, limit, log: &mut Log| {
        http::fetch(pi, source, network, (file, limit), log).inspect_err(|refusal| {
            if refusal.kind == Kind::TooLarge {
                log.line(format_args!("File is too large. Max size {limit}"));
            }
            if let Some(number) = refusal.kind.error_number() {
                log.line(format_args!("Error {number} loading {file}"));
            }
        })
    };
    let loaded = (|| {
        let sig = fetch("boot.sig", SIG_LIMIT, log)?;
        log.line("Loading boot.img ...");
        let image = fetch("boot.img", IMAGE_LIMIT, log)?;
        boot_files(pi, &image, &sig, key, log)
    })();
    loaded.inspect_err(|refusal| say(refusal, log))
}

/// The same checks on files that are here already.
///
/// # Errors
/// What the real Pi would not boot.
pub fn check_files(
    pi: &Pi,
    image: &[u8],
    sig: &[u8],
    key: &PublicKey,
    log: &mut Log,
) -> Result<Boot, Refusal> {
    let too_large = [("boot.sig", sig, SIG_LIMIT), ("boot.img", image, IMAGE_LIMIT)]
        .into_iter()
        .find(|(_, content, limit)| content.len() as u64 > *limit);
    let checked = match too_large {
        Some((name, _, limit)) => {
            log.line(format_args!("File is too large. Max size {limit}"));
            Err(Refusal::new(Kind::TooLarge, format!("{name}: File is too large. Max size {limit}")))
        }
        None => boot_files(pi, image, sig, key, log),
    };
    checked.inspect_err(|refusal| say(refusal, log))
}

fn boot_files(pi: &Pi, image: &[u8], sig: &[u8], key: &PublicKey, log: &mut Log) -> Result<Boot, Refusal> {
    signature::verify(image, sig, key, log)?;
    firmware::load(pi, &mut Ramdisk::open(image)?, log)
}

/// Loads from a boot.img whose signature nobody asks for.
///
/// # Errors
/// What the real Pi would not boot.
pub fn load_unsigned(pi: &Pi, image: &[u8], log: &mut Log) -> Result<Boot, Refusal> {
    Ramdisk::open(image)
        .and_then(|mut disk| firmware::load(pi, &mut disk, log))
        .inspect_err(|refusal| say(refusal, log))
}

fn say(refusal: &Refusal, log: &mut Log) {
    log.note(&refusal.reason);
    if let Some(led) = refusal.kind.led() {
        log.line(format_args!("BOOT ERROR: code {}{}", led.long, led.short));
        log.note(format_args!("the LED shows {led}"));
    }
    if refusal.stage == Stage::Bootloader
        && matches!(refusal.kind, Kind::NotFound | Kind::Download | Kind::TooLarge | Kind::Signature)
    {
        log.note("the bootloader advances to the next boot mode of BOOT_ORDER, if there is one");
    }
}
