//! `pieeprom.bin`: the image of a bootloader EEPROM, and the files in it that may be replaced. All other bytes stay as
//! they are (held by `an_edit_leaves_every_other_byte_alone`).

use super::section::{self, FILE_HEADER, HEADER, Kind, Section};
use std::fmt;

/// No file in an image has more content than this: one erase block less its header.
pub const CONTENT_LIMIT: usize = 4076;
/// The smallest image, in bytes.
pub const SMALLEST: usize = 512 << 10;
/// The largest image, in bytes.
pub const LARGEST: usize = 2 << 20;
/// The bytes at the end that the bootloader writes to.
const RESERVED: usize = 4 << 10;
/// An A/B image: what is read-only, and what one of its halves has.
const READ_ONLY: usize = 64 << 10;
const HALF: usize = 988 << 10;
/// The file whose presence makes an A/B image.
const BOOTSYS: &str = "bootsys";

/// The settings.
pub const BOOTCONF: &str = "bootconf.txt";
/// Their signature, for a locked bootloader.
pub const BOOTCONF_SIG: &str = "bootconf.sig";
/// The public key that HTTP boot and signed boot check by.
pub const PUBKEY: &str = "pubkey.bin";
/// The certificate authority for HTTPS.
pub const CACERT: &str = "cacert.der";
/// When the image was last changed.
pub const UPDATETIME: &str = "updatetime";

/// The chip that an image is for. Only the size tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Soc {
    /// Raspberry Pi 4, 400, CM4: 512 KiB.
    Bcm2711,
    /// Raspberry Pi 5, 500, CM5: 2 MiB.
    Bcm2712,
}

impl fmt::Display for Soc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Soc::Bcm2711 => "BCM2711 (Pi 4, 400, CM4)",
            Soc::Bcm2712 => "BCM2712 (Pi 5, 500, CM5)",
        })
    }
}

/// Why bytes are no EEPROM image, or one cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Its size is that of no EEPROM.
    #[error(
        "it has {0} bytes: an EEPROM image has 524288 (Pi 4, CM4) or 2097152 (Pi 5, CM5); this one is cut, or none"
    )]
    Size(usize),
    /// It begins with no section.
    #[error("it has no sections: it is erased, or no EEPROM image")]
    Empty,
    /// A header with a wrong magic number.
    #[error("it is damaged at byte {offset:#x}: {magic:#010x} does not begin a section")]
    Magic {
        /// Where.
        offset: usize,
        /// What is there.
        magic: u32,
    },
    /// A section that reaches beyond the end.
    #[error("it is damaged: the section at byte {offset:#x} has {length} bytes, which reach beyond its end")]
    Overrun {
        /// Where.
        offset: usize,
        /// What its header says.
        length: usize,
    },
    /// A file whose name is none.
    #[error("it is damaged: the file at byte {offset:#x} has no name that can be read")]
    Name {
        /// Where.
        offset: usize,
    },
    /// A file that is not in it.
    #[error("it has no {0}: it is damaged, or of a bootloader that is too old for it")]
    Missing(&'static str),
    /// A file that is in it twice.
    #[error("it has {0} twice, and which of them the bootloader reads is not known: nothing is changed")]
    Twice(&'static str),
    /// A layout in which a change would lose something.
    #[error(
        "its layout is not one that is known: putting {0} into it would lose another file, so nothing is changed"
    )]
    Layout(&'static str),
    /// Content for which there is no room.
    #[error("{name} would have {length} bytes: the image has room for {room}")]
    TooLong {
        /// The file.
        name: &'static str,
        /// What it would have.
        length: usize,
        /// What it can have.
        room: usize,
    },
}

/// An image whose sections are all inside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    bytes: Vec<u8>,
    soc: Soc,
    sections: Vec<Section>,
}

impl Image {
    /// Checks an image's bytes.
    ///
    /// # Errors
    /// A wrong size, a wrong section.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ImageError> {
        let soc = match bytes.len() {
            SMALLEST => Soc::Bcm2711,
            LARGEST => Soc::Bcm2712,
            size => return Err(ImageError::Size(size)),
        };
        let sections = section::walk(&bytes)?;
        Ok(Image { bytes, soc, sections })
    }

    /// The chip that it is for.
    pub fn soc(&self) -> Soc {
        self.soc
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its sections, in their order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Whether a Pi 5 keeps two copies of its bootloader by it, one to run and one to update.
    pub fn is_ab(&self) -> bool {
        self.soc == Soc::Bcm2712 && self.sections.iter().any(|section| section.name == BOOTSYS)
    }

    /// The content of a file; the first, if there are two. An empty slot of a stock image is full of zeros: that is no content.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        let section = self.sections.iter().find(|it| it.kind == Kind::File && it.name == name)?;
        let content = self.bytes.get(section.content())?;
        content.iter().any(|byte| *byte != 0).then_some(content)
    }

    /// How many bytes of content a file can have.
    ///
    /// # Errors
    /// If it is not there, or twice.
    pub fn room(&self, name: &'static str) -> Result<usize, ImageError> {
        let index = self.index(name)?;
        let start = self.sections.get(index).map_or(usize::MAX, |section| section.content().start);
        Ok(self.slot_end(index).saturating_sub(start).min(CONTENT_LIMIT))
    }

    /// Replaces the content of a file.
    ///
    /// # Errors
    /// If it is not there, or twice, or there is no room. The image is as before then.
    pub fn replace(&mut self, name: &'static str, content: &[u8]) -> Result<(), ImageError> {
        let index = self.index(name)?;
        let room = self.room(name)?;
        let Some(section) = self.sections.get(index).filter(|_| content.len() <= room) else {
            return Err(ImageError::TooLong { name, length: content.len(), room });
        };
        let (offset, start) = (section.offset, section.content().start);
        let length = u32::try_from(content.len().saturating_add(FILE_HEADER)).unwrap_or(u32::MAX);
        let is_last = index.saturating_add(1) == self.sections.len();
        let slot = slot(content, self.slot_end(index).saturating_sub(start), is_last);
        let mut bytes = self.bytes.clone();
        put(&mut bytes, offset.saturating_add(4), &length.to_be_bytes());
        put(&mut bytes, start, &slot);
        let after = Image::parse(bytes)?;
        if !after.landmarks().eq(self.landmarks()) {
            return Err(ImageError::Layout(name));
        }
        *self = after;
        Ok(())
    }

    /// When it was last changed, in seconds since 1970, if anybody said so.
    pub fn update_timestamp(&self) -> Option<u32> {
        let at = self.timestamp_offset()?;
        let (inverse, seconds) = self.bytes.get(at..at.checked_add(8)?)?.split_at(4);
        let word = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_le_bytes);
        let seconds = word(seconds)?;
        // A stock image has zeros and their inverse in its place for it: no time.
        (word(inverse)? == !seconds && seconds != u32::MAX).then_some(seconds)
    }

    /// Says when it was changed, in seconds since 1970: first all bits the other way round, then as they are.
    ///
    /// # Errors
    /// If the place for it is damaged.
    pub fn set_update_timestamp(&mut self, seconds: u32) -> Result<(), ImageError> {
        let at = self.timestamp_offset().ok_or(ImageError::Missing(UPDATETIME))?;
        put(&mut self.bytes, at, &[(!seconds).to_le_bytes(), seconds.to_le_bytes()].concat());
        Ok(())
    }

    /// An A/B image has a file for it. In all others it is at the very end: the reference leaves an `updatetime` in those
    /// alone (held by the golden tests).
    fn timestamp_offset(&self) -> Option<usize> {
        let file = self.sections.iter().find(|it| it.kind == Kind::File && it.name == UPDATETIME);
        match file.filter(|_| self.is_ab()) {
            Some(section) if section.content().len() >= 8 => Some(section.content().start),
            Some(_) => None,
            None => self.bytes.len().checked_sub(8),
        }
    }

    /// Everything but padding: what a change must not move or lose.
    fn landmarks(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = self.sections.iter().filter(|section| section.kind != Kind::Padding);
        all.map(|section| (section.offset, section.name.as_str()))
    }

    fn index(&self, name: &'static str) -> Result<usize, ImageError> {
        let mut found =
            self.sections.iter().enumerate().filter(|(_, it)| it.kind == Kind::File && it.name == name);
        let (index, _) = found.next().ok_or(ImageError::Missing(name))?;
        match found.next() {
            None => Ok(index),
            Some(_) => Err(ImageError::Twice(name)),
        }
    }

    /// Where the room of a section ends: where the next one begins that is no padding, or what is reserved.
    fn slot_end(&self, index: usize) -> usize {
        let offset = self.sections.get(index).map_or(0, |section| section.offset);
        let later = self.sections.iter().skip(index.saturating_add(1));
        let next = later.filter(|it| it.kind != Kind::Padding).map(|it| it.offset).next();
        let half = READ_ONLY.saturating_add(HALF);
        let limit = match self.is_ab() && offset < half {
            true => half,
            false => self.bytes.len().saturating_sub(RESERVED),
        };
        next.unwrap_or(limit).min(limit)
    }
}

/// What a file's slot of `length` bytes holds after its header: the content, and erased bytes. Those are a section of their
/// own where another one follows, so that it is found. The reference leaves the header away where eight bytes are left,
/// and what follows is lost (ours: `content_of_any_length_keeps_the_files_that_follow`).
fn slot(content: &[u8], length: usize, is_last: bool) -> Vec<u8> {
    let mut slot = content.to_vec();
    slot.resize(content.len().next_multiple_of(8).min(length), 0xff);
    let left = length.saturating_sub(slot.len());
    if left >= HEADER && !is_last {
        slot.extend(section::padding_header(left.saturating_sub(HEADER)));
    }
    slot.resize(length, 0xff);
    slot
}

/// Overwrites bytes. All callers have computed the place from a checked section; beyond the end nothing is written.
fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    let place = at.checked_add(new.len()).and_then(|end| bytes.get_mut(at..end));
    if let Some(place) = place {
        place.copy_from_slice(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STOCK: &[u8] = include_bytes!("../../tests/data/eeprom/pieeprom-2711-2026-05-17.bin");
    const FILES: [&str; 4] = [PUBKEY, CACERT, BOOTCONF_SIG, BOOTCONF];

    fn stock() -> Image {
        Image::parse(STOCK.to_vec()).unwrap()
    }

    /// An image for BCM2712 as the layout tells; no real one was there to look at.
    fn made_2712(ab: bool) -> Image {
        let mut bytes = vec![0xff; LARGEST];
        let mut at = 0;
        let section = |bytes: &mut Vec<u8>, at: &mut usize, magic: u32, name: &str, length: usize| {
            put(bytes, *at, &magic.to_be_bytes());
            put(bytes, *at + 4, &u32::try_from(length).unwrap().to_be_bytes());
            if !name.is_empty() {
                put(bytes, *at + 8, &[0; FILE_HEADER]);
                put(bytes, *at + 8, name.as_bytes());
            }
            *at = (*at + HEADER + length).next_multiple_of(8);
        };
        section(&mut bytes, &mut at, 0x55aa_f00f, "", READ_ONLY - 16);
        section(&mut bytes, &mut at, 0x55aa_feef, "", 0);
        if ab {
            section(&mut bytes, &mut at, 0x55aa_f11f, BOOTSYS, 100_000);
            section(&mut bytes, &mut at, 0x55aa_f11f, UPDATETIME, FILE_HEADER + 8);
        }
        section(&mut bytes, &mut at, 0x55aa_f11f, PUBKEY, 280);
        section(&mut bytes, &mut at, 0x55aa_f11f, BOOTCONF, 100);
        Image::parse(bytes).unwrap()
    }

    #[test]
    fn a_stock_image_has_its_files_and_no_keys() {
        let image = stock();
        assert_eq!(image.soc(), Soc::Bcm2711);
        assert!(!image.is_ab());
        assert!(image.file(BOOTCONF).unwrap().starts_with(b"[all]\nBOOT_UART=0\n"));
        assert_eq!([PUBKEY, CACERT, BOOTCONF_SIG].map(|name| image.file(name)), [None; 3]);
        assert_eq!(image.update_timestamp(), None);
        // The slot of cacert.der has 0x900 bytes; the reference counts its header four bytes short and would take 2284.
        assert_eq!(image.room(CACERT), Ok(0x900 - 24));
        assert_eq!(image.room(BOOTCONF), Ok(CONTENT_LIMIT));
    }

    #[test]
    fn other_bytes_are_refused_with_a_reason() {
        for size in [0, 1, 0x7_ffff, 0x8_0001, 1 << 20] {
            assert_eq!(Image::parse(vec![0; size]), Err(ImageError::Size(size)));
        }
        assert_eq!(Image::parse(vec![0xff; 0x8_0000]), Err(ImageError::Empty));
        let broken = |at: usize, new: &[u8]| {
            let mut bytes = STOCK.to_vec();
            put(&mut bytes, at, new);
            Image::parse(bytes).unwrap_err()
        };
        assert_eq!(broken(0, b"MZ"), ImageError::Magic { offset: 0, magic: 0x4d5a_f00f });
        assert_eq!(broken(0x72e00, b"\0\x01"), ImageError::Magic { offset: 0x72e00, magic: 0x0001_f11f });
        assert_eq!(broken(0x72e04, &[0xff; 4]), ImageError::Overrun { offset: 0x72e00, length: 0xffff_ffff });
        assert_eq!(broken(0x72e08, b"\x1b[2J"), ImageError::Name { offset: 0x72e00 });
        assert_eq!(broken(0x72e04, &[0, 0, 0, 3]), ImageError::Name { offset: 0x72e00 });
    }

    #[test]
    fn what_is_too_long_is_refused_and_changes_nothing() {
        let mut image = stock();
        for (name, room) in [(BOOTCONF, CONTENT_LIMIT), (CACERT, 2280), (BOOTCONF_SIG, 1256), (PUBKEY, 744)] {
            let length = room + 1;
            assert_eq!(
                image.replace(name, &vec![b'x'; length]),
                Err(ImageError::TooLong { name, length, room })
            );
            assert_eq!(image, stock());
            image.clone().replace(name, &vec![b'x'; room]).unwrap();
        }
        assert_eq!(image.replace("boot", b""), Err(ImageError::Missing("boot")));
    }

    #[test]
    fn content_of_any_length_keeps_the_files_that_follow() {
        for length in 2240..=2280 {
            let mut image = stock();
            image.replace(CACERT, &vec![b'x'; length]).unwrap();
            assert_eq!(image.file(CACERT).unwrap().len(), length);
            assert!(image.file(BOOTCONF).is_some(), "{length}");
        }
    }

    #[test]
    fn the_timestamp_is_at_the_end_or_in_the_file_of_an_ab_image() {
        let written = [(!1_790_000_000_u32).to_le_bytes(), 1_790_000_000_u32.to_le_bytes()].concat();
        let ab = made_2712(true);
        let file = ab.sections().iter().find(|section| section.name == UPDATETIME).unwrap().content().start;
        for (before, at) in [(stock(), SMALLEST - 8), (made_2712(false), LARGEST - 8), (ab, file)] {
            let mut after = before.clone();
            assert_eq!(after.update_timestamp(), None);
            after.set_update_timestamp(1_790_000_000).unwrap();
            assert_eq!(after.update_timestamp(), Some(1_790_000_000));
            assert_eq!(after.bytes()[at..at + 8], written);
            assert_eq!(after.bytes()[..at], before.bytes()[..at]);
            assert_eq!(after.bytes()[at + 8..], before.bytes()[at + 8..]);
        }
    }

    #[test]
    fn the_half_of_an_ab_image_is_not_left() {
        let mut image = made_2712(true);
        assert!(image.is_ab() && image.soc() == Soc::Bcm2712);
        image.replace(BOOTCONF, b"[all]\n").unwrap();
        let half = READ_ONLY + HALF;
        assert_eq!(image.bytes()[half..], made_2712(true).bytes()[half..]);
        assert_eq!(image.slot_end(image.sections().len() - 1), half);
        let plain = made_2712(false);
        assert!(!plain.is_ab());
        assert_eq!(plain.slot_end(plain.sections().len() - 1), LARGEST - RESERVED);
    }

    #[test]
    fn a_layout_in_which_a_file_would_be_lost_is_left_alone() {
        // Padding that begins in one half and ends in the other, before a file.
        let (mut bytes, half) = (made_2712(true).bytes, READ_ONLY + HALF);
        let end = made_2712(true).sections.last().unwrap().end().next_multiple_of(8);
        put(&mut bytes, end, &section::padding_header(half + 800 - end - HEADER));
        put(&mut bytes, half + 800, &[0x55, 0xaa, 0xf1, 0x1f, 0, 0, 0, 24]);
        put(&mut bytes, half + 808, b"other\0\0\0\0\0\0\0\0\0\0\0");
        let mut image = Image::parse(bytes).unwrap();
        assert_eq!(image.replace(BOOTCONF, b"[all]\n"), Err(ImageError::Layout(BOOTCONF)));
    }

    #[test]
    fn a_file_that_is_there_twice_is_not_changed() {
        let mut bytes = STOCK.to_vec();
        put(&mut bytes, 0x72908, b"bootconf.txt");
        let mut image = Image::parse(bytes).unwrap();
        assert_eq!(image.replace(BOOTCONF, b""), Err(ImageError::Twice(BOOTCONF)));
    }

    proptest! {
        #[test]
        fn an_edit_leaves_every_other_byte_alone(
            which in 0..FILES.len(),
            content in proptest::collection::vec(any::<u8>(), 0..4200),
        ) {
            let name = FILES[which];
            let (before, mut after) = (stock(), stock());
            let index = before.index(name).unwrap();
            let slot = before.sections[index].offset + 4..before.slot_end(index);
            let fits = content.len() <= before.room(name).unwrap();
            prop_assert_eq!(after.replace(name, &content).is_ok(), fits);
            prop_assert_eq!(&after.bytes[..slot.start], &before.bytes[..slot.start]);
            prop_assert_eq!(&after.bytes[slot.end..], &before.bytes[slot.end..]);
            for other in FILES.into_iter().filter(|other| *other != name) {
                prop_assert_eq!(after.file(other), before.file(other));
                prop_assert_eq!(after.room(other), before.room(other));
            }
            if fits {
                prop_assert_eq!(&after.bytes[after.sections[index].content()], &content[..]);
                // Back to what it was: byte for byte what it was, but for the name and the content.
                after.replace(name, &before.bytes[before.sections[index].content()]).unwrap();
                prop_assert_eq!(after, before);
            }
        }

        #[test]
        fn no_change_of_bytes_panics(changes in proptest::collection::vec((0..0x8_0000_usize, any::<u8>()), 1..40)) {
            let mut bytes = STOCK.to_vec();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if let Ok(mut image) = Image::parse(bytes) {
                let _ = image.update_timestamp();
                let _ = image.replace(BOOTCONF, b"BOOT_ORDER=0xf1\n");
            }
        }

        #[test]
        fn no_change_of_a_header_panics(which in any::<prop::sample::Index>(), header in any::<[u8; 24]>(), from in 0..24_usize) {
            let mut bytes = STOCK.to_vec();
            let sections = section::walk(&bytes).unwrap();
            let at = sections[which.index(sections.len())].offset;
            bytes[at + from..at + 24].copy_from_slice(&header[from..]);
            if let Ok(mut image) = Image::parse(bytes) {
                let _ = image.set_update_timestamp(1);
                let _ = image.replace(PUBKEY, &[1; 264]);
            }
        }
    }
}
