//! The bootloader's log, as its UART shows it: seconds since power-on, then the words.

use std::fmt;
use std::io::Write;
use std::time::Instant;

/// Where the lines go.
pub struct Log {
    out: Box<dyn Write + Send>,
    started: Instant,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("started", &self.started).finish_non_exhaustive()
    }
}

impl Log {
    /// A log that starts now.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self { out: Box::new(out), started: Instant::now() }
    }

    /// A log on standard error.
    pub fn to_stderr() -> Self {
        Self::new(std::io::stderr())
    }

    /// A line in the bootloader's own words.
    pub fn line(&mut self, words: impl fmt::Display) {
        // A log that nobody can read any more does not stop a boot.
        let _unread = writeln!(self.out, "{:6.2} {words}", self.started.elapsed().as_secs_f64());
    }

    /// A line in our words: something that the real one does not say, or does otherwise.
    pub fn note(&mut self, words: impl fmt::Display) {
        self.line(format_args!("virtual-pi: {words}"));
    }

    /// The line for a file that was read.
    pub fn read(&mut self, file: &str, bytes: usize) {
        self.line(format_args!("Read {file} bytes {bytes:8} hnd 0x00000000"));
    }
}
