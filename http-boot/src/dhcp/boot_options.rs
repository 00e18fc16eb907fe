//! What a bootloader is told of the boot files: the options by which it takes an offer.
//!
//! It takes one that has option 43 with the text that it looks for (`PXE_OPTION43` in the EEPROM), or option 66 with an IPv4
//! address as text; `siaddr` alone makes it ask for ever. We give all three.

use std::net::Ipv4Addr;

use super::message::{Reply, code};
use super::pi::PXE_CLASS;

/// Option 43 as dnsmasq's `pxe-service=0,"Raspberry Pi Boot"` writes it, byte for byte (Intel's PXE specification 2.1).
pub const VENDOR_OPTIONS: [u8; 32] = *b"\
    \x06\x01\x03\
    \x0a\x04\x00PXE\
    \x09\x14\x00\x00\x11Raspberry Pi Boot\
    \xff";

/// Adds them; `machine`: the bootloader's option 97, which it wants back.
pub fn add(reply: Reply, files: Ipv4Addr, machine: &[u8]) -> Reply {
    add_server(reply, files)
        .with(code::CLASS, PXE_CLASS)
        .with(code::CLIENT_MACHINE, machine)
        .with(code::VENDOR_OPTIONS, &VENDOR_OPTIONS)
}

/// Adds the address of the server with the files, in both places.
pub fn add_server(reply: Reply, files: Ipv4Addr) -> Reply {
    reply.next_server(files).with(code::TFTP_SERVER, files.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_43_is_as_in_the_logs() {
        let golden = "0601030a0400505845091400001152617370626572727920506920426f6f74ff";
        let written: String = VENDOR_OPTIONS.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, golden);
        let mut rest = &VENDOR_OPTIONS[..];
        let mut codes = Vec::new();
        while let [code, length, tail @ ..] = rest {
            codes.push((*code, usize::from(*length)));
            rest = &tail[usize::from(*length)..];
        }
        assert_eq!((codes, rest), (vec![(6, 1), (10, 4), (9, 20)], &[0xff][..]));
    }
}
