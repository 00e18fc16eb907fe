//! What a stream of bytes is, told by its first bytes and never by a name.

use std::fmt;

/// How an image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Not at all: what comes is what goes to the disk.
    Raw,
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// The .xz format.
    Xz,
    /// RFC 8878.
    Zstd,
}

/// Something that is no disk image, nor one packed in a way known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {advice}")]
pub struct NoImage {
    /// What it is.
    pub what: &'static str,
    /// What the person can do.
    pub advice: &'static str,
}

/// So many first bytes tell, where there are so many.
pub const LOOK: usize = 512;

const UNPACK: &str = "unpack it first and write the disk image that is in it";
const CONVERT: &str = "make a raw image of it first (qemu-img convert -O raw)";
const OTHERS: [(usize, &[u8], NoImage); 11] = [
    (0, b"PK\x03\x04", NoImage { what: "a zip archive", advice: UNPACK }),
    (257, b"ustar", NoImage { what: "a tar archive", advice: UNPACK }),
    (0, b"7z\xbc\xaf\x27\x1c", NoImage { what: "a 7z archive", advice: UNPACK }),
    (0, b"Rar!\x1a\x07", NoImage { what: "a rar archive", advice: UNPACK }),
    (0, b"LZIP", NoImage { what: "packed with lzip", advice: UNPACK }),
    (0, b"\x04\x22\x4d\x18", NoImage { what: "packed with lz4", advice: UNPACK }),
    (0, b"QFI\xfb", NoImage { what: "a qcow2 image", advice: CONVERT }),
    (0, b"KDMV", NoImage { what: "a vmdk image", advice: CONVERT }),
    (0, b"vhdxfile", NoImage { what: "a vhdx image", advice: CONVERT }),
    (
        0,
        b"\x3a\xff\x26\xed",
        NoImage { what: "an Android sparse image", advice: "unpack it first (simg2img)" },
    ),
    (0, b"\x7fELF", NoImage { what: "a program", advice: "is the name of the source right?" }),
];
const PAGE: NoImage =
    NoImage { what: "a web page", advice: "is the URL that of the image, or is a login page in between?" };

impl Format {
    /// What these bytes begin.
    ///
    /// # Errors
    /// What is surely no disk image.
    pub fn of(start: &[u8]) -> Result<Self, NoImage> {
        let at = |place: usize, magic: &[u8]| start.get(place..).is_some_and(|rest| rest.starts_with(magic));
        // zstd's skippable frames (pzstd begins with one) have sixteen magics.
        let skippable = matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        let bzip2 = at(0, b"BZh") && (at(4, b"1AY&SY") || at(4, b"\x17\x72\x45\x38\x50\x90"));
        if at(0, b"\xfd7zXZ\0") {
            return Ok(Format::Xz);
        } else if at(0, b"\x28\xb5\x2f\xfd") || skippable {
            return Ok(Format::Zstd);
        } else if at(0, b"\x1f\x8b\x08") {
            return Ok(Format::Gzip);
        } else if bzip2 {
            return Ok(Format::Bzip2);
        }
        if let Some((_, _, other)) = OTHERS.iter().find(|(place, magic, _)| at(*place, magic)) {
            return Err(*other);
        }
        let text: String = start.iter().take(64).map(|byte| char::from(byte.to_ascii_lowercase())).collect();
        let text = text.trim_start();
        if text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml") {
            return Err(PAGE);
        }
        Ok(Format::Raw)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Raw => "raw",
            Format::Gzip => "gzip",
            Format::Bzip2 => "bzip2",
            Format::Xz => "xz",
            Format::Zstd => "zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_image_is_named() {
        for (place, magic, other) in OTHERS {
            let mut bytes = vec![0; place];
            bytes.extend_from_slice(magic);
            assert_eq!(Format::of(&bytes), Err(other));
        }
        for page in ["<!DOCTYPE html>", "\r\n<html><head>", "<?xml version"] {
            assert_eq!(Format::of(page.as_bytes()), Err(PAGE));
        }
        assert_eq!(Format::of(b"BZhello"), Ok(Format::Raw));
        assert_eq!(Format::of(b""), Ok(Format::Raw));
        assert_eq!(Format::of(b"\x52\x2a\x4d\x18\x04"), Ok(Format::Zstd));
    }

    proptest! {
        #[test]
        fn any_bytes_are_something(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Format::of(&bytes);
        }

        /// What decides is within the first [`LOOK`] bytes.
        #[test]
        fn more_bytes_change_nothing(bytes in prop::collection::vec(any::<u8>(), LOOK..600)) {
            prop_assert_eq!(Format::of(&bytes), Format::of(&bytes[..LOOK]));
        }
    }
}
