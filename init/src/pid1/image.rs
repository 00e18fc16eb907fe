//! An image on its way into RAM: which chunks are there and good, and the fetch of those that are not.
//!
//! A chunk is in the file only when it is good (or, for an image known by one SHA-256, as far as the bytes in their order
//! go). So the file itself says after a crash what need not be fetched again: invariant 7, held by the rows of `vm::bad_days` and
//! by `a_worker_killed_mid_fetch_resumes`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use url::Url;

use super::fetcher::{Fetcher, Kept};
use super::http::{RangeError, Way};
use crate::event::Progress;

/// How an image's bytes are known to be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hashes {
    /// One BLAKE3 a chunk.
    Chunks(Vec<[u8; 32]>),
    /// One SHA-256 over all.
    Whole([u8; 32]),
}

/// What is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where from.
    pub url: Url,
    /// Where else the same bytes are.
    pub mirrors: Vec<Url>,
    /// Bytes in all, at least 1.
    pub size: u64,
    /// Bytes in a chunk; the last one may be shorter.
    pub chunk_size: u64,
    /// How the bytes are checked.
    pub hashes: Hashes,
}

/// Told of what happens on the way.
pub trait Listener {
    /// So far, at most once a second.
    fn progress(&mut self, progress: Progress);
    /// Something went wrong; it is tried again after `wait`.
    fn trouble(&mut self, error: &anyhow::Error, wait: Duration);
}

/// Chunks between the network and the hash: none, so that a worker's death costs two at most, the one that comes and the one
/// that is hashed (counted by `a_worker_that_dies_costs_two_chunks` in tests/fetch.rs). The hash is faster than any network.
const QUEUE: usize = 0;
/// So many bad chunks in one round are no accident on the way: it is another file.
const BAD_CHUNKS: usize = 8;

impl Image {
    /// The name of its file, by which people know it.
    pub fn name(&self) -> &str {
        crate::layers::file_name(&self.url)
    }

    pub(super) fn chunk_count(&self) -> u64 {
        self.size.div_ceil(self.chunk_size)
    }

    pub(super) fn start(&self, chunk: u64) -> u64 {
        chunk.saturating_mul(self.chunk_size).min(self.size)
    }

    pub(super) fn length(&self, chunk: u64) -> usize {
        (self.start(chunk + 1) - self.start(chunk)) as usize
    }

    pub(super) fn sources(&self) -> usize {
        1 + self.mirrors.len()
    }

    /// The `n`th place to fetch from; behind the last comes the first.
    pub(super) fn source(&self, n: usize) -> &Url {
        (n % self.sources()).checked_sub(1).and_then(|n| self.mirrors.get(n)).unwrap_or(&self.url)
    }

    /// Fetches what is missing into `path` until all is good. It begins with another source at each of `tries`.
    ///
    /// # Errors
    /// When the bytes are wrong twice, with the chunk's number. A server that cannot be reached is no error: it is asked
    /// again for ever.
    pub fn fetch(&self, way: &Way, path: &Path, tries: usize, listener: &mut impl Listener) -> Result<()> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        let (mut checker, mut missing) = self.look_at(&file)?;
        let mut kept = Kept::new(way.rate, self.sources());
        for round in 0..2 {
            if missing.is_empty() {
                break;
            }
            if round > 0 {
                let chunks: Vec<String> = missing.iter().map(u64::to_string).collect();
                tracing::warn!(
                    "fetching chunk {} of {} again: its hash was wrong",
                    chunks.join(", "),
                    self.source(tries + round - 1)
                );
            }
            // What was wrong from one place may be right from another.
            kept.source = tries + round;
            let fetched = self.round(way, &file, checker, &missing, &mut kept, listener);
            (checker, missing) = fetched.inspect_err(|error| self.forget_the_changed(&file, error))?;
        }
        if let Some(chunk) = missing.first() {
            bail!(
                "chunk {chunk} of {} (bytes {} to {}) of {} is not what was signed, twice",
                self.chunk_count(),
                self.start(*chunk),
                self.start(chunk + 1) - 1,
                self.url
            );
        }
        // An earlier, larger image may have left its end.
        file.set_len(self.size).with_context(|| format!("cutting {} to its size", path.display()))?;
        let finished = checker.finish();
        if finished.is_err() {
            // Which of its bytes are wrong is unknown: none is worth keeping.
            file.set_len(0).with_context(|| format!("emptying {}", path.display()))?;
        }
        finished.with_context(|| self.url.to_string())
    }

    /// Bytes of two files have no hash over all that anybody knows: none is worth keeping.
    fn forget_the_changed(&self, file: &File, error: &anyhow::Error) {
        let changed = matches!(error.downcast_ref(), Some(RangeError::Changed(..)));
        if changed && matches!(self.hashes, Hashes::Whole(_)) {
            // What stays is refused in the end, by its hash.
            let _ = file.set_len(0);
        }
    }

    /// The bytes of `path` that need not be fetched, without looking at them: an upper bound for the budget.
    pub fn present(&self, path: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).map_or(0, |data| (data.blocks() * 512).min(self.size))
    }

    /// Frees what an earlier, larger image left behind this one's end.
    ///
    /// # Errors
    /// When the file is there and cannot be cut.
    pub fn cut(&self, path: &Path) -> Result<()> {
        let Ok(file) = OpenOptions::new().write(true).open(path) else { return Ok(()) };
        let length = file.metadata().with_context(|| format!("looking at {}", path.display()))?.len();
        file.set_len(length.min(self.size)).with_context(|| format!("cutting {}", path.display()))
    }

    /// Checks what an earlier try left; gives the chunks that are missing.
    fn look_at(&self, file: &File) -> Result<(Checker<'_>, Vec<u64>)> {
        let mut checker = Checker { image: self, whole: Sha256::new() };
        let there = file.metadata().context("looking at the file")?.len().min(self.size);
        let mut missing = Vec::new();
        let mut buffer = Vec::new();
        for chunk in 0..self.chunk_count() {
            // Behind a gap a hash over all cannot go on.
            let in_order = matches!(self.hashes, Hashes::Chunks(_)) || missing.is_empty();
            if self.start(chunk + 1) > there || !in_order {
                missing.push(chunk);
                continue;
            }
            buffer.resize(self.length(chunk), 0);
            file.read_exact_at(&mut buffer, self.start(chunk)).context("reading what is there")?;
            if !checker.check(chunk, &buffer) {
                missing.push(chunk);
            }
        }
        let count = self.chunk_count() - missing.len() as u64;
        if count > 0 {
            tracing::info!("{count} of {} chunks are there and good: not fetched again", self.chunk_count());
        }
        Ok((checker, missing))
    }

    /// Fetches these chunks once; gives those whose hash was wrong.
    fn round<'a>(
        &'a self,
        way: &Way,
        file: &File,
        checker: Checker<'a>,
        missing: &[u64],
        kept: &mut Kept,
        listener: &mut impl Listener,
    ) -> Result<(Checker<'a>, Vec<u64>)> {
        let missing_bytes: u64 = missing.iter().map(|chunk| self.length(*chunk) as u64).sum();
        let good = AtomicU64::new(self.size - missing_bytes);
        let (filled, to_check) = sync_channel(QUEUE);
        let (emptied, to_fill) = sync_channel(2);
        std::thread::scope(|scope| {
            let checked = scope.spawn(|| check_and_store(checker, file, to_check, &emptied, &good));
            let mut fetcher = Fetcher::new(self, way, kept, filled, to_fill, &good);
            let fetched = fetcher.runs(missing, listener);
            // The checker ends when its sender is gone.
            drop(fetcher);
            let checked = checked.join().map_err(|_| anyhow::anyhow!("the checking thread panicked"))?;
            // A failed write is the cause, the fetcher's broken channel its effect.
            let checked = checked?;
            fetched.map(|()| checked)
        })
    }
}

/// A chunk on its way from the network to the file.
pub(super) struct Filled {
    pub(super) chunk: u64,
    pub(super) bytes: Vec<u8>,
}

/// The one that hashes. It sees the chunks of a round in rising order.
struct Checker<'a> {
    image: &'a Image,
    whole: Sha256,
}

impl Checker<'_> {
    fn check(&mut self, chunk: u64, bytes: &[u8]) -> bool {
        match &self.image.hashes {
            Hashes::Chunks(hashes) => {
                hashes.get(chunk as usize).is_some_and(|hash| blake3::hash(bytes).as_bytes() == hash)
            }
            Hashes::Whole(_) => {
                self.whole.update(bytes);
                true
            }
        }
    }

    fn finish(self) -> Result<()> {
        let Hashes::Whole(wanted) = &self.image.hashes else { return Ok(()) };
        let hash: [u8; 32] = self.whole.finalize().into();
        let hex = |hash: &[u8; 32]| hash.map(|byte| format!("{byte:02x}")).concat();
        ensure!(hash == *wanted, "its SHA-256 is {}, the command line says {}", hex(&hash), hex(wanted));
        Ok(())
    }
}

fn check_and_store<'a>(
    mut checker: Checker<'a>,
    file: &File,
    chunks: Receiver<Filled>,
    emptied: &SyncSender<Vec<u8>>,
    good: &AtomicU64,
) -> Result<(Checker<'a>, Vec<u64>)> {
    let mut bad = Vec::new();
    for Filled { chunk, bytes } in chunks {
        if checker.check(chunk, &bytes) {
            file.write_all_at(&bytes, checker.image.start(chunk)).context("writing the image into RAM")?;
            good.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        } else {
            bad.push(chunk);
            ensure!(
                bad.len() < BAD_CHUNKS,
                "{} chunks of {} are not what was signed (the first is {}): the file is another one",
                bad.len(),
                checker.image.url,
                bad.first().unwrap_or(&chunk)
            );
        }
        // The buffer goes round; where nobody takes it, it is freed.
        let _ = emptied.try_send(bytes);
    }
    Ok((checker, bad))
}
