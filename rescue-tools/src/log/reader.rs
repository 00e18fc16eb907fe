//! Reads `/dev/kmsg`: first what is there, then, for who wants it, what comes.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::record::Record;

/// More than any record has (`CONSOLE_EXT_LOG_MAX` of the kernel is 8192).
const CHUNK: usize = 16 << 10;

/// The records in their order.
#[derive(Debug)]
pub struct Reader {
    file: File,
    /// What was read and is not complete yet.
    rest: Vec<u8>,
    ready: VecDeque<Record>,
    /// The number that the next record should have.
    next: Option<u64>,
    lost: u64,
}

impl Reader {
    /// Begins with the oldest record that the kernel still has.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path);
        let file = file.with_context(|| format!("opening the kernel's log {}", path.display()))?;
        Ok(Reader { file, rest: Vec::new(), ready: VecDeque::new(), next: None, lost: 0 })
    }

    /// The next record that is there.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        let mut buffer = vec![0; CHUNK];
        while self.ready.is_empty() {
            match rustix::io::read(&self.file, &mut buffer) {
                Ok(0) => {
                    self.split(true);
                    break;
                }
                Ok(count) => {
                    self.rest.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    self.split(false);
                }
                Err(Errno::AGAIN) => break,
                // Overwritten before it was read: the next one follows, and its number says how many are lost.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(error) => return Err(error).context("reading the kernel's log"),
            }
        }
        let record = self.ready.pop_front();
        if let Some(record) = &record {
            self.lost += self.next.map_or(record.sequence, |next| record.sequence.saturating_sub(next));
            self.next = Some(record.sequence + 1);
        }
        Ok(record)
    }

    /// Waits until there is something to read.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn wait(&self) -> Result<()> {
        match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("waiting for the kernel's log"),
        }
    }

    /// How many records the kernel has had to overwrite before they were read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes the complete records out of what was read: a record begins with a figure, its further lines with a blank.
    fn split(&mut self, at_end: bool) {
        let bytes = std::mem::take(&mut self.rest);
        let mut record = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !line.starts_with(b" ") && !record.is_empty() {
                self.ready.extend(Record::parse(&String::from_utf8_lossy(&record)));
                record.clear();
            }
            record.extend_from_slice(line);
        }
        // The device gives whole records, so that one that ends in a newline is complete; of a file more may follow.
        if at_end || (record.ends_with(b"\n") && bytes.len() < CHUNK) {
            self.ready.extend(Record::parse(&String::from_utf8_lossy(&record)));
        } else {
            self.rest = record;
        }
    }
}

/// All records that are there, oldest first, and how many are lost.
///
/// # Errors
/// When the log cannot be opened or read.
pub fn read_all(path: &Path) -> Result<(Vec<Record>, u64)> {
    let mut reader = Reader::open(path)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok((records, reader.lost()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_number_come_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kmsg");
        // Several chunks, and records that lie across their borders.
        let line =
            |number: u64| format!("6,{number},{number}000,-;message ä {number}\n DEVICE=b8:{number}\n");
        let text: String = (0..2000).filter(|number| *number != 7).map(line).collect();
        std::fs::write(&path, text).unwrap();
        let (records, lost) = read_all(&path).unwrap();
        assert_eq!((records.len(), lost), (1999, 1));
        let last = records.last().unwrap();
        assert_eq!((last.message.as_str(), last.device.as_deref()), ("message ä 1999", Some("b8:1999")));
    }

    #[test]
    fn what_the_kernel_has_overwritten_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kmsg");
        std::fs::write(&path, "6,10,1,-;a\nnonsense\n6,12,2,-;b\n").unwrap();
        let (records, lost) = read_all(&path).unwrap();
        assert_eq!((records.len(), lost), (2, 11));
    }
}
