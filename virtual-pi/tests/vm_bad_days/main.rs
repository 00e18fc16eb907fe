//! Bad days: a table of what goes wrong with network and server, each row a boot. What came of it and how soon SSH answered is
//! shown at the end. Most rows mainly wait, so several run at a time.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod fetch;
mod network;
#[path = "../site/mod.rs"]
mod site;

use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use virtual_pi::machine::Machine;

use site::LIMIT;

/// A boot, and what is expected of it: it panics when that does not come.
pub type Row = (&'static str, fn() -> Outcome);

/// What came of a boot.
pub struct Outcome {
    /// From power-on to SSH's greeting; `None`: no way leads there.
    pub ssh: Option<Duration>,
    /// In words.
    pub end: String,
}

/// SSH greets long before a boot has come to its end.
const GREETING: Duration = Duration::from_secs(10);
/// More than cores: a Pi that waits for its cable needs none.
const AT_ONCE: usize = 6;

static TABLE: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(1).max(AT_ONCE));
    let rows = network::ROWS.iter().chain(fetch::ROWS);
    let trial = |(name, run): &'static Row| {
        Trial::test(*name, move || {
            tell(name, &run());
            Ok(())
        })
    };
    let conclusion = libtest_mimic::run(&arguments, rows.map(trial).collect());
    let mut table = std::mem::take(&mut *TABLE.lock().unwrap());
    table.sort();
    println!("{:40} {:>10}  what came of it\n{}\n", "bad day", "SSH after", table.join("\n"));
    conclusion.exit();
}

fn tell(name: &str, outcome: &Outcome) {
    let ssh = outcome.ssh.map_or("-".into(), |time| format!("{:.1} s", time.as_secs_f64()));
    TABLE.lock().unwrap().push(format!("{name:40} {ssh:>10}  {}", outcome.end));
}

/// Runs `watch` with a machine that was just started, and measures meanwhile when SSH greets.
pub fn day(machine: &Machine, watch: impl FnOnce() -> String) -> Outcome {
    let began = Instant::now();
    thread::scope(|scope| {
        let (sender, greeted) = mpsc::channel();
        scope.spawn(move || {
            // Not longer than the boot itself takes: a machine that is over greets nobody.
            let greeted = machine.ssh_banner(LIMIT).is_ok();
            let _ = sender.send(greeted.then(|| began.elapsed()));
        });
        let end = watch();
        let ssh = greeted.recv_timeout(GREETING).ok().flatten();
        if ssh.is_none() {
            // Nobody is to wait for what does not come any more.
            machine.kill();
        }
        assert!(!machine.console().contains("Kernel panic"), "{}", machine.console());
        Outcome { ssh, end }
    })
}
