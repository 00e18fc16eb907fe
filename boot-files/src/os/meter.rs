//! How far something long is: a bar with rate and time left on a terminal, a line now and then elsewhere.

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Read};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often there is a line where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Counts bytes towards a total. Clones count together.
#[derive(Clone)]
pub struct Meter {
    bar: ProgressBar,
    what: String,
    total: u64,
    next_line: Option<Arc<Mutex<Instant>>>,
}

impl Meter {
    /// Starts counting towards `total` bytes.
    pub fn new(what: &str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = "{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), target)
            .with_style(style)
            .with_message(what.to_owned());
        let next_line = (!terminal).then(|| Arc::new(Mutex::new(Instant::now() + LINE_EVERY)));
        Meter { bar, what: what.to_owned(), total, next_line }
    }

    /// Counts `bytes` more.
    pub fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
        self.tell();
    }

    /// `bytes` are done in all.
    pub fn set(&self, bytes: u64) {
        self.bar.set_position(bytes.min(self.total));
        self.tell();
    }

    /// Ends the display.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn tell(&self) {
        let Some(next_line) = &self.next_line else { return };
        let Ok(mut next) = next_line.try_lock() else { return };
        if Instant::now() < *next {
            return;
        }
        *next = Instant::now() + LINE_EVERY;
        let (rate, left) = (self.bar.per_sec(), self.bar.eta().as_secs());
        let (done, total) = (HumanBytes(self.bar.position()), HumanBytes(self.total));
        eprintln!("{}: {done} of {total}, {}/s, {left} s left", self.what, HumanBytes(rate as u64));
    }
}

/// Counts what is read through it.
pub struct Metered<R> {
    /// What is read.
    pub inner: R,
    /// Who counts.
    pub meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.meter.add(length as u64);
        Ok(length)
    }
}
