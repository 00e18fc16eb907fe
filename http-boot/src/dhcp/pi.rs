//! Which Raspberry Pi asks, by what its bootloader says of itself in option 97.
//!
//! Never by the first half of its MAC address: a Pi that runs an OS of its own, or a USB adapter, may ask under it, and a
//! bootloader may be told another address (`MAC_ADDRESS`).

use init::mac::Mac;

use super::message::{Message, code};

use crate::pi::Board;
pub use crate::pi::{BadSerial, PiSerial, Revision};

/// How option 97 was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `RPi4` or `RPi5`, in either byte order: a bootloader since 2020-03.
    FourCharacters,
    /// Another prefix (the EEPROM's `DHCP_OPTION97`), with the rest as it is there.
    OwnPrefix,
    /// The serial number four times: a bootloader before 2020-03, or `DHCP_OPTION97=0`.
    SerialFourTimes,
}

/// A bootloader that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bootloader {
    /// The Pi's serial number.
    pub serial: PiSerial,
    /// Its revision code, where it is said.
    pub revision: Option<Revision>,
    /// How it was said.
    pub form: Form,
    /// Option 97 as it came, to be echoed.
    pub machine: [u8; 17],
}

/// Who asks, as far as one message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A Pi's bootloader.
    Bootloader(Bootloader),
    /// The `init` of an image of ours: it says so as its vendor class.
    Init,
    /// Anything else: an OS on a Pi as well as a telephone. A Pi is known by the MAC address that its bootloader had.
    Other,
}

/// What `init` says as its vendor class (option 60).
pub const INIT_CLASS: &[u8] = b"lifeboat";
/// How the vendor class of a boot ROM begins (Intel's PXE specification 2.1).
pub const PXE_CLASS: &[u8] = b"PXEClient";

impl Who {
    /// Reads who sent a message.
    pub fn of(message: &Message) -> Self {
        let class = message.option(code::CLASS);
        let machine = message.option(code::CLIENT_MACHINE).and_then(|value| value.try_into().ok());
        if let Some(machine) = machine
            && let Some(found) = Bootloader::of(machine, message.mac, class)
        {
            return Self::Bootloader(found);
        }
        if class == Some(INIT_CLASS) { Self::Init } else { Self::Other }
    }
}

impl Bootloader {
    fn of(machine: [u8; 17], mac: Mac, class: Option<&[u8]>) -> Option<Self> {
        let (kind, words) = machine.split_first()?;
        let ([first, second, third, fourth], []) = words.as_chunks::<4>() else { return None };
        let revision = Revision(u32::from_le_bytes(*second));
        let serial = PiSerial(u32::from_le_bytes(*fourth));
        let [_, _, tail @ ..] = mac.0;
        let form = if matches!(first, b"RPi4" | b"4iPR" | b"RPi5" | b"5iPR") {
            Form::FourCharacters
        } else if *third == tail && revision.board().is_some_and(Board::has_eeprom) {
            Form::OwnPrefix
        } else if [second, third, fourth].into_iter().all(|word| word == first)
            && class.is_some_and(|class| class.starts_with(PXE_CLASS))
            // A PC whose maker wrote no UUID says the same byte sixteen times.
            && first.iter().any(|byte| Some(byte) != first.first())
        {
            Form::SerialFourTimes
        } else {
            return None;
        };
        let revision = Some(revision).filter(|_| form != Form::SerialFourTimes);
        (*kind == 0).then_some(Self { serial, revision, form, machine })
    }

    /// The board's name, or that it is not known.
    pub fn board(&self) -> &'static str {
        self.revision.and_then(Revision::board).map_or("Pi of an unknown kind", Board::label)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Kind, Reply};
    use super::*;

    /// A Pi's question: the options of the facts, in their order.
    fn ask(mac: Mac, machine: &[u8], class: Option<&[u8]>) -> Message {
        let mut message = Reply::question(Kind::Discover, 1, mac).with(code::CLIENT_MACHINE, machine);
        if let Some(class) = class {
            message = message.with(code::CLASS, class);
        }
        Message::parse(&message.done()).unwrap()
    }

    const ROM: Option<&[u8]> = Some(b"PXEClient:Arch:00000:UNDI:002001");
    const MAC: Mac = Mac([0xdc, 0xa6, 0x32, 0x2e, 0xf8, 0xed]);

    fn machine(words: [[u8; 4]; 4]) -> Vec<u8> {
        [&[0][..], &words.concat()].concat()
    }

    fn found(words: [[u8; 4]; 4], class: Option<&[u8]>) -> Option<(&'static str, String, Form)> {
        match Who::of(&ask(MAC, &machine(words), class)) {
            Who::Bootloader(found) => Some((found.board(), found.serial.to_string(), found.form)),
            _ => None,
        }
    }

    #[test]
    fn both_byte_orders_and_all_boards() {
        // The first two are from logs: a 4B of 2020 and one of 8 GB.
        let (tail, serial) = ([0x32, 0x2e, 0xf8, 0xed], [0x10, 0x45, 0x15, 0x5b]);
        for (name, revision, board) in [
            (b"RPi4", 0x00a0_3111_u32, "Pi 4B"),
            (b"4iPR", 0x00d0_3114, "Pi 4B"),
            (b"RPi4", 0x00c0_3130, "Pi 400"),
            (b"RPi4", 0x00b0_3141, "CM4"),
            (b"4iPR", 0x00a0_3150, "CM4S"),
            (b"RPi5", 0x00d0_4170, "Pi 5"),
            (b"5iPR", 0x00d0_4180, "CM5"),
            (b"5iPR", 0x00d0_4ff0, "Pi of an unknown kind"),
        ] {
            let words = [*name, revision.to_le_bytes(), tail, serial];
            let wanted = Some((board, "5b154510".to_owned(), Form::FourCharacters));
            assert_eq!(found(words, ROM), wanted);
            assert_eq!(found(words, None), wanted, "a REQUEST of 2020-01 says no class");
        }
    }

    #[test]
    fn a_custom_prefix_is_known_by_the_rest() {
        let rest = [[0x11, 0x31, 0xa0, 0], [0x32, 0x2e, 0xf8, 0xed], [1, 2, 3, 4]];
        let words = [*b"SITE", rest[0], rest[1], rest[2]];
        assert_eq!(found(words, ROM), Some(("Pi 4B", "04030201".into(), Form::OwnPrefix)));
        assert_eq!(found([*b"SITE", rest[0], [9; 4], rest[2]], ROM), None, "another's MAC address");
        assert_eq!(found([*b"SITE", [0x82, 0x20, 0xa0, 0], rest[1], rest[2]], ROM), None, "a Pi 3");
    }

    #[test]
    fn the_serial_four_times() {
        let words = [[0x10, 0x45, 0x15, 0x5b]; 4];
        let wanted = Some(("Pi of an unknown kind", "5b154510".to_owned(), Form::SerialFourTimes));
        assert_eq!(found(words, ROM), wanted);
        assert_eq!(found(words, None), None);
        for none in [[0; 4], [0xff; 4], [3; 4]] {
            assert_eq!(found([none; 4], ROM), None, "a PC without a UUID");
        }
    }

    #[test]
    fn others_are_not_pis() {
        let pc = machine([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]);
        assert_eq!(Who::of(&ask(MAC, &pc, ROM)), Who::Other, "a PC with a Pi's MAC address");
        let pi = machine([*b"RPi4", [0; 4], [0; 4], [0; 4]]);
        assert_eq!(Who::of(&ask(MAC, &pi[..16], ROM)), Who::Other);
        assert_eq!(Who::of(&ask(MAC, &[&[1], &pi[1..]].concat(), ROM)), Who::Other, "another type");
        assert_eq!(Who::of(&ask(MAC, b"x", Some(b"lifeboat"))), Who::Init);
        assert_eq!(Who::of(&ask(MAC, b"x", Some(b"lifeboats"))), Who::Other);
        assert_eq!(Who::of(&ask(MAC, b"x", Some(b"udhcp 1.36.1"))), Who::Other);
    }

    #[test]
    fn serials() {
        assert_eq!("5b154510".parse(), Ok(PiSerial(0x5b15_4510)));
        assert_eq!("100000005B154510".parse(), Ok(PiSerial(0x5b15_4510)));
        for bad in ["", "5b15451", "5b15451g", "0x5b154510", "dc:a6:32:01:36:c2", "+5b15451"] {
            assert_eq!(bad.parse::<PiSerial>(), Err(BadSerial), "{bad}");
        }
    }
}
