//! A TCP connection in the clear that sends parts of files without copying them (sendfile(2)), below hyper, which knows bytes
//! alone.
//!
//! A body gives a part to its connection's [`Outgoing`] and gets stand-ins for it: bytes of the same length from one place in
//! memory that holds nothing else. hyper carries them as it does all bytes; where they come to the [`Wire`], it sends the part.
//! It knows them by their address, so the zeros in them never go out (`files_come_as_they_are` in `tests/curl`).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use nix::libc;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The longest part in bytes. One connection gives way to others after so many.
pub const LONGEST: usize = 1 << 20;

/// As much is read at once. Most requests are shorter; memory that is not touched costs nothing.
const MOST_READ: usize = 2048;

/// Never written and never read: it takes addresses, and no memory.
static STAND_IN: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![0; LONGEST]));

/// A part of a file that is still to be sent.
#[derive(Debug)]
struct Part {
    file: Arc<OwnedFd>,
    offset: u64,
    left: usize,
}

#[derive(Debug, Default)]
struct Parts {
    queue: VecDeque<Part>,
    /// Who waits for the end of the queue.
    waits: Option<Waker>,
}

#[derive(Debug)]
struct Shared {
    stream: TcpStream,
    parts: Mutex<Parts>,
}

impl Shared {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection.
#[derive(Debug)]
pub struct Wire(Arc<Shared>);

/// Where a body puts parts of files.
#[derive(Clone, Debug)]
pub struct Outgoing(Arc<Shared>);

impl Wire {
    /// Over this stream.
    pub fn new(stream: TcpStream) -> Self {
        Self(Arc::new(Shared { stream, parts: Mutex::default() }))
    }

    /// For its bodies.
    pub fn outgoing(&self) -> Outgoing {
        Outgoing(Arc::clone(&self.0))
    }

    /// Sends of the first part, for which there are stand-ins of this length.
    fn poll_send_part(&self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        let Shared { stream, .. } = &*self.0;
        loop {
            ready!(stream.poll_write_ready(context))?;
            let mut parts = self.0.parts();
            // They are put and come here in the same order, or something else than the file would go out.
            let Some(part) = parts.queue.front_mut().filter(|part| part.left == length) else {
                return Poll::Ready(Err(io::Error::other("a file's part is out of order")));
            };
            let sent = stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(stream, &part.file, Some(&mut part.offset), part.left)?)
            });
            match sent {
                Ok(0) => {
                    let error = "the file became shorter during the transfer";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)));
                }
                Ok(count) => {
                    part.left = part.left.saturating_sub(count);
                    if part.left == 0 {
                        parts.queue.pop_front();
                        if let Some(waker) = parts.waits.take() {
                            waker.wake();
                        }
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends bytes that stand for nothing but themselves. `more`: others follow at once.
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        let Shared { stream, .. } = &*self.0;
        let flags = if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
        loop {
            ready!(stream.poll_write_ready(context))?;
            let sent = stream.try_io(Interest::WRITABLE, || {
                let mut nothing = SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(stream, bytes, &mut nothing, flags)?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

fn is_stand_in(bytes: &[u8]) -> bool {
    STAND_IN.as_ptr_range().contains(&bytes.as_ptr()) && !bytes.is_empty()
}

impl Outgoing {
    /// Puts a part of at most [`LONGEST`] bytes at the end; gives its stand-ins.
    pub fn put(&self, file: Arc<OwnedFd>, offset: u64, length: usize) -> Bytes {
        let length = length.min(LONGEST);
        self.0.parts().queue.push_back(Part { file, offset, left: length });
        STAND_IN.slice(..length)
    }

    /// Waits until all parts were given to the kernel.
    pub fn poll_sent(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut parts = self.0.parts();
        if parts.queue.is_empty() {
            return Poll::Ready(());
        }
        parts.waits = Some(context.waker().clone());
        Poll::Pending
    }

    /// How many bytes the client has not acknowledged: the kernel still holds them, and those of a file are the file's own
    /// pages, not a copy.
    ///
    /// # Errors
    /// What the connection broke of.
    pub fn unacknowledged(&self) -> io::Result<u64> {
        if let Some(error) = self.0.stream.take_error()? {
            return Err(error);
        }
        unsent(self.0.stream.as_fd())
    }
}

/// SIOCOUTQ, which is TIOCOUTQ by another name (tcp(7)).
fn unsent(socket: rustix::fd::BorrowedFd<'_>) -> io::Result<u64> {
    use rustix::ioctl::{Getter, Opcode, ioctl};
    const OUTQ: Opcode = libc::TIOCOUTQ as Opcode;
    // SAFETY: this call reads nothing and writes one int.
    #[allow(unsafe_code, reason = "neither nix nor rustix has this call")]
    let bytes = unsafe { ioctl(socket, Getter::<OUTQ, libc::c_int>::new()) }?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Shared { stream, .. } = &*self.0;
        loop {
            ready!(stream.poll_read_ready(context))?;
            let length = buffer.remaining().min(MOST_READ);
            match stream.try_read(buffer.initialize_unfilled_to(length)) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(first) = slices.iter().position(|slice| !slice.is_empty()) else {
            return Poll::Ready(Ok(0));
        };
        let slices = slices.get(first..).unwrap_or_default();
        match slices.iter().position(|slice| is_stand_in(slice)) {
            Some(0) => self.poll_send_part(context, slices.first().map_or(0, |slice| slice.len())),
            Some(at) => self.poll_send(context, slices.get(..at).unwrap_or_default(), true),
            None => self.poll_send(context, slices, false),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(&self.0.stream, rustix::net::Shutdown::Write) {
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
