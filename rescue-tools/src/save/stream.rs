//! An image as a stream: what can be read, zeroes for what cannot, packed with zstd, and the hashes of both.

use std::io::{self, Write};
use std::process::{ChildStdin, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest, Sha256};

use super::ranges::Ranges;
use crate::image::buffer::Buffer;
use crate::image::medium::Medium;
use crate::image::progress::Progress;
use crate::tool::Tool;

/// Bytes that are read at once while all is well.
const PIECE: usize = 1 << 20;
/// Of a piece that cannot be read, parts of this size are tried, and of those their sectors.
const PART: usize = 64 << 10;

/// What went out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// SHA-256 of the image.
    pub image: [u8; 32],
    /// SHA-256 of the stream: what `sha256sum` says of the file that is made of it.
    pub stream: [u8; 32],
    /// Bytes of the stream.
    pub bytes: u64,
    /// What could not be read, and is zeroes in the image.
    pub unread: Ranges,
}

/// Reads all of `medium`, whose sectors have `sector` bytes, and sends it to `out`; packed with this level of zstd, or not.
///
/// # Errors
/// When `out` takes no more, or there is no zstd. A disk that cannot be read is no error.
pub fn send(
    medium: &mut dyn Medium,
    sector: u32,
    level: Option<u8>,
    out: &mut (impl Write + Send),
    progress: &Progress,
) -> Result<Sent> {
    progress.begin("read", Some(medium.size()));
    let mut out = Hashed { to: out, hash: Sha256::new(), bytes: 0 };
    let (image, unread) = match level {
        None => copy(medium, sector, &mut out, progress)?,
        Some(level) => pack(medium, sector, level, &mut out, progress)?,
    };
    out.to.flush().context("writing to standard output")?;
    progress.end();
    Ok(Sent { image, stream: out.hash.finalize().into(), bytes: out.bytes, unread })
}

/// By the program, which has all cores; what it makes comes back through us, so that it is hashed.
fn pack<W: Write + Send>(
    medium: &mut dyn Medium,
    sector: u32,
    level: u8,
    out: &mut Hashed<&mut W>,
    progress: &Progress,
) -> Result<([u8; 32], Ranges)> {
    let zstd = Tool::new("zstd")?.args(["--quiet", "--stdout", "--threads=0"]).arg(format!("-{level}"));
    let mut zstd = zstd.into_command();
    zstd.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut zstd = zstd.spawn().context("starting zstd")?;
    let (stdin, stdout) = (zstd.stdin.take(), zstd.stdout.take());
    let (stdin, mut stdout) = stdin.zip(stdout).context("talking to zstd")?;
    let (read, sent) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| io::copy(&mut stdout, out).map(drop));
        let mut stdin: ChildStdin = stdin;
        let read = copy(medium, sector, &mut stdin, progress);
        drop(stdin);
        (read, sending.join().unwrap_or_else(|_| Err(io::Error::other("the sending thread panicked"))))
    });
    // A reader that went away is the cause, zstd's end its effect.
    if sent.is_err() {
        let _ = zstd.kill();
    }
    let status = zstd.wait().context("waiting for zstd")?;
    sent.context("writing to standard output")?;
    let read = read?;
    ensure!(status.success(), "zstd failed ({status})");
    Ok(read)
}

/// Reads it all; what cannot be read is zeroes, exactly to the sector: held by `only_what_cannot_be_read_is_zeroes`.
fn copy(
    medium: &mut dyn Medium,
    sector: u32,
    out: &mut impl Write,
    progress: &Progress,
) -> Result<([u8; 32], Ranges)> {
    let size = medium.size();
    let mut buffer = Buffer::new(PIECE);
    let (mut hash, mut unread, mut at) = (Sha256::new(), Ranges::default(), 0);
    while at < size {
        let length = (size - at).min(PIECE as u64) as usize;
        let piece = buffer.bytes_mut().get_mut(..length).ok_or_else(|| anyhow!("a piece without room"))?;
        read(medium, piece, at, sector as usize, &mut unread);
        hash.update(&*piece);
        out.write_all(piece).context("writing the image")?;
        at += length as u64;
        progress.add(length as u64);
    }
    Ok((hash.finalize().into(), unread))
}

/// Fills `piece`, halving what cannot be read down to parts and those down to sectors.
fn read(medium: &mut dyn Medium, piece: &mut [u8], at: u64, sector: usize, unread: &mut Ranges) {
    if medium.read_exact_at(piece, at).is_ok() {
        return;
    }
    let smaller = if piece.len() > PART { PART } else { sector.max(1) };
    if piece.len() <= smaller {
        piece.fill(0);
        unread.add(at, piece.len() as u64);
        return;
    }
    let mut at = at;
    for part in piece.chunks_mut(smaller) {
        read(medium, part, at, sector, unread);
        at += part.len() as u64;
    }
}

/// Hashes what passes.
struct Hashed<W> {
    to: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    struct Failing {
        bytes: Vec<u8>,
        bad: BTreeSet<u64>,
    }

    impl Medium for Failing {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn write_at(&mut self, _: &[u8], _: u64) -> io::Result<usize> {
            unreachable!("nothing is written to what is saved")
        }

        fn read_at(&mut self, into: &mut [u8], at: u64) -> io::Result<usize> {
            // As a disk: what is before the bad sector comes, or nothing.
            let end = at + into.len() as u64;
            let good =
                self.bad.range(at / 512..end.div_ceil(512)).next().map_or(end, |bad| (bad * 512).max(at));
            let count = (good - at) as usize;
            if count == 0 {
                return Err(io::Error::from_raw_os_error(5));
            }
            into[..count].copy_from_slice(&self.bytes[at as usize..at as usize + count]);
            Ok(count)
        }

        fn punch(&mut self, _: u64, _: u64) -> io::Result<bool> {
            unreachable!("nothing is written to what is saved")
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn disk(sectors: usize, bad: &[u64]) -> Failing {
        Failing {
            bytes: (0..sectors * 512).map(|at| (at / 3) as u8 | 1).collect(),
            bad: bad.iter().copied().collect(),
        }
    }

    #[test]
    fn a_packed_stream_has_both_hashes() {
        let mut disk = disk(5000, &[7, 8, 4999]);
        let mut out = Vec::new();
        let sent = send(&mut disk, 512, Some(1), &mut out, &Progress::new(true)).unwrap();
        assert_eq!((sent.bytes, sent.stream), (out.len() as u64, Sha256::digest(&out).into()));
        assert_eq!(sent.unread.bytes(), 3 * 512);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zst");
        std::fs::write(&path, &out).unwrap();
        let unpacked =
            Command::new("zstd").arg("-dqc").arg(&path).output().expect("zstd (Debian package: zstd)");
        assert_eq!(sent.image, <[u8; 32]>::from(Sha256::digest(&unpacked.stdout)));
        assert_eq!(unpacked.stdout.len(), 5000 * 512);
    }

    #[test]
    fn a_reader_that_goes_away_is_the_error() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for level in [None, Some(1)] {
            let error =
                send(&mut disk(50_000, &[]), 512, level, &mut Gone, &Progress::new(true)).unwrap_err();
            assert!(format!("{error:#}").contains("broken pipe"), "{error:#}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn only_what_cannot_be_read_is_zeroes(
            sectors in 1..9000_usize,
            bad in prop::collection::btree_set(0..9000_u64, 0..40),
        ) {
            let mut disk = disk(sectors, &bad.iter().copied().collect::<Vec<_>>());
            let mut out = Vec::new();
            let sent = send(&mut disk, 512, None, &mut out, &Progress::new(true)).unwrap();
            let mut expected = disk.bytes.clone();
            let mut ranges = Ranges::default();
            for sector in bad.iter().filter(|sector| **sector < sectors as u64) {
                expected[*sector as usize * 512..][..512].fill(0);
                ranges.add(sector * 512, 512);
            }
            prop_assert!(out == expected);
            prop_assert_eq!(sent.unread, ranges);
            prop_assert_eq!(sent.image, sent.stream);
        }
    }
}
