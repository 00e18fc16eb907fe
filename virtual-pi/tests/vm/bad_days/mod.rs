//! Bad days: a table of what goes wrong with network and server, each row a boot. What came of it and how soon SSH answered is
//! shown at the end.

mod fetch;
mod network;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use virtual_pi::machine::Machine;

use crate::site::LIMIT;
use crate::{tables, trial, waiting_trial};

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

/// How many rows mainly wait.
pub const WAITING: usize = fetch::WAITING.len() + network::WAITING.len();

/// The rows as tests, those first that wait.
pub fn trials() -> impl Iterator<Item = Trial> {
    let waiting = fetch::WAITING.iter().chain(network::WAITING);
    let waiting = waiting.map(|(name, run)| waiting_trial(of(name), || tell(name, &run())));
    let rows = fetch::ROWS.iter().chain(network::ROWS);
    waiting.chain(rows.map(|(name, run)| trial(of(name), || tell(name, &run()))))
}

fn of(name: &str) -> String {
    format!("bad_days::{name}")
}

fn tell(name: &str, outcome: &Outcome) {
    let ssh = outcome.ssh.map_or("-".into(), |time| format!("{:.1} s", time.as_secs_f64()));
    let head = format!("{:40} {:>10}  what came of it", "bad day", "SSH after");
    tables::add(&head, format!("{name:40} {ssh:>10}  {}", outcome.end));
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
