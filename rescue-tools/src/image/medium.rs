//! What an image is written to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::buffer::{ALIGNMENT, Buffer};

/// Zeroes that are written at once where a disk cannot make them by itself.
const ZEROES: usize = 1 << 20;

/// A place of fixed size for bytes. Tests have one that fails.
pub trait Medium: Send {
    /// Bytes.
    fn size(&self) -> u64;
    /// Writes some of the bytes, at least one; says how many.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Reads some bytes; none only at the end.
    fn read_at(&mut self, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Has the medium itself make zeroes; whether it can.
    fn punch(&mut self, at: u64, length: u64) -> io::Result<bool>;
    /// Returns when all is on the medium, whatever happens to the power.
    fn flush(&mut self) -> io::Result<()>;
}

impl dyn Medium + '_ {
    /// Writes all of them.
    pub fn write_all_at(&mut self, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = match self.write_at(bytes, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                written => written?,
            };
            bytes = bytes.get(count..).filter(|_| count > 0).ok_or(io::ErrorKind::WriteZero)?;
            at += count as u64;
        }
        Ok(())
    }

    /// Reads until `into` is full.
    pub fn read_exact_at(&mut self, mut into: &mut [u8], mut at: u64) -> io::Result<()> {
        while !into.is_empty() {
            let count = match self.read_at(into, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            into = into.get_mut(count..).filter(|_| count > 0).ok_or(io::ErrorKind::UnexpectedEof)?;
            at += count as u64;
        }
        Ok(())
    }

    /// Makes zeroes, by the disk itself where it can: what was there before is never left, since nobody knows what a
    /// hole of an image means to what is on it.
    pub fn zero_at(&mut self, at: u64, length: u64) -> io::Result<()> {
        if self.punch(at, length)? { Ok(()) } else { self.write_zeroes_at(at, length) }
    }

    /// Writes zeroes.
    pub fn write_zeroes_at(&mut self, mut at: u64, mut length: u64) -> io::Result<()> {
        let zeroes = Buffer::new(ZEROES);
        while length > 0 {
            let count = length.min(ZEROES as u64);
            let bytes = zeroes.bytes().get(..count as usize).unwrap_or_default();
            self.write_all_at(bytes, at)?;
            at += count;
            length -= count;
        }
        Ok(())
    }
}

/// A block device (or, in tests, a file), past the page cache where that is possible: so the rate that is shown is the
/// disk's, and the machine keeps its memory.
pub struct DiskFile<'f> {
    file: &'f File,
    size: u64,
    /// What addresses, lengths and places have to be multiples of, past the page cache.
    sector: u64,
    direct: bool,
    can_punch: bool,
}

impl<'f> DiskFile<'f> {
    /// Of `size` bytes, in logical sectors of `sector` bytes.
    pub fn new(file: &'f File, size: u64, sector: u32) -> Self {
        let sector = u64::from(sector).clamp(512, ALIGNMENT as u64);
        let mut medium = DiskFile { file, size, sector, direct: false, can_punch: true };
        medium.direct = medium.set_direct(true).is_ok();
        medium
    }

    fn set_direct(&self, on: bool) -> io::Result<()> {
        let mut flags = fcntl_getfl(self.file)?;
        flags.set(OFlags::DIRECT, on);
        Ok(fcntl_setfl(self.file, flags)?)
    }

    /// What is no whole number of sectors, or stands somewhere else in memory, goes by the page cache.
    fn fits(&self, address: usize, length: usize, at: u64) -> bool {
        let fits = |number: u64| number.is_multiple_of(self.sector);
        fits(address as u64) && fits(length as u64) && fits(at)
    }

    fn by_cache<T>(&self, work: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        self.set_direct(false)?;
        let done = work(self.file);
        self.set_direct(true)?;
        done
    }
}

impl Medium for DiskFile<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
        if !self.direct || self.fits(bytes.as_ptr().addr(), bytes.len(), at) {
            return self.file.write_at(bytes, at);
        }
        self.by_cache(|file| {
            let count = file.write_at(bytes, at)?;
            file.sync_data()?;
            Ok(count)
        })
    }

    fn read_at(&mut self, into: &mut [u8], at: u64) -> io::Result<usize> {
        if !self.direct || self.fits(into.as_ptr().addr(), into.len(), at) {
            return self.file.read_at(into, at);
        }
        self.by_cache(|file| file.read_at(into, at))
    }

    fn punch(&mut self, at: u64, length: u64) -> io::Result<bool> {
        if !self.can_punch {
            return Ok(false);
        }
        // On a block device: WRITE ZEROES or its like, and never the kernel's own writing of pages (block/fops.c).
        match fallocate(self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, length) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => {
                self.can_punch = false;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}
