//! A server's processes: how much processor time they took, and how much memory they have.

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// So often its processes are looked at: some servers' children leave no trace of what they took.
const GLANCE: Duration = Duration::from_millis(20);
/// Memory takes longer to look at: each so many glances.
const GLANCES_FOR_MEMORY: u32 = 10;

/// A server with all its children. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command that becomes the server itself.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn().context("starting ip and setpriv (Debian: iproute2, util-linux)")?;
        Ok(Self { child })
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Begins to watch what it takes.
    pub(crate) fn watch(&self) -> Watch {
        let (pid, before) = (self.child.id(), family(self.child.id()));
        let before = before.into_iter().filter_map(ticks).sum();
        let end = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&end);
        let thread = std::thread::spawn(move || look(pid, before, &stop));
        Watch { end, thread }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // TERM: nginx takes its workers along.
            let _gone = kill_process(pid, Signal::TERM);
        }
        let _gone = self.child.wait();
    }
}

/// What a server took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Processor seconds, in hundredths, of the server and its children; of those that ended, what they had when they were
    /// last seen.
    pub(crate) cpu_seconds: f64,
    /// The most memory that was seen, in MiB: the sum of all processes' Pss, in which what they share counts once.
    pub(crate) memory: f64,
    /// The most of it that was no file's: the kernel can give pages of a program's file to others, but not these.
    pub(crate) own_memory: f64,
}

/// Somebody who looks at a server now and then.
#[derive(Debug)]
pub(crate) struct Watch {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Taken>,
}

impl Watch {
    /// Looks once more.
    pub(crate) fn end(self) -> Taken {
        self.end.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_default()
    }
}

fn look(pid: u32, before: u64, end: &AtomicBool) -> Taken {
    let (mut seen, mut most, mut glances) = (HashMap::new(), Memory::default(), 0_u32);
    loop {
        let last = end.load(Ordering::Relaxed);
        let family = family(pid);
        for pid in &family {
            if let Some(ticks) = ticks(*pid) {
                seen.insert(*pid, ticks);
            }
        }
        if last || glances.is_multiple_of(GLANCES_FOR_MEMORY) {
            most = most.and_most(family.into_iter().filter_map(memory));
        }
        if last {
            let ticks = seen.values().sum::<u64>().saturating_sub(before);
            let cpu_seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
            let [memory, own_memory] = [most.all, most.own].map(|kib| kib as f64 / 1024.0);
            return Taken { cpu_seconds, memory, own_memory };
        }
        glances += 1;
        std::thread::park_timeout(GLANCE);
    }
}

/// A process, its children, and theirs.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        at += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    all
}

/// Of one process (proc_pid_stat(5): utime, stime).
fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may have spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
}

/// In KiB.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// The share of all that is mapped (Pss).
    all: u64,
    /// What of it is no file's (Pss_Anon).
    own: u64,
}

impl Memory {
    /// This, or the sum of a family's where that is more.
    fn and_most(self, family: impl Iterator<Item = Self>) -> Self {
        let sum =
            family.fold(Self::default(), |sum, one| Self { all: sum.all + one.all, own: sum.own + one.own });
        Self { all: self.all.max(sum.all), own: self.own.max(sum.own) }
    }
}

/// Of one process (proc_pid_smaps_rollup(5)).
fn memory(pid: u32) -> Option<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Memory { all: field("Pss:")?, own: field("Pss_Anon:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let pid = std::process::id();
        let memory = memory(pid).unwrap();
        assert!(memory.all > memory.own && memory.own > 100, "{memory:?}");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(family(pid).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(ticks(pid).is_some());
    }
}
