//! Signs of life while a program works that says nothing.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Work shorter than this shows nothing.
const SILENCE: Duration = Duration::from_secs(2);

/// Shows how long `what` has been going on, on a terminal's last line, until it is dropped.
#[derive(Debug)]
pub struct Ticker {
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Ticker {
    /// Starts; nothing is shown where standard error is no terminal.
    pub fn start(what: impl Into<String>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Ticker { thread: None };
        }
        let what = what.into();
        let (end, ended) = channel::<()>();
        let thread = thread::spawn(move || {
            let began = Instant::now();
            let mut shown = 0;
            let mut wait = SILENCE;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                let line = format!("{what}: {}", minutes(began.elapsed()));
                shown = line.chars().count();
                let _ = write!(std::io::stderr(), "\r{line}");
                wait = Duration::from_secs(1);
            }
            if shown > 0 {
                let _ = write!(std::io::stderr(), "\r{:shown$}\r", "");
            }
        });
        Ticker { thread: Some((end, thread)) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}

/// `1:05` (minutes and seconds).
fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticker_ends_at_once() {
        drop(Ticker::start("checking"));
        assert_eq!(minutes(Duration::from_secs(65)), "1:05");
    }
}
