//! Unpacking, with bounded memory: any number of members behind each other, as pigz, pbzip2, pzstd and `cat a.xz b.xz`
//! make them.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use init::size::human;
use liblzma::bufread::XzDecoder;
use liblzma::stream::MtStreamBuilder;

use super::format::Format;

/// zstd looks back so far at most: 2^27 bytes, 128 MiB. `zstd --ultra -22` and `--long` stay within it.
const ZSTD_WINDOW_LOG: u32 = 27;
/// What xz may need to unpack at all; `xz -9` needs 65 MiB.
pub const XZ_LIMIT: u64 = 160 << 20;
/// What xz may use so that it works on all cores, where the image was made in blocks (`xz -T0`), if the machine has four
/// times as much to spare.
pub const XZ_THREADS_LIMIT: u64 = 384 << 20;

/// The bytes that are packed in `R`.
pub struct Decompressed<R> {
    format: Format,
    state: State<R>,
    members: u64,
    xz_memory: u64,
}

enum State<R> {
    Between(R),
    Xz(Box<XzDecoder<R>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
    Gzip(Box<GzDecoder<R>>),
    Bzip2(Box<BzDecoder<R>>),
    Failed,
}

impl<R: BufRead> Decompressed<R> {
    /// Unpacks `from`, which is of this format. `spare` is the machine's memory that nobody uses, in bytes.
    pub fn new(format: Format, from: R, spare: u64) -> Self {
        let xz_memory = (spare / 4).min(XZ_THREADS_LIMIT);
        Decompressed { format, state: State::Between(from), members: 0, xz_memory }
    }

    /// What was unpacked, at its end.
    ///
    /// # Errors
    /// When the end is not reached.
    pub fn finish(self) -> io::Result<R> {
        match self.state {
            State::Between(from) => Ok(from),
            _ => Err(io::Error::other("the image was not unpacked to its end")),
        }
    }

    fn begin(&self, from: R) -> io::Result<State<R>> {
        Ok(match self.format {
            Format::Raw => State::Between(from),
            Format::Gzip => State::Gzip(Box::new(GzDecoder::new(from))),
            Format::Bzip2 => State::Bzip2(Box::new(BzDecoder::new(from))),
            Format::Xz => {
                let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(8));
                let stream = MtStreamBuilder::new()
                    .threads(u32::try_from(threads).unwrap_or(1))
                    .memlimit_threading(self.xz_memory)
                    .memlimit_stop(XZ_LIMIT)
                    .decoder()?;
                State::Xz(Box::new(XzDecoder::new_stream(from, stream)))
            }
            Format::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(from)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                State::Zstd(Box::new(decoder))
            }
        })
    }

    /// Says of which member it is, and what to do about a dictionary that is too large.
    fn explain(&self, error: io::Error) -> io::Error {
        let text = error.to_string();
        let mut said = format!("unpacking {}: {text}", self.format);
        if self.members > 1 {
            said += &format!(" (in member {}: is there something else behind the image?)", self.members);
        }
        if self.format == Format::Xz && error.kind() == io::ErrorKind::Other && text.contains("limit") {
            said += &format!(": it wants more than {}; pack it with xz -9 or less", human(XZ_LIMIT));
        }
        if self.format == Format::Zstd && text.contains("too much memory") {
            said += &format!(": it looks back further than {}", human(1 << ZSTD_WINDOW_LOG));
        }
        io::Error::new(error.kind(), said)
    }
}

impl<R: BufRead> Read for Decompressed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let read = match &mut self.state {
                State::Between(from) if self.format == Format::Raw => return from.read(into),
                State::Between(from) => {
                    // Zeroes behind a member are padding.
                    let ended = self.members > 0 && skip_zeroes(from)?;
                    if ended {
                        return Ok(0);
                    }
                    self.members += 1;
                    let State::Between(from) = std::mem::replace(&mut self.state, State::Failed) else {
                        return Err(io::Error::other("between two members"));
                    };
                    self.state = self.begin(from)?;
                    continue;
                }
                State::Xz(member) => member.read(into),
                State::Zstd(member) => member.read(into),
                State::Gzip(member) => member.read(into),
                State::Bzip2(member) => member.read(into),
                State::Failed => Err(io::Error::other("it failed before")),
            };
            match read {
                Ok(0) => {
                    self.state = match std::mem::replace(&mut self.state, State::Failed) {
                        State::Xz(member) => State::Between(member.into_inner()),
                        State::Zstd(member) => State::Between(member.finish()),
                        State::Gzip(member) => State::Between(member.into_inner()),
                        State::Bzip2(member) => State::Between(member.into_inner()),
                        other => other,
                    };
                }
                Ok(count) => return Ok(count),
                Err(error) => {
                    // What failed does not go on: held by `what_is_broken_is_an_error`.
                    self.state = State::Failed;
                    return Err(self.explain(error));
                }
            }
        }
    }
}

/// Skips zeroes; whether that was all.
fn skip_zeroes(from: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = from.fill_buf()?;
        let zeroes = bytes.iter().take_while(|byte| **byte == 0).count();
        let (ended, more) = (bytes.is_empty(), zeroes < bytes.len());
        from.consume(zeroes);
        if ended || more {
            return Ok(ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The packings themselves are held by `tests/image`, with the programs that make them.
        #[test]
        fn any_bytes_end_in_data_or_an_error(
            format in 0..5_usize,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            noise in prop::collection::vec(any::<u8>(), 0..200),
            cut: prop::sample::Index,
        ) {
            const PACKED: [(Format, &[u8]); 5] = [
                (Format::Raw, b"as it is"),
                (Format::Gzip, include_bytes!("fixtures/text.gz")),
                (Format::Bzip2, include_bytes!("fixtures/text.bz2")),
                (Format::Xz, include_bytes!("fixtures/text.xz")),
                (Format::Zstd, include_bytes!("fixtures/text.zst")),
            ];
            let (format, packed) = PACKED[format];
            let mut bytes = packed.to_vec();
            for (place, byte) in damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.truncate(cut.index(bytes.len() * 4).max(1));
            bytes.extend(noise);
            let mut decompressed = Decompressed::new(format, &bytes[..], 64 << 20);
            let mut out = Vec::new();
            if (&mut decompressed).take(1 << 20).read_to_end(&mut out).is_err() {
                // It stays an error.
                prop_assert!(decompressed.read(&mut [0]).is_err() && decompressed.finish().is_err());
            }
        }
    }
}
