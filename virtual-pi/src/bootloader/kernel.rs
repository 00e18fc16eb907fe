//! The kernel as the firmware takes it: an arm64 `Image`, gzip around it or not.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;

use super::refusal::{Kind, Refusal};

/// The largest kernel, unpacked, in bytes.
pub const LIMIT: u64 = 256 << 20;
/// The shortest `Image`: its header.
const HEADER: usize = 64;

/// Unpacks a kernel if need be, and checks that it is one.
///
/// # Errors
/// [`Kind::BadKernel`].
pub fn unpack(name: &str, file: Vec<u8>) -> Result<Vec<u8>, Refusal> {
    let bad = |why: String| Refusal::new(Kind::BadKernel, format!("{name}: {why}"));
    let image = if file.starts_with(&[0x1f, 0x8b]) {
        let mut image = Vec::new();
        let unpacked = MultiGzDecoder::new(file.as_slice()).take(LIMIT + 1).read_to_end(&mut image);
        unpacked.map_err(|error| bad(format!("its gzip stream is damaged: {error}")))?;
        if image.len() as u64 > LIMIT {
            return Err(bad(format!("unpacked it has more than {} MiB", LIMIT >> 20)));
        }
        image
    } else {
        file
    };
    // Documentation/arch/arm64/booting.rst: the magic "ARM\x64" at offset 56.
    if image.len() < HEADER || image.get(0x38..0x3c) != Some(b"ARMd") {
        return Err(bad(format!("neither gzip nor an arm64 Image ({})", describe(&image))));
    }
    Ok(image)
}

/// What it may be instead, for those who have it at hand.
fn describe(image: &[u8]) -> &'static str {
    match image {
        [0x7f, b'E', b'L', b'F', ..] => "it is ELF: a vmlinux; the build's arch/arm64/boot/Image is wanted",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed with zstd, which the firmware does not unpack",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "it is compressed with xz, which the firmware does not unpack",
        [b'M', b'Z', _, _, b'z', b'i', b'm', b'g', ..] => {
            "it is an EFI zboot image, which the firmware does not unpack"
        }
        _ if image.get(0x24..0x28) == Some(&[0x18, 0x28, 0x6f, 0x01]) => "it is a 32-bit zImage",
        [] => "it is empty",
        _ => "it has no ARMd at offset 0x38",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn image() -> Vec<u8> {
        let mut image = vec![0; 5000];
        image[0x38..0x3c].copy_from_slice(b"ARMd");
        image
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_gzip() {
        assert_eq!(unpack("kernel8.img", image()).unwrap(), image());
        assert_eq!(unpack("kernel8.img", gzip(&image())).unwrap(), image());
    }

    #[test]
    fn what_is_no_kernel() {
        let error = |file: &[u8]| {
            let refusal = unpack("kernel8.img", file.to_vec()).unwrap_err();
            assert_eq!(refusal.kind, Kind::BadKernel);
            refusal.reason
        };
        assert!(error(b"").contains("it is empty"));
        assert!(error(&[0; 100]).contains("no ARMd"));
        assert!(error(&image()[..0x3c]).contains("no ARMd"));
        assert!(error(b"\x7fELF").contains("vmlinux"));
        assert!(error(&gzip(b"text")).contains("no ARMd"));
        assert!(error(&gzip(&image())[..40]).contains("damaged"));
        assert!(error(b"\x28\xb5\x2f\xfd").contains("zstd"));
        assert!(error(b"MZ\0\0zimg").contains("zboot"));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let zeroes = vec![0; 1 << 20];
        for _ in 0..=LIMIT >> 20 {
            encoder.write_all(&zeroes).unwrap();
        }
        assert!(unpack("k", encoder.finish().unwrap()).unwrap_err().reason.contains("more than 256 MiB"));
    }
}
