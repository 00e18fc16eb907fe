//! A part of a file as a response's body, read in large pieces.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use rustix::fd::OwnedFd;
use tokio::task::JoinHandle;

use super::conditions::Version;
use super::range::Span;

/// How many bytes are read at once. With one piece being written while the next is read, a connection holds two.
pub const CHUNK: usize = 512 * 1024;

/// The bytes of a [`Span`] of one [`Version`] of a file. When the file turns out to have changed, the body ends in an
/// error, which cuts the connection before its `Content-Length`: a client never takes a mix of two versions for whole
/// (`a_file_that_changes_is_cut` in `tests/curl.rs`).
#[derive(Debug)]
pub struct FileBody {
    file: Arc<OwnedFd>,
    version: Version,
    left: Span,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    /// `span` of `file`, which is open at `version`.
    pub fn new(file: OwnedFd, version: Version, span: Span) -> Self {
        Self { file: Arc::new(file), version, left: span, reading: None }
    }

    /// Starts to read the next piece, unless all has been read or a read is under way.
    fn read_ahead(&mut self) {
        if self.left.length == 0 || self.reading.is_some() {
            return;
        }
        let length = usize::try_from(self.left.length).unwrap_or(CHUNK).min(CHUNK);
        let (file, version, offset) = (self.file.clone(), self.version.clone(), self.left.start);
        self.reading = Some(tokio::task::spawn_blocking(move || read(&file, &version, offset, length)));
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.read_ahead();
        let Some(reading) = self.reading.as_mut() else { return Poll::Ready(None) };
        let result =
            ready!(Pin::new(reading).poll(context)).unwrap_or_else(|died| Err(io::Error::other(died)));
        self.reading = None;
        match result {
            Ok(bytes) => {
                self.left.start += bytes.len() as u64;
                self.left.length -= bytes.len() as u64;
                self.read_ahead();
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

/// Reads exactly `length` bytes at `offset`, and makes sure that they are `version`'s.
fn read(file: &OwnedFd, version: &Version, offset: u64, length: usize) -> io::Result<Bytes> {
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
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may give more than was asked for.
    piece.truncate(length);
    if !version.holds(&Version::from(&rustix::fs::fstat(file)?)) {
        return Err(io::Error::other("the file changed during the transfer"));
    }
    Ok(Bytes::from(piece))
}
