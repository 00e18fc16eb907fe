//! The Pi's own secret: the private key in its one-time programmable memory, asked for through the firmware's mailbox.
//!
//! What is said here comes from public sources: Raspberry Pi's documentation of the mailbox call (tag, layout, an example
//! of an answer, which the test below has) and `rpi-otp-private-key` in github.com/raspberrypi/rpi-eeprom, which prints the
//! same bytes. Not tried on a board: docs/hardware.md has the steps. `/dev/vcio` is a driver of Raspberry Pi's kernels;
//! Debian's kernel does not have it.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ring::hkdf::{HKDF_SHA256, Salt};
use rustix::ioctl::{Opcode, Updater, opcode};

/// The mailbox.
pub const MAILBOX_PATH: &str = "/dev/vcio";
/// "Get private key".
const TAG: u32 = 0x0003_0081;
/// The rows of 32 bits of a Pi 4's private key. A Pi 5 has twice as many; the first ones are as good there.
const ROWS: usize = 8;
/// The value's bytes: offset, number of rows, rows.
const VALUE: u32 = 8 + 4 * ROWS as u32;
/// Header of message and tag, the value, the end tag.
const WORDS: usize = 5 + 2 + ROWS + 1;
/// The firmware's answer to a message, and to a tag in it, has the highest bit set.
const ANSWER: u32 = 1 << 31;
/// `_IOWR(100, 0, char *)`: what the driver's only call is.
const PROPERTY: Opcode = opcode::read_write::<*mut u8>(100, 0);
/// Changing either changes every host key.
const SALT: &[u8] = b"Pi Lifeboat";
const INFO: &[u8] = b"SSH host key, Ed25519, 1";

type Message = [u32; WORDS];

/// What only this Pi knows.
pub struct Secret([u8; 4 * ROWS]);

/// Asks the firmware. None: this Pi has no mailbox, or nobody has programmed its key.
pub fn read(mailbox: &Path) -> Result<Option<Secret>> {
    if !mailbox.exists() {
        return Ok(None);
    }
    let context = || format!("asking {} for the private key in OTP", mailbox.display());
    let file = OpenOptions::new().read(true).write(true).open(mailbox).with_context(context)?;
    let mut message = question();
    // SAFETY: the driver reads and writes as many bytes as the message's first word says, which is its size.
    #[allow(unsafe_code)]
    unsafe { rustix::ioctl::ioctl(file.as_fd(), Updater::<PROPERTY, Message>::new(&mut message)) }
        .with_context(context)?;
    answer(&message).with_context(context)
}

fn question() -> Message {
    let mut message = [0; WORDS];
    let head = [4 * WORDS as u32, 0, TAG, VALUE, VALUE, 0, ROWS as u32];
    message.iter_mut().zip(head).for_each(|(word, value)| *word = value);
    message
}

fn answer(message: &Message) -> Result<Option<Secret>> {
    let [_, code, tag, _, length, _, _, rows @ .., _] = message;
    ensure!(*code == ANSWER, "the firmware answered {code:#x}");
    ensure!(*tag == TAG && *length == ANSWER | VALUE, "the firmware does not know this question");
    let mut secret = [0; 4 * ROWS];
    for (bytes, row) in secret.chunks_exact_mut(4).zip(rows) {
        bytes.copy_from_slice(&row.to_be_bytes());
    }
    Ok(secret.iter().any(|byte| *byte != 0).then_some(Secret(secret)))
}

impl Secret {
    /// The seed of the Ed25519 host key: HKDF (RFC 5869) with SHA-256, so that the key says nothing of the secret.
    pub fn host_key_seed(&self) -> Result<[u8; 32]> {
        let derive = || {
            let mut seed = [0; 32];
            Salt::new(HKDF_SHA256, SALT).extract(&self.0).expand(&[INFO], HKDF_SHA256)?.fill(&mut seed)?;
            Ok::<_, ring::error::Unspecified>(seed)
        };
        derive().ok().context("deriving the host key from the private key in OTP")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Raspberry Pi's documentation.
    const DOCUMENTED: Message = [
        0x40,
        0x8000_0000,
        0x0003_0081,
        0x28,
        0x8000_0028,
        0,
        8,
        0xf8db_c7b0,
        0xa4fc_fb1d,
        0x706e_298a,
        0xc9d0_485c,
        0x2226_ce8d,
        0xf7f7_596a,
        0xc773_37bd,
        0x09fb_e160,
        0,
    ];

    #[test]
    fn the_question_is_that_of_the_documentation() {
        assert_eq!(question(), [0x40, 0, 0x0003_0081, 40, 40, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(PROPERTY, 0xc008_6400);
    }

    #[test]
    fn the_answer_gives_the_key_that_rpi_otp_private_key_prints() {
        let secret = answer(&DOCUMENTED).unwrap().unwrap();
        let hex: String = secret.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "f8dbc7b0a4fcfb1d706e298ac9d0485c2226ce8df7f7596ac77337bd09fbe160");
        // `openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:f8db… -kdfopt salt:'Pi Lifeboat'
        //  -kdfopt info:'SSH host key, Ed25519, 1' HKDF`
        let seed: String = secret.host_key_seed().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(seed, "faa4b068c557d435d2732ca6968870c51d8c17441978838be8b8ef3b2b4bcfa4");
    }

    #[test]
    fn zeroes_are_no_key_and_refusals_are_errors() {
        let mut message = DOCUMENTED;
        message[7..15].fill(0);
        assert!(answer(&message).unwrap().is_none());
        for (word, value) in [(1, 0x8000_0001), (1, 0), (4, 40), (4, 0x8000_0000), (2, 1)] {
            let mut message = DOCUMENTED;
            message[word] = value;
            assert!(answer(&message).is_err(), "word {word}: {value:#x}");
        }
    }

    #[test]
    fn a_machine_without_a_mailbox_has_none() {
        assert!(read(Path::new("/nowhere/vcio")).unwrap().is_none());
        // A file that is no mailbox.
        assert!(read(Path::new("/dev/null")).is_err());
    }
}
