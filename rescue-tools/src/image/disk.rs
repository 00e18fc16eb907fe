//! The writing itself. Both ends of the disk, a MiB each, are zeroes from the first moment on and get their bytes last,
//! against proof that the source was right: a disk that was half written, for whatever reason, has no partition table (a
//! GPT's copy is at the end), and nothing boots from it.

use anyhow::{Context, Result, bail};
use init::size::human;

use super::medium::Medium;
use super::verify::Verified;

/// What is held back at each end: more than a partition table and the boot code behind it.
pub const END: u64 = 1 << 20;
/// What is all zeroes, in pieces of this size, is not sent over the bus.
const GRAIN: usize = 64 << 10;
static ZEROES: [u8; GRAIN] = [0; GRAIN];

/// A disk being written from its first byte to its last.
pub struct Disk<'m> {
    medium: &'m mut dyn Medium,
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Where the tail begins.
    tail_at: u64,
    /// So far.
    at: u64,
    zeroes: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the image.
    pub bytes: u64,
    /// As many of them were runs of zeroes.
    pub zeroes: u64,
}

impl<'m> Disk<'m> {
    /// Makes both ends zeroes, on the medium itself. From here on the disk is changed.
    pub fn begin(medium: &'m mut dyn Medium) -> Result<Self> {
        let size = medium.size();
        let head = END.min(size);
        let tail_at = size.saturating_sub(END).max(head);
        medium.write_zeroes_at(0, head).context("writing zeroes to the disk's first MiB")?;
        medium.write_zeroes_at(tail_at, size - tail_at).context("writing zeroes to the disk's last MiB")?;
        medium.flush().context("flushing the disk")?;
        let tail = Vec::with_capacity((size - tail_at) as usize);
        Ok(Disk { medium, head: Vec::with_capacity(head as usize), tail, tail_at, at: 0, zeroes: 0 })
    }

    /// The next bytes of the image.
    ///
    /// # Errors
    /// When the disk fails, or is too small.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let size = self.medium.size();
        if bytes.len() as u64 > size - self.at {
            bail!(
                "the image is larger than the disk: it goes on behind the disk's {} ({size} bytes)",
                human(size)
            );
        }
        let (head, rest) = split(bytes, END.min(size).saturating_sub(self.at));
        self.head.extend_from_slice(head);
        self.at += head.len() as u64;
        let (body, tail) = split(rest, self.tail_at.saturating_sub(self.at));
        self.body(body)?;
        self.tail.extend_from_slice(tail);
        self.at += tail.len() as u64;
        Ok(())
    }

    fn body(&mut self, bytes: &[u8]) -> Result<()> {
        let is_zero = |grain: &[u8]| ZEROES.get(..grain.len()) == Some(grain);
        let grains: Vec<&[u8]> = bytes.chunks(GRAIN).collect();
        let mut rest = bytes;
        for run in grains.chunk_by(|one, other| is_zero(one) == is_zero(other)) {
            let length: usize = run.iter().map(|grain| grain.len()).sum();
            let (bytes, behind) = split(rest, length as u64);
            rest = behind;
            let done = if run.first().is_some_and(|grain| is_zero(grain)) {
                self.zeroes += length as u64;
                self.medium.zero_at(self.at, length as u64)
            } else {
                self.medium.write_all_at(bytes, self.at)
            };
            done.with_context(|| format!("writing to the disk at {} (byte {})", human(self.at), self.at))?;
            self.at += length as u64;
        }
        Ok(())
    }

    /// Writes both ends. The first MiB is the last thing that happens, with all the rest on the medium.
    ///
    /// # Errors
    /// When the disk fails: then it is not bootable.
    pub fn finish(mut self, _: &Verified) -> Result<Written> {
        let written = Written { bytes: self.at, zeroes: self.zeroes };
        let size = self.medium.size();
        self.head.resize(END.min(size) as usize, 0);
        self.tail.resize((size - self.tail_at) as usize, 0);
        self.medium.flush().context("flushing the disk")?;
        self.medium.write_all_at(&self.tail, self.tail_at).context("writing the disk's last MiB")?;
        self.medium.flush().context("flushing the disk")?;
        self.medium.write_all_at(&self.head, 0).context("writing the disk's first MiB")?;
        self.medium.flush().context("flushing the disk")?;
        Ok(written)
    }
}

/// The first `at` bytes, or as many as there are, and the others.
fn split(bytes: &[u8], at: u64) -> (&[u8], &[u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.split_at(at)
}

#[cfg(test)]
mod tests {
    use std::io;

    use proptest::prelude::*;

    use super::*;
    use crate::image::medium::Medium;

    const OLD: u8 = 0xaa;

    /// A disk with a cache that a power cut empties, that writes as little at once as it likes, and fails when it likes.
    struct Faulty {
        /// What is safe.
        safe: Vec<u8>,
        /// Writes since the last flush.
        cache: Vec<(usize, Vec<u8>)>,
        /// At most so many bytes at once.
        most: usize,
        /// Operations until the power is cut or the disk fails.
        left: usize,
        punches: bool,
        /// What it says then.
        error: fn() -> io::Error,
    }

    impl Faulty {
        fn new(size: usize) -> Self {
            let error = || io::Error::from_raw_os_error(5);
            Faulty {
                safe: vec![OLD; size],
                cache: Vec::new(),
                most: usize::MAX,
                left: usize::MAX,
                punches: true,
                error,
            }
        }

        fn step(&mut self) -> io::Result<()> {
            self.left = self.left.checked_sub(1).ok_or_else(self.error)?;
            Ok(())
        }

        fn put(safe: &mut [u8], (at, bytes): &(usize, Vec<u8>)) {
            safe[*at..*at + bytes.len()].copy_from_slice(bytes);
        }

        /// What is there after a power cut that lost the cached writes that `kept` does not name.
        fn after_power_cut(&self, kept: u64) -> Vec<u8> {
            let mut disk = self.safe.clone();
            for (number, write) in self.cache.iter().enumerate() {
                if kept.rotate_right(number as u32) & 1 == 1 {
                    Self::put(&mut disk, write);
                }
            }
            disk
        }
    }

    impl Medium for Faulty {
        fn size(&self) -> u64 {
            self.safe.len() as u64
        }

        fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
            self.step()?;
            let count = bytes.len().min(self.most);
            assert!(at as usize + count <= self.safe.len(), "behind the end");
            self.cache.push((at as usize, bytes[..count].to_vec()));
            Ok(count)
        }

        fn read_at(&mut self, into: &mut [u8], at: u64) -> io::Result<usize> {
            self.flush()?;
            into.copy_from_slice(&self.safe[at as usize..at as usize + into.len()]);
            Ok(into.len())
        }

        fn punch(&mut self, at: u64, length: u64) -> io::Result<bool> {
            self.step()?;
            if self.punches {
                self.cache.push((at as usize, vec![0; length as usize]));
            }
            Ok(self.punches)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.step()?;
            for write in self.cache.drain(..) {
                Self::put(&mut self.safe, &write);
            }
            Ok(())
        }
    }

    const MIB: usize = 1 << 20;

    /// Data, zeroes, data: `length` bytes.
    fn image(length: usize) -> Vec<u8> {
        let byte = |at: usize| if at / (200 << 10) % 3 == 1 { 0 } else { (at / 7 % 251) as u8 | 1 };
        (0..length).map(byte).collect()
    }

    fn write(medium: &mut Faulty, image: &[u8], chunk: usize) -> Result<Written> {
        let mut disk = Disk::begin(medium)?;
        image.chunks(chunk).try_for_each(|chunk| disk.write(chunk))?;
        disk.finish(&Verified::for_test())
    }

    fn expected(image: &[u8], size: usize) -> Vec<u8> {
        let mut disk = vec![OLD; size];
        disk[size.saturating_sub(MIB)..].fill(0);
        disk[..MIB.min(size)].fill(0);
        disk[..image.len()].copy_from_slice(image);
        disk
    }

    #[test]
    fn what_is_larger_than_the_disk_stops_at_its_end() {
        let mut medium = Faulty::new(4 * MIB);
        let error = write(&mut medium, &image(4 * MIB + 1), MIB).unwrap_err().to_string();
        assert!(error.contains("4.0 MiB"), "{error}");
        let disk = medium.after_power_cut(u64::MAX);
        assert!(disk[..MIB].iter().chain(&disk[3 * MIB..]).all(|byte| *byte == 0));
    }

    #[test]
    fn a_full_disk_is_named_with_the_place() {
        let mut medium = Faulty { left: 20, most: 64 << 10, ..Faulty::new(8 * MIB) };
        medium.error = || io::Error::from_raw_os_error(28);
        medium.left = 40;
        let error = format!("{:#}", write(&mut medium, &image(8 * MIB), MIB).unwrap_err());
        assert!(error.contains("writing to the disk at 1.") && error.contains("No space left"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_image_is_there_and_the_rest_is_not_touched(
            size in 1..6 * MIB,
            share in 0..=100_usize,
            chunk in 4096..5 * MIB,
            most in 1000..300_000_usize,
            punches: bool,
        ) {
            let image = image(size * share / 100);
            let mut medium = Faulty { most, punches, ..Faulty::new(size) };
            let written = write(&mut medium, &image, chunk).unwrap();
            prop_assert_eq!(written.bytes, image.len() as u64);
            prop_assert!(medium.cache.is_empty(), "flushed");
            prop_assert!(medium.safe == expected(&image, size));
        }

        /// Whatever of the cache a power cut or a failing disk loses, and whenever: both ends are the old ones (nothing was
        /// begun), zeroes, or in the first MiB's case the whole image's, with all of the image behind it.
        #[test]
        fn nothing_unverified_is_ever_at_the_ends(
            size in 2 * MIB..4 * MIB,
            share in 60..=100_usize,
            cut in 0..90_usize,
            kept: u64,
            punches: bool,
            verified: bool,
        ) {
            let image = image(size * share / 100);
            let mut medium = Faulty { most: 100_000, left: cut, punches, ..Faulty::new(size) };
            if verified {
                let _ = write(&mut medium, &image, MIB);
            } else if let Ok(mut disk) = Disk::begin(&mut medium) {
                let _ = image.chunks(MIB).try_for_each(|chunk| disk.write(chunk));
            }
            let disk = medium.after_power_cut(kept);
            let whole = expected(&image, size);
            let is = |range: std::ops::Range<usize>, byte: u8| disk[range].iter().all(|found| *found == byte);
            let old = |range: std::ops::Range<usize>| disk[range].iter().all(|found| *found == OLD || *found == 0);
            let begun = medium.safe[..MIB] == [0; MIB] && medium.safe[size - MIB..] == [0; MIB];
            if disk[..MIB] == whole[..MIB] && !is(0..MIB, 0) {
                prop_assert!(verified && disk == whole);
            } else if verified && disk[MIB..] == whole[MIB..] {
                // The first MiB is on its way; all behind it is there.
                prop_assert!(disk[..MIB].iter().zip(&whole).all(|(found, wanted)| *found == 0 || found == wanted));
            } else if begun {
                prop_assert!(is(0..MIB, 0), "the first MiB");
                prop_assert!(verified || is(size - MIB..size, 0), "the last MiB");
            } else {
                prop_assert!(old(0..MIB) && old(size - MIB..size));
            }
        }
    }
}
