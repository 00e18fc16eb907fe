//! The sections of an EEPROM image: one after the other from its start, each with a header of two big-endian words, its
//! magic number and the length of what follows. The next begins at the next multiple of eight; 0 or `0xffffffff` ends them.

use super::image::ImageError;
use std::ops::Range;

/// The bits that all magic numbers have in common, and which bits those are.
const MAGIC: u32 = 0x55aa_f00f;
const MAGIC_MASK: u32 = 0xffff_f00f;
/// A file that may be replaced: name, four zero bytes, content.
const FILE: u32 = 0x55aa_f11f;
/// Compressed files of the bootloader itself, with a name too.
const COMPRESSED: [u32; 2] = [0x55aa_f33f, 0x55aa_f44f];
/// Nothing: erased bytes up to the next section.
const PADDING: u32 = 0x55aa_feef;
/// The magic number and the length.
pub const HEADER: usize = 8;
/// The bytes of a name, padded with zeros.
const NAME: usize = 12;
/// The bytes before a file's content that its length counts: the name and four zero bytes.
pub const FILE_HEADER: usize = NAME + 4;

/// What a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The code that the ROM starts, and whatever else has a magic number of its own.
    Code,
    /// A file that may be replaced.
    File,
    /// A compressed file of the bootloader.
    Compressed,
    /// Nothing.
    Padding,
}

/// A section whose bytes are all inside of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Where its header is: a multiple of eight.
    pub offset: usize,
    /// The bytes after the header.
    pub length: usize,
    /// What it is.
    pub kind: Kind,
    /// The name of a file; empty for everything else.
    pub name: String,
}

impl Section {
    /// Where the content of a file is.
    pub fn content(&self) -> Range<usize> {
        let start = self.offset.saturating_add(HEADER).saturating_add(FILE_HEADER);
        start..self.end().max(start)
    }

    /// Where its bytes end.
    pub fn end(&self) -> usize {
        self.offset.saturating_add(HEADER).saturating_add(self.length)
    }
}

/// All sections of an image, in their order.
///
/// # Errors
/// If there is none, or one has a wrong magic number, a wrong name, or reaches beyond the end.
pub fn walk(bytes: &[u8]) -> Result<Vec<Section>, ImageError> {
    let mut sections = Vec::new();
    let mut offset = 0;
    while let (Some(magic), Some(length)) = (word(bytes, offset), word(bytes, offset.saturating_add(4))) {
        if magic == 0 || magic == u32::MAX {
            break;
        }
        if magic & MAGIC_MASK != MAGIC {
            return Err(ImageError::Magic { offset, magic });
        }
        let section = read(bytes, offset, magic, length)?;
        offset = section.end().next_multiple_of(8);
        sections.push(section);
    }
    match sections.is_empty() {
        true => Err(ImageError::Empty),
        false => Ok(sections),
    }
}

fn read(bytes: &[u8], offset: usize, magic: u32, length: u32) -> Result<Section, ImageError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let start = offset.saturating_add(HEADER);
    let Some(payload) = start.checked_add(length).and_then(|end| bytes.get(start..end)) else {
        return Err(ImageError::Overrun { offset, length });
    };
    let kind = match magic {
        FILE => Kind::File,
        PADDING => Kind::Padding,
        magic if COMPRESSED.contains(&magic) => Kind::Compressed,
        _ => Kind::Code,
    };
    let name = match kind {
        Kind::File | Kind::Compressed => name(payload).ok_or(ImageError::Name { offset })?,
        Kind::Code | Kind::Padding => String::new(),
    };
    Ok(Section { offset, length, kind, name })
}

/// The name at the start of a file's payload. It is printed to people's terminals, so nothing but letters may be in it.
fn name(payload: &[u8]) -> Option<String> {
    let field = payload.get(..FILE_HEADER)?.get(..NAME)?;
    let (name, rest) = field.split_at(field.iter().position(|byte| *byte == 0).unwrap_or(NAME));
    let fits =
        !name.is_empty() && name.iter().all(u8::is_ascii_graphic) && rest.iter().all(|byte| *byte == 0);
    fits.then(|| String::from_utf8_lossy(name).into_owned())
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_be_bytes(word.try_into().ok()?))
}

/// The header of a padding section with `length` bytes after it.
pub fn padding_header(length: usize) -> [u8; HEADER] {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let word = (u64::from(PADDING) << 32) | u64::from(length);
    word.to_be_bytes()
}
