//! The boot up to the first instruction of the kernel: boot mode HTTP of a Pi 4's bootloader, then its firmware.
//!
//! Words in the log that are not after `virtual-pi:` are the real bootloader's.

pub mod config;
pub mod firmware;
pub mod http;
pub mod kernel;
pub mod log;
pub mod ramdisk;
pub mod refusal;
pub mod signature;
pub mod version;

use crate::board::Pi;
use firmware::Boot;
use http::Source;
use log::Log;
use ramdisk::Ramdisk;
use refusal::{Kind, Refusal};
use signature::PublicKey;

/// The largest boot.img, in bytes.
pub const IMAGE_LIMIT: u64 = 128 << 20;
/// The largest boot.sig, in bytes.
pub const SIG_LIMIT: u64 = 64 << 10;

/// Boot mode HTTP (07): fetches boot.sig and boot.img, checks them, and loads what is in them.
///
/// # Errors
/// What the real Pi would not boot, in its words where they are known.
pub fn http_boot(pi: &Pi, source: &Source, key: &PublicKey, log: &mut Log) -> Result<Boot, Refusal> {
    log.line("Boot mode: HTTP (07) order 0");
    log.note(format_args!(
        "{} (revision {:x}), serial {}, {}",
        pi.board.model(),
        pi.revision(),
        pi.serial,
        pi.mac
    ));
    let fetch = |file: &str, limit, log: &mut Log| {
        http::fetch(pi, source, file, limit, log).inspect_err(|refusal| {
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
    firmware::load(pi, &Ramdisk::open(image)?, log)
}

/// Loads from a boot.img whose signature nobody asks for.
///
/// # Errors
/// What the real Pi would not boot.
pub fn load_unsigned(pi: &Pi, image: &[u8], log: &mut Log) -> Result<Boot, Refusal> {
    Ramdisk::open(image)
        .and_then(|disk| firmware::load(pi, &disk, log))
        .inspect_err(|refusal| say(refusal, log))
}

fn say(refusal: &Refusal, log: &mut Log) {
    log.note(&refusal.reason);
    if let Some(led) = refusal.kind.led() {
        log.line(format_args!("BOOT ERROR: code {}{}", led.long, led.short));
        log.note(format_args!("the LED shows {led}"));
    }
    if matches!(refusal.kind, Kind::NotFound | Kind::Download | Kind::TooLarge | Kind::Signature) {
        log.note("the bootloader would advance to the next boot mode of BOOT_ORDER; virtual-pi has no other and ends");
    }
}
