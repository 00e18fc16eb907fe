//! An image on its way into RAM: which chunks are there and good, and the fetch of those that are not.
//!
//! A chunk is in the file only when it is good (or, for an image known by one SHA-256, as far as the bytes in their order
//! go). So the file itself says after a crash what need not be fetched again: invariant 7, held by the rows of `vm_bad_days` and
//! by `a_worker_killed_mid_fetch_resumes`.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::Client;
use sha2::{Digest, Sha256};
use url::Url;

use super::http::{self, RangeError};
use crate::event::Progress;
use crate::size::human;

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

/// Chunks between the network and the hash: enough that neither waits for the other's hiccups.
const QUEUE: usize = 4;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// How often a server may refuse before the manifest is asked for again: a file being replaced is there soon.
const REFUSALS: usize = 3;
/// So many bad chunks in one round are no accident on the way: it is another file.
const BAD_CHUNKS: usize = 8;

impl Image {
    /// The name of its file, by which people know it.
    pub fn name(&self) -> &str {
        crate::layers::file_name(&self.url)
    }

    fn chunk_count(&self) -> u64 {
        self.size.div_ceil(self.chunk_size)
    }

    fn start(&self, chunk: u64) -> u64 {
        chunk.saturating_mul(self.chunk_size).min(self.size)
    }

    fn length(&self, chunk: u64) -> usize {
        (self.start(chunk + 1) - self.start(chunk)) as usize
    }

    fn sources(&self) -> usize {
        1 + self.mirrors.len()
    }

    /// The `n`th place to fetch from; behind the last comes the first.
    fn source(&self, n: usize) -> &Url {
        (n % self.sources()).checked_sub(1).and_then(|n| self.mirrors.get(n)).unwrap_or(&self.url)
    }

    /// Fetches what is missing into `path` until all is good. It begins with another source at each of `tries`.
    ///
    /// # Errors
    /// When the bytes are wrong twice, with the chunk's number. A server that cannot be reached is no error: it is asked
    /// again for ever.
    pub fn fetch(
        &self,
        client: &Client,
        path: &Path,
        tries: usize,
        listener: &mut impl Listener,
    ) -> Result<()> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        let (mut checker, mut missing) = self.look_at(&file)?;
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
            (checker, missing) = self.round(client, &file, checker, &missing, tries + round, listener)?;
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
        client: &Client,
        file: &File,
        checker: Checker<'a>,
        missing: &[u64],
        source: usize,
        listener: &mut impl Listener,
    ) -> Result<(Checker<'a>, Vec<u64>)> {
        let missing_bytes: u64 = missing.iter().map(|chunk| self.length(*chunk) as u64).sum();
        let good = AtomicU64::new(self.size - missing_bytes);
        let (filled, to_check) = sync_channel(QUEUE);
        let (emptied, to_fill) = sync_channel(QUEUE + 2);
        std::thread::scope(|scope| {
            let checked = scope.spawn(|| check_and_store(checker, file, to_check, &emptied, &good));
            let meter = Meter::new(good.load(Ordering::Relaxed), self.size);
            let mut fetcher = Fetcher { image: self, client, source, filled, to_fill, meter, good: &good };
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
struct Filled {
    chunk: u64,
    bytes: Vec<u8>,
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

/// Why a request ended early.
enum Stop {
    /// The connection broke, or there is none: worth another try.
    Broken(anyhow::Error),
    /// The server has other bytes.
    Refused(RangeError),
    /// Nobody checks any more; its own error says why.
    Checker,
}

/// The one that reads the network.
struct Fetcher<'a> {
    image: &'a Image,
    client: &'a Client,
    /// Which of the image's sources is asked.
    source: usize,
    filled: SyncSender<Filled>,
    to_fill: Receiver<Vec<u8>>,
    meter: Meter,
    good: &'a AtomicU64,
}

impl Fetcher<'_> {
    /// Fetches the chunks in runs of neighbours, one request each as long as nothing breaks.
    fn runs(&mut self, missing: &[u64], listener: &mut impl Listener) -> Result<()> {
        let neighbours = missing.chunk_by(|a, b| a + 1 == *b);
        for run in neighbours {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                self.run(*first, *last + 1, listener)?;
            }
        }
        Ok(())
    }

    /// Fetches the chunks `first..end`. What a broken connection brought is kept, and the next request begins behind it.
    /// Each trouble leads to the next source; after all of them there is a pause. Sources that refuse the bytes several times
    /// over have another file: that ends the try.
    fn run(&mut self, first: u64, end: u64, listener: &mut impl Listener) -> Result<()> {
        let mut chunk = first;
        let mut bytes = Vec::new();
        let mut wait = FIRST_WAIT;
        let (mut refusals, mut failures) = (0, 0);
        let sources = self.image.sources();
        while chunk < end {
            let before = (chunk, bytes.len());
            let error = match self.request(&mut chunk, &mut bytes, end, listener) {
                Ok(()) => continue,
                Err(Stop::Checker) => bail!("the checking thread ended"),
                Err(Stop::Refused(error)) => {
                    refusals += 1;
                    if refusals == REFUSALS * sources {
                        return Err(error.into());
                    }
                    error.into()
                }
                Err(Stop::Broken(error)) => error,
            };
            if before != (chunk, bytes.len()) {
                (wait, refusals, failures) = (FIRST_WAIT, 0, 0);
            }
            self.source += 1;
            failures += 1;
            if failures % sources != 0 {
                listener.trouble(&error, Duration::ZERO);
                tracing::info!("going on with {}", self.image.source(self.source));
                continue;
            }
            listener.trouble(&error, wait);
            std::thread::sleep(wait);
            wait = (wait * 2).min(LAST_WAIT);
        }
        Ok(())
    }

    /// One request for all that is left of a run.
    fn request(
        &mut self,
        chunk: &mut u64,
        bytes: &mut Vec<u8>,
        end: u64,
        listener: &mut impl Listener,
    ) -> Result<(), Stop> {
        let image = self.image;
        let url = image.source(self.source);
        let start = image.start(*chunk) + bytes.len() as u64;
        let range = http::range(self.client, url, start, image.start(end), image.size);
        let mut response = range.map_err(|error| match error {
            RangeError::Trouble(..) => Stop::Broken(error.into()),
            RangeError::Refused(..) => Stop::Refused(error),
        })?;
        while *chunk < end {
            let length = image.length(*chunk);
            let filled = bytes.len();
            bytes.resize(length, 0);
            let mut at = filled;
            let read = read_full(&mut response, bytes, &mut at, || {
                self.meter.tick(self.good.load(Ordering::Relaxed), listener);
            });
            bytes.truncate(at);
            let place = image.start(*chunk) + at as u64;
            let context = || format!("reading {url} at {}", human(place));
            read.with_context(context).map_err(Stop::Broken)?;
            let next = self.to_fill.try_recv().unwrap_or_default();
            let full = Filled { chunk: *chunk, bytes: std::mem::replace(bytes, next) };
            bytes.clear();
            self.filled.send(full).map_err(|_| Stop::Checker)?;
            *chunk += 1;
        }
        Ok(())
    }
}

/// Fills `buffer` from `at` on; `at` says how far it came also when it fails.
fn read_full(from: &mut impl Read, buffer: &mut [u8], at: &mut usize, mut tick: impl FnMut()) -> Result<()> {
    while let Some(rest) = buffer.get_mut(*at..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => bail!("the connection ended early"),
            Ok(count) => *at += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        tick();
    }
    Ok(())
}

/// Tells the listener how far it is, at most once a second, with the rate of the last seconds.
struct Meter {
    total: u64,
    since: Instant,
    bytes: u64,
}

impl Meter {
    fn new(bytes: u64, total: u64) -> Self {
        Meter { total, since: Instant::now(), bytes }
    }

    fn tick(&mut self, bytes: u64, listener: &mut impl Listener) {
        let elapsed = self.since.elapsed();
        if elapsed < Duration::from_secs(1) {
            return;
        }
        let rate = (bytes.saturating_sub(self.bytes) as f64 / elapsed.as_secs_f64()) as u64;
        *self = Meter::new(bytes, self.total);
        listener.progress(Progress { bytes, total: self.total, rate });
    }
}
