//! `BOOT_ORDER`: one boot mode after the other, until one boots.

use std::time::Instant;

use boot_files::eeprom::boot_order::{BootOrder, Mode};

use super::dhcp::Want;
use super::eeprom::Eeprom;
use super::firmware::Boot;
use super::log::Log;
use super::refusal::{Kind, Refusal, Stage};
use super::transport::HostNetwork;
use super::{http_boot_over, network};
use crate::board::Pi;
use crate::wire::Stack;

/// How the Pi is connected.
#[derive(Debug)]
pub enum Cable {
    /// By this machine's own network, for HTTP alone.
    Host,
    /// With a cable of its own.
    Own(Box<Stack>),
}

/// What was loaded, and by which boot mode: the device tree's `boot-mode`.
#[derive(Clone, Debug)]
pub struct Booted {
    /// What is in memory.
    pub boot: Boot,
    /// The boot mode's number.
    pub mode: u32,
}

/// Goes through the boot order; begins anew where it says so, but not after `end`.
///
/// # Errors
/// The refusal of the last boot mode that has one.
pub fn boot(
    pi: &Pi,
    eeprom: &Eeprom,
    cable: &mut Cable,
    end: Instant,
    log: &mut Log,
) -> Result<Booted, Refusal> {
    let modes = eeprom.boot_order.modes();
    let mut refusal =
        Refusal::new(Kind::NotFound, format!("BOOT_ORDER={} has nothing to boot from", eeprom.boot_order));
    let mut restarts = 0;
    loop {
        for (at, mode) in modes.iter().enumerate() {
            let result = match mode {
                Mode::Http => {
                    say(log, "HTTP", 7, eeprom.boot_order, at);
                    over_http(pi, eeprom, cable, log).map(|boot| Booted { boot, mode: 7 })
                }
                Mode::Network => {
                    say(log, "NETWORK", 2, eeprom.boot_order, at);
                    over_network(pi, eeprom, cable, end, log).map(|boot| Booted { boot, mode: 2 })
                }
                Mode::Stop => return Err(refusal),
                Mode::Restart => break,
                other => {
                    log.note(format_args!("boot mode {other}: this Pi has no such thing"));
                    continue;
                }
            };
            match result {
                Ok(booted) => return Ok(booted),
                Err(why) if goes_on(&why, *mode) => refusal = why,
                Err(why) => return Err(why),
            }
        }
        let again = modes.contains(&Mode::Restart) && eeprom.max_restarts.is_none_or(|most| restarts < most);
        if !again || Instant::now() >= end {
            return Err(refusal);
        }
        restarts += 1;
        log.note(format_args!("begins anew ({restarts})"));
        // A boot order of nothing but "begin anew" would keep a core busy.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// `order` is what is left of `BOOT_ORDER` after this mode.
fn say(log: &mut Log, name: &str, number: u32, order: BootOrder, at: usize) {
    let digits = order.to_string();
    let digits = digits.trim_start_matches("0x");
    let left =
        digits.get(..digits.len().saturating_sub(at + 1)).filter(|left| !left.is_empty()).unwrap_or("0");
    log.line(format_args!("Boot mode: {name} ({number:02}) order {left}"));
}

/// Whether the bootloader goes on to its next boot mode after this. Otherwise it blinks.
fn goes_on(refusal: &Refusal, mode: Mode) -> bool {
    if refusal.stage == Stage::Start4 {
        return false;
    }
    match refusal.kind {
        Kind::NotFound | Kind::Download | Kind::TooLarge | Kind::Signature | Kind::NoAddress => true,
        // A TFTP server without start4.elf is no boot server.
        Kind::Firmware => mode == Mode::Network,
        _ => false,
    }
}

fn over_http(pi: &Pi, eeprom: &Eeprom, cable: &mut Cable, log: &mut Log) -> Result<Boot, Refusal> {
    let source = eeprom.http.as_ref().ok_or_else(|| {
        Refusal::new(
            Kind::NotFound,
            "HTTP without HTTP_HOST asks Raspberry Pi's own server, which virtual-pi does not",
        )
    })?;
    let key = eeprom.public_key.as_ref().ok_or_else(|| {
        Refusal::new(Kind::Signature, "there is no public key in the EEPROM: boot.sig is checked with Raspberry Pi's own, which is none of yours")
    })?;
    match cable {
        Cable::Host => http_boot_over(&mut HostNetwork, pi, source, key, log),
        Cable::Own(stack) => {
            network::address(pi, eeprom, stack, Want::Address, log)?;
            http_boot_over(stack.as_mut(), pi, source, key, log)
        }
    }
}

fn over_network(
    pi: &Pi,
    eeprom: &Eeprom,
    cable: &mut Cable,
    end: Instant,
    log: &mut Log,
) -> Result<Boot, Refusal> {
    match cable {
        Cable::Own(stack) => network::boot(pi, eeprom, stack, end, log),
        Cable::Host => Err(Refusal::new(Kind::NoAddress, "NETWORK needs a cable of the Pi's own: --bridge")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_after_start4_elf() {
        let refusal = Refusal::new(Kind::Download, "the kernel did not come");
        assert!(goes_on(&refusal, Mode::Network));
        assert!(!goes_on(&refusal.of_start4(), Mode::Network));
    }
}
