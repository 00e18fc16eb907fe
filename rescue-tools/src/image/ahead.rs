//! A reader that a thread of its own reads ahead of, so that network, hash and decompressor wait for each other less.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes in a piece.
const PIECE: usize = 256 << 10;
/// Pieces that wait at most; with the one being filled and the one being read, 2 MiB.
const QUEUE: usize = 6;

/// Reads `R` ahead. It ends where `R` ends, and never where `R` failed or panicked: held by `a_failure_is_never_an_end`.
pub struct Ahead<R> {
    filled: Receiver<io::Result<Vec<u8>>>,
    emptied: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
    thread: Option<JoinHandle<R>>,
}

impl<R: Read + Send + 'static> Ahead<R> {
    /// Begins to read. The thread is not waited for when this is dropped: it may hang in a read of standard input.
    pub fn new(mut from: R) -> io::Result<Self> {
        let (to_us, filled) = sync_channel(QUEUE);
        let (emptied, to_fill) = sync_channel::<Vec<u8>>(QUEUE + 2);
        let thread = std::thread::Builder::new().name("ahead".into()).spawn(move || {
            loop {
                let piece = read_piece(&mut from, to_fill.try_recv().unwrap_or_default());
                let last = !matches!(&piece, Ok(bytes) if !bytes.is_empty());
                if to_us.send(piece).is_err() || last {
                    return from;
                }
            }
        })?;
        Ok(Ahead { filled, emptied, piece: Vec::new(), at: 0, ended: false, thread: Some(thread) })
    }

    /// Reads to the end and gives the reader back.
    pub fn finish(mut self) -> io::Result<R> {
        while let length @ 1.. = self.fill_buf()?.len() {
            self.consume(length);
        }
        let thread = self.thread.take().ok_or_else(died)?;
        thread.join().map_err(|_| died())
    }
}

fn died() -> io::Error {
    io::Error::other("the thread that reads ended early")
}

/// Fills a piece; what is shorter is the end, and what is empty is nothing but the end.
fn read_piece(from: &mut impl Read, mut piece: Vec<u8>) -> io::Result<Vec<u8>> {
    piece.clear();
    from.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

impl<R> BufRead for Ahead<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.piece.len() && !self.ended {
            let next = self.filled.recv().map_err(|_| died())??;
            self.ended = next.is_empty();
            // Where nobody takes it, it is freed.
            let _ = self.emptied.try_send(std::mem::replace(&mut self.piece, next));
            self.at = 0;
        }
        Ok(self.piece.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl<R> Read for Ahead<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_come_and_the_reader_comes_back() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 7) as u8).collect();
        let mut ahead = Ahead::new(io::Cursor::new(bytes.clone())).unwrap();
        let mut start = vec![0; 1_000_000];
        ahead.read_exact(&mut start).unwrap();
        assert_eq!(start, bytes[..1_000_000]);
        assert_eq!(ahead.finish().unwrap().position(), 3_000_000, "what is left is read too");
    }

    struct Fails(u8);

    impl Read for Fails {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Ok(into.len()),
                2 => Err(io::Error::other("lost")),
                3 => panic!("not asked again"),
                _ => Ok(0),
            }
        }
    }

    #[test]
    fn a_failure_is_never_an_end() {
        let mut ahead = Ahead::new(Fails(0)).unwrap();
        let error = io::copy(&mut ahead, &mut io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "lost");
        assert!(ahead.fill_buf().is_err() && ahead.finish().is_err());
        let mut ahead = Ahead::new(Fails(2)).unwrap();
        assert!(io::copy(&mut ahead, &mut io::sink()).is_err(), "a panic");
    }

    #[test]
    fn dropping_it_ends_the_thread() {
        let (dropped, was_dropped) = std::sync::mpsc::channel();
        struct Endless(std::sync::mpsc::Sender<()>);
        impl Read for Endless {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                Ok(into.len())
            }
        }
        impl Drop for Endless {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        drop(Ahead::new(Endless(dropped)).unwrap());
        was_dropped.recv().unwrap();
    }
}
