//! What a person sees of a build: one line per step, a bar with rate and time left for downloads. On a terminal the bar
//! moves; elsewhere there are plain lines. All of it goes to stderr.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Tells of a build's steps.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    quiet: bool,
}

impl Progress {
    /// `quiet`: only warnings.
    pub fn new(quiet: bool) -> Progress {
        Progress { start: Instant::now(), quiet }
    }

    /// A step begins.
    pub fn step(&self, what: &str) {
        if !self.quiet {
            eprintln!("[{:5.1} s] {what}", self.start.elapsed().as_secs_f64());
        }
    }

    /// Something is odd, but the build goes on.
    pub fn warn(&self, what: &str) {
        eprintln!("warning: {what}");
    }

    /// A download of `total` bytes begins.
    pub fn download(&self, what: &str, total: u64) -> Download {
        self.step(&format!("{what} ({:.1} MB)", total as f64 / 1e6));
        let hidden = self.quiet || !std::io::stderr().is_terminal();
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let template = "  {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Download { bar: ProgressBar::with_draw_target(Some(total), target).with_style(style), total }
    }

    /// Something takes long and cannot say how far it is: a moving sign on a terminal until the guard is dropped.
    pub fn busy(&self, what: &str) -> Busy {
        self.step(what);
        let hidden = self.quiet || !std::io::stderr().is_terminal();
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(
            ProgressStyle::with_template("  {spinner} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        Busy { bar }
    }
}

/// A download under way.
#[derive(Debug)]
pub struct Download {
    bar: ProgressBar,
    total: u64,
}

impl Download {
    /// So much of it is done.
    pub fn set(&self, percent: f64) {
        self.bar.set_position((self.total as f64 * percent / 100.0) as u64);
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Something that takes long.
#[derive(Debug)]
pub struct Busy {
    bar: ProgressBar,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
