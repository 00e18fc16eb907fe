//! `--verify`: what the disk gives back, held against what it was given.

use anyhow::{Context, Result, bail};
use init::size::human;

use super::buffer::Buffer;
use super::medium::Medium;
use super::progress::Progress;

/// Bytes that have one hash: so exactly it is known where a disk is wrong.
pub const CHUNK: usize = 4 << 20;

/// One hash for each chunk of what was written: 8 bytes for each MiB.
#[derive(Default)]
pub struct Hashes {
    hashes: Vec<blake3::Hash>,
    bytes: u64,
}

impl Hashes {
    /// The next chunk; all but the last are whole.
    pub fn add(&mut self, chunk: &[u8]) {
        self.hashes.push(blake3::hash(chunk));
        self.bytes += chunk.len() as u64;
    }

    /// Reads it all again.
    ///
    /// # Errors
    /// Where it is not what was written, or cannot be read.
    pub fn check(&self, medium: &mut dyn Medium, progress: &Progress) -> Result<()> {
        progress.begin("read back", Some(self.bytes));
        let mut buffer = Buffer::new(CHUNK);
        let mut at = 0;
        for hash in &self.hashes {
            let length = (self.bytes - at).min(CHUNK as u64) as usize;
            let chunk = buffer.bytes_mut().get_mut(..length).unwrap_or_default();
            let place = || format!("reading the disk back at {} (byte {at})", human(at));
            medium.read_exact_at(chunk, at).with_context(place)?;
            if blake3::hash(chunk) != *hash {
                bail!(
                    "the disk does not give back what was written to it, somewhere in the {length} bytes from {} \
                     (byte {at}) on: it is broken, or smaller than it says",
                    human(at)
                );
            }
            at += length as u64;
            progress.add(length as u64);
        }
        progress.end();
        Ok(())
    }
}
