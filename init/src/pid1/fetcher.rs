//! The half of a fetch that reads the network: one request for each run of neighbouring chunks as long as nothing breaks, then
//! on from the byte that was reached, from the next source.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::http::{self, RangeError, Way};
use super::image::{Filled, Hashes, Image, Listener};
use super::pace::{Backoff, Limiter, Paced, Trickle};
use crate::event::Progress;
use crate::size::human;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// How often a server may refuse before the manifest is asked for again: a file being replaced is there soon.
const REFUSALS: usize = 3;

/// Why a request ended early.
enum Stop {
    /// The connection broke, or there is none: worth another try.
    Broken(anyhow::Error),
    /// The server has other bytes.
    Refused(RangeError),
    /// Nobody checks any more; its own error says why.
    Checker,
}

/// What a fetch knows over all its requests.
pub(super) struct Kept {
    /// Which of the image's sources is asked next.
    pub(super) source: usize,
    /// Of each source, what its first answer said of the file's state.
    validators: Vec<Option<String>>,
    limiter: Limiter,
    trickle: Trickle,
}

impl Kept {
    pub(super) fn new(rate: Option<u64>, sources: usize) -> Self {
        let validators = vec![None; sources];
        Kept { source: 0, validators, limiter: Limiter::new(rate), trickle: Trickle::default() }
    }

    fn validator(&mut self) -> Option<&mut Option<String>> {
        let source = self.source.checked_rem(self.validators.len())?;
        self.validators.get_mut(source)
    }
}

/// The one that reads the network.
pub(super) struct Fetcher<'a> {
    image: &'a Image,
    way: &'a Way,
    kept: &'a mut Kept,
    filled: SyncSender<Filled>,
    to_fill: Receiver<Vec<u8>>,
    meter: Meter,
    good: &'a AtomicU64,
}

impl<'a> Fetcher<'a> {
    pub(super) fn new(
        image: &'a Image,
        way: &'a Way,
        kept: &'a mut Kept,
        filled: SyncSender<Filled>,
        to_fill: Receiver<Vec<u8>>,
        good: &'a AtomicU64,
    ) -> Self {
        let meter = Meter::new(good.load(Ordering::Relaxed), image.size);
        Fetcher { image, way, kept, filled, to_fill, meter, good }
    }

    /// Fetches the chunks in runs of neighbours, one request each as long as nothing breaks.
    pub(super) fn runs(&mut self, missing: &[u64], listener: &mut impl Listener) -> Result<()> {
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
        let mut backoff = Backoff::new(FIRST_WAIT, LAST_WAIT);
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
                backoff.reset();
                (refusals, failures) = (0, 0);
            }
            self.kept.source += 1;
            failures += 1;
            if failures % sources != 0 {
                listener.trouble(&error, Duration::ZERO);
                tracing::info!("going on with {}", self.image.source(self.kept.source));
                continue;
            }
            let wait = backoff.wait();
            listener.trouble(&error, wait);
            std::thread::sleep(wait);
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
        let url = image.source(self.kept.source);
        let part = image.start(*chunk) + bytes.len() as u64..image.start(end);
        let validator = self.kept.validator().and_then(|validator| validator.clone());
        let range = http::range(&self.way.client, url, part, image.size, validator.as_deref());
        let response = range.map_err(|error| self.stop(error))?;
        if let Some(first) = self.kept.validator().filter(|validator| validator.is_none()) {
            *first = http::validator(&response);
        }
        let Kept { limiter, trickle, .. } = &mut *self.kept;
        let mut response = Paced::new(response, limiter, trickle);
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

impl Fetcher<'_> {
    /// What a range that was not given means for this request.
    fn stop(&mut self, error: RangeError) -> Stop {
        match error {
            RangeError::Trouble(..) => return Stop::Broken(error.into()),
            RangeError::Refused(..) => {}
            // Each chunk of the new file is checked by itself; a hash over all has no use for half of another file.
            RangeError::Changed(..) if matches!(self.image.hashes, Hashes::Chunks(_)) => {
                if let Some(validator) = self.kept.validator() {
                    *validator = None;
                }
            }
            RangeError::Changed(..) => {}
        }
        Stop::Refused(error)
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
