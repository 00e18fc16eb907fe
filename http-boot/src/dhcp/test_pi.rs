//! The questions of a Pi 4B's bootloader, as captures have them, and the interface that they come in on; for tests.

use init::mac::Mac;
use std::net::Ipv4Addr;

use super::interface::Interface;
use super::message::{Kind, Reply, code};

pub(super) const MAC: Mac = Mac([0xdc, 0xa6, 0x32, 0x2e, 0xf8, 0xed]);
pub(super) const MACHINE: [u8; 17] = *b"\0RPi4\x11\x31\xa0\0\x32\x2e\xf8\xed\x10\x45\x15\x5b";

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// `eth0`, 192.0.2.1/24.
pub(super) fn interface() -> Interface {
    Interface { name: "eth0".into(), index: 2, mac: Mac([2, 0, 0, 0, 0, 1]), addresses: vec![(SERVER, 24)] }
}

/// Its question of this kind: flags 0, seconds 0, options in its order.
pub(super) fn question(kind: Kind, id: u32) -> Reply {
    let wanted = [1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135];
    Reply::question(kind, id, MAC)
        .with(code::PARAMETER_LIST, &wanted)
        .with(code::CLIENT_ARCHITECTURE, &[0, 0])
        .with(code::CLIENT_INTERFACE, &[1, 2, 1])
        .with(code::CLIENT_MACHINE, &MACHINE)
        .with(code::CLASS, b"PXEClient:Arch:00000:UNDI:002001")
}
