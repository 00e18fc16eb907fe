//! A part of a file as a response's body.

use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::conditions::Version;
use super::range::Span;
use super::wire::{self, Outgoing};

/// How many bytes are read at once where they have to be copied. A connection holds one piece.
pub const CHUNK: usize = 64 * 1024;
/// How many bytes at the end of a longer file are copied: any would do, since a client needs all.
const TAIL: u64 = 1024;
/// So far apart are the bytes by which the page cache is tried.
const PROBE: usize = 128 * 1024;
/// A client that acknowledges nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// So often at least it is looked at whether it does.
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// The bytes of a [`Span`] of one [`Version`] of a file. When the file turns out to have changed, the body ends in an
/// error, which cuts the connection before its `Content-Length`: a client never takes a mix of two versions for whole
/// (`a_file_that_changes_is_cut` in `tests/curl`).
///
/// Where there is an [`Outgoing`], all but the tail is sent by the kernel from the file's own pages, which change with the
/// file until the client has them. So the tail is read, and the version looked at for the last time, when it has.
#[derive(Debug)]
pub struct FileBody {
    file: Arc<OwnedFd>,
    version: Version,
    left: Span,
    outgoing: Option<Outgoing>,
    /// Pages of the file may be on their way.
    lent: Option<Lent>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

/// What the client had not acknowledged when that was last looked at, and since when.
#[derive(Debug)]
struct Lent {
    bytes: u64,
    since: Instant,
    /// Until it is looked at again.
    pause: Option<Pin<Box<Sleep>>>,
    next_pause: Duration,
}

impl FileBody {
    /// `span` of `file`, which is open at `version`. `outgoing`: of the connection, if it can send files.
    pub fn new(file: OwnedFd, version: Version, span: Span, outgoing: Option<Outgoing>) -> Self {
        Self { file: Arc::new(file), version, left: span, outgoing, lent: None, reading: None }
    }

    /// What comes next; not empty.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if let Some(outgoing) = self.outgoing.clone()
            && self.left.length > CHUNK as u64
        {
            return self.poll_lend(context, &outgoing);
        }
        ready!(self.poll_settled(context))?;
        let length = usize::try_from(self.left.length).unwrap_or(CHUNK).min(CHUNK);
        if self.reading.is_none() {
            if let Some(bytes) = read_cached(&self.file, self.left.start, length) {
                return Poll::Ready(check(&self.file, &self.version).map(|()| bytes));
            }
            let (file, version, offset) = (self.file.clone(), self.version.clone(), self.left.start);
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let bytes = read(&file, offset, length)?;
                check(&file, &version).map(|()| bytes)
            }));
        }
        self.poll_reading(context)
    }

    /// Gives the kernel a part of the file, once that is in the page cache: sendfile(2) would wait for a disk.
    fn poll_lend(&mut self, context: &mut Context<'_>, outgoing: &Outgoing) -> Poll<io::Result<Bytes>> {
        let length = usize::try_from(self.left.length - TAIL).unwrap_or(wire::LONGEST).min(wire::LONGEST);
        let offset = self.left.start;
        if self.reading.is_none() && !is_cached(&self.file, offset, length) {
            let file = self.file.clone();
            self.reading = Some(tokio::task::spawn_blocking(move || warm(&file, offset, length)));
        }
        if self.reading.is_some() {
            ready!(self.poll_reading(context))?;
        }
        check(&self.file, &self.version)?;
        let (since, next_pause) = (Instant::now(), Duration::from_millis(1));
        self.lent = Some(Lent { bytes: u64::MAX, since, pause: None, next_pause });
        Poll::Ready(Ok(outgoing.put(self.file.clone(), offset, length)))
    }

    /// Waits until no page of the file is on its way any more.
    fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Some(outgoing), Some(lent)) = (&self.outgoing, &mut self.lent) else {
            return Poll::Ready(Ok(()));
        };
        ready!(outgoing.poll_sent(context));
        loop {
            // There is no event for it.
            if let Some(pause) = &mut lent.pause {
                ready!(pause.as_mut().poll(context));
            }
            let bytes = outgoing.unacknowledged()?;
            if bytes == 0 {
                self.lent = None;
                return Poll::Ready(Ok(()));
            }
            if bytes != lent.bytes {
                (lent.bytes, lent.since) = (bytes, Instant::now());
            } else if lent.since.elapsed() > PATIENCE {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            lent.pause = Some(Box::pin(tokio::time::sleep(lent.next_pause)));
            lent.next_pause = (lent.next_pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn poll_reading(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let Some(reading) = self.reading.as_mut() else { return Poll::Ready(Ok(Bytes::new())) };
        let result = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        Poll::Ready(result.unwrap_or_else(|died| Err(io::Error::other(died))))
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left.length == 0 {
            return Poll::Ready(None);
        }
        match ready!(self.poll_next(context)) {
            Ok(bytes) => {
                self.left.start += bytes.len() as u64;
                self.left.length -= bytes.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Err(error) => {
                self.left.length = 0;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left.length == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.length)
    }
}

/// Makes sure that what was read or sent so far is `version`'s.
fn check(file: &OwnedFd, version: &Version) -> io::Result<()> {
    if version.holds(&Version::from(&rustix::fs::fstat(file)?)) {
        Ok(())
    } else {
        Err(io::Error::other("the file changed during the transfer"))
    }
}

/// Whether these bytes seem to be in the page cache. Disks are mostly read in pieces of [`PROBE`].
fn is_cached(file: &OwnedFd, offset: u64, length: usize) -> bool {
    let last = length.saturating_sub(1);
    (0..length).step_by(PROBE).chain([last]).all(|at| read_cached(file, offset + at as u64, 1).is_some())
}

/// These bytes, if all of them are in the page cache.
fn read_cached(file: &OwnedFd, offset: u64, length: usize) -> Option<Bytes> {
    let mut piece = vec![0; length];
    let read = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut piece)], offset, ReadWriteFlags::NOWAIT);
    (read == Ok(length)).then(|| Bytes::from(piece))
}

/// Gets these bytes into the page cache, and gives none.
fn warm(file: &OwnedFd, offset: u64, length: usize) -> io::Result<Bytes> {
    let end = offset + length as u64;
    for at in (offset..end).step_by(CHUNK) {
        read(file, at, usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK))?;
    }
    Ok(Bytes::new())
}

/// Reads exactly `length` bytes at `offset`. May wait for a disk.
fn read(file: &OwnedFd, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut piece = Vec::with_capacity(length);
    while piece.len() < length {
        let at = offset + piece.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut piece), at) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file became shorter during the transfer",
                ));
            }
            Ok(_) => {}
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may give more than was asked for.
    piece.truncate(length);
    Ok(Bytes::from(piece))
}
