//! How bytes flow to a disk: source → verify → decompress → disk.
//!
//! The order, which only this file has:
//!
//! 1. [`open`]: the signature or hash, the source, its first bytes unpacked. Nothing is changed.
//! 2. [`Image::fits`]: what is known now of the image's size against the disk's. Nothing is changed.
//! 3. [`Image::write`]: zeroes to both ends of the disk, then the image but its ends.
//! 4. The source is read to its end, and found to be right: a [`Verified`].
//! 5. For that, the disk gets its ends, the first MiB last.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context, Result, anyhow, ensure};
use init::size::human;

use super::ahead::Ahead;
use super::buffer::Buffer;
use super::decompress::Decompressed;
use super::disk::{Disk, Written};
use super::format::{Format, LOOK};
use super::medium::Medium;
use super::progress::Progress;
use super::proof::{Keys, Wanted};
use super::readback::{CHUNK, Hashes};
use super::source::{Place, Source};
use super::table::{Extent, extent};
use super::verify::{Verified, Verifier};
use crate::refusal::refused;

/// Chunks that wait for the disk; with those being filled and written, 20 MiB.
const QUEUE: usize = 3;

/// Where an image is, and what its bytes are held against.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where it comes from.
    pub source: Place,
    /// What its bytes are held against.
    pub wanted: Wanted,
    /// Whose signatures count.
    pub keys: Keys,
    /// The program that fetches: [`init::answer`].
    pub init: PathBuf,
    /// How often in a row a server is asked again.
    pub retries: u32,
    /// Memory that nobody uses, in bytes.
    pub spare: u64,
}

/// An image whose first bytes are there.
pub struct Image {
    plain: Decompressed<Ahead<Verifier<Ahead<Source>>>>,
    first: Chunk,
    /// How it is packed.
    pub format: Format,
    /// Bytes of the source, where that is known.
    pub source_size: Option<u64>,
    /// Bytes of the image at least, where that is known: it is raw, or zstd's header says so.
    pub size: Option<u64>,
    /// What its partition table says.
    pub extent: Option<Extent>,
}

/// Opens it all and unpacks the first bytes.
///
/// # Errors
/// When there is no proof to hold it against, no source, or it is no image.
pub fn open(order: &Order, progress: &Arc<Progress>) -> Result<Image> {
    let proof = order.wanted.get(&order.source, &order.keys, &order.init)?;
    let checked = !matches!(order.wanted, Wanted::Unchecked);
    let source = Source::open(&order.source, &order.init, checked, order.retries, progress)?;
    let source_size = source.size;
    let verifier = Verifier::new(Ahead::new(source)?, proof)?;
    let mut ahead = Ahead::new(verifier)?;

    let start =
        std::io::BufRead::fill_buf(&mut ahead).with_context(|| format!("reading {}", order.source))?;
    ensure!(!start.is_empty(), refused(format!("{} is empty", order.source)));
    let format = Format::of(start).map_err(|error| refused(format!("{} is {error}", order.source)))?;
    let size = match format {
        Format::Raw => source_size,
        // Of its first frame; a skippable one has none.
        Format::Zstd => {
            zstd::zstd_safe::get_frame_content_size(start).ok().flatten().filter(|size| *size > 0)
        }
        _ => None,
    };

    let mut plain = Decompressed::new(format, ahead, order.spare);
    let first = Chunk::read(&mut plain, Buffer::new(CHUNK))?;
    if format != Format::Raw {
        look_inside(&first, format, &order.source)?;
    }
    let extent = extent(first.bytes());
    Ok(Image { plain, first, format, source_size, size, extent })
}

/// What was packed has to be an image too.
fn look_inside(first: &Chunk, format: Format, source: &Place) -> Result<()> {
    let start = first.bytes().get(..LOOK).unwrap_or(first.bytes());
    ensure!(!start.is_empty(), refused(format!("in the {format} of {source} there is nothing")));
    match Format::of(start) {
        Ok(Format::Raw) => Ok(()),
        Ok(twice) => {
            Err(refused(format!("in the {format} of {source} there is {twice}: it is packed twice")))
        }
        Err(error) => Err(refused(format!("in the {format} of {source} there is {error}"))),
    }
}

impl Image {
    /// Refuses what is known to be too large, before anything is changed. A packed image may turn out to be so only later:
    /// then the disk's ends stay zeroes.
    ///
    /// # Errors
    /// A refusal, with figures.
    pub fn fits(&self, disk: u64, is_partition: bool) -> Result<()> {
        let short = |what: &str, bytes: u64| {
            refused(format!(
                "too small: {what} {} ({bytes} bytes), {} has {} ({disk} bytes)",
                human(bytes),
                if is_partition { "the partition" } else { "the disk" },
                human(disk)
            ))
        };
        if let Some(size) = self.size.filter(|size| *size > disk) {
            return Err(short("the image has", size));
        }
        let Some(extent) = self.extent else { return Ok(()) };
        if is_partition && extent.kind == "GPT" {
            return Err(refused(
                "the image is of a whole disk (it begins with a GPT), and --partition was said",
            ));
        }
        if !is_partition && extent.bytes > disk {
            return Err(short(&format!("the image's {} covers", extent.kind), extent.bytes));
        }
        Ok(())
    }

    /// Writes it. With `hashes`, those of all that is written are added there.
    ///
    /// # Errors
    /// Whatever fails: from here on the disk has zeroes at both ends until all is done.
    pub fn write(
        self,
        medium: &mut dyn Medium,
        hashes: Option<&mut Hashes>,
        progress: &Progress,
    ) -> Result<(Written, Verified)> {
        let mut plain = self.plain;
        let mut disk = Disk::begin(medium)?;
        pump(&mut plain, self.first, &mut disk, hashes, progress)?;
        let verified = plain.finish()?.finish()?.finish()?;
        progress.end();
        Ok((disk.finish(&verified)?, verified))
    }
}

/// Bytes on their way to the disk.
struct Chunk {
    buffer: Buffer,
    length: usize,
}

impl Chunk {
    /// Fills the buffer as far as there are bytes.
    fn read(from: &mut impl Read, mut buffer: Buffer) -> Result<Self> {
        let mut length = 0;
        while let Some(rest) = buffer.bytes_mut().get_mut(length..).filter(|rest| !rest.is_empty()) {
            match from.read(rest) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(anyhow!("{error}")),
            }
        }
        Ok(Chunk { buffer, length })
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.bytes().get(..self.length).unwrap_or_default()
    }
}

/// Moves all that `plain` has to the disk, which has a thread of its own.
fn pump(
    plain: &mut impl Read,
    first: Chunk,
    disk: &mut Disk<'_>,
    hashes: Option<&mut Hashes>,
    progress: &Progress,
) -> Result<()> {
    let (filled, to_write) = sync_channel(QUEUE);
    let (emptied, to_fill) = sync_channel(QUEUE + 2);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| drain(to_write, emptied, disk, progress));
        let read = fill(plain, first, hashes, &filled, &to_fill);
        drop(filled);
        // A failed write is the cause, a reader without a taker its effect.
        writer.join().map_err(|_| anyhow!("the writing thread panicked"))??;
        read
    })
}

fn fill(
    plain: &mut impl Read,
    first: Chunk,
    mut hashes: Option<&mut Hashes>,
    filled: &SyncSender<Chunk>,
    to_fill: &Receiver<Buffer>,
) -> Result<()> {
    let mut chunk = first;
    while chunk.length > 0 {
        if let Some(hashes) = &mut hashes {
            hashes.add(chunk.bytes());
        }
        let last = chunk.length < CHUNK;
        filled.send(chunk).map_err(|_| anyhow!("the writing thread ended"))?;
        if last {
            break;
        }
        let buffer = to_fill.try_recv().unwrap_or_else(|_| Buffer::new(CHUNK));
        chunk = Chunk::read(plain, buffer)?;
    }
    Ok(())
}

fn drain(
    to_write: Receiver<Chunk>,
    emptied: SyncSender<Buffer>,
    disk: &mut Disk<'_>,
    progress: &Progress,
) -> Result<()> {
    for chunk in to_write {
        disk.write(chunk.bytes())?;
        progress.written(chunk.length as u64);
        // Where nobody takes it, it is freed.
        let _ = emptied.try_send(chunk.buffer);
    }
    Ok(())
}
