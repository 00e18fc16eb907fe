//! PID 1 itself. It never dies: it reaps, forwards signals, feeds the watchdog, starts its children again, and at the
//! end switches root and execs. It mounts nothing, reads no outside bytes, and waits in one place.
//!
//! Invariant 1 of the design; the vm tier's test `every_child_killed_comes_back` holds it.

use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use super::control::{self, Message};
use super::handover;
use super::watchdog::{self, FEED_EVERY_S, Watchdog};
use crate::status::SESSIONS_DIR;

/// A child that runs for ever: name, program, arguments, and whether it starts before the file systems are mounted.
struct Service {
    name: &'static str,
    argv: &'static [&'static str],
    first: bool,
}

/// A child that ends with this code has nothing to do in this boot.
pub const NOTHING_TO_DO: u8 = 100;

const WORKER: &[&str] = &["/init", "boot"];
const SERVICES: [Service; 6] = [
    Service { name: "boot", argv: WORKER, first: true },
    Service { name: "devices", argv: &["/init", "devices"], first: false },
    Service { name: "network", argv: &["/init", "network"], first: false },
    Service { name: "log", argv: &["/init", "log"], first: false },
    Service { name: "sshd", argv: &["/rescue", "sshd"], first: false },
    Service { name: "console", argv: &["/rescue", "console"], first: false },
];

/// A child is started again at once, then after 1, 2, 4 … seconds, at most this many.
const BACKOFF_LIMIT_S: u64 = 30;
/// A child that lived so long has earned a fresh start.
const GOOD_LIFE: Duration = Duration::from_secs(60);
/// Without word from the boot that the file systems are there, the others start anyway.
const FILESYSTEMS_LIMIT: Duration = Duration::from_secs(10);

struct Child {
    service: &'static Service,
    process: Option<Pid>,
    started: Instant,
    start_at: Option<Instant>,
    failures: u32,
}

impl Child {
    fn start(&mut self) {
        self.start_at = None;
        self.started = Instant::now();
        let Some((program, arguments)) = self.service.argv.split_first() else { return };
        match Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
            Ok(child) => self.process = Some(Pid::from_raw(child.id() as i32)),
            Err(error) => {
                tracing::error!("starting {} ({program}): {error}", self.service.name);
                self.ended();
            }
        }
    }

    /// Decides when it starts again.
    fn ended(&mut self) {
        self.process = None;
        if self.started.elapsed() > GOOD_LIFE {
            self.failures = 0;
        }
        let wait = match self.failures {
            0 => 0,
            n => (1 << (n - 1).min(5)).min(BACKOFF_LIMIT_S),
        };
        self.failures = self.failures.saturating_add(1);
        self.start_at = Some(Instant::now() + Duration::from_secs(wait));
    }
}

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Start anew.
    Reboot,
    /// Switch off.
    PowerOff,
    /// Stop the processor.
    Halt,
    /// Start the kernel that is loaded.
    Kexec,
}

/// PID 1's whole state.
struct Supervisor {
    began_us: i64,
    control: Option<UnixDatagram>,
    signals: Vec<(UnixStream, i32)>,
    children: Vec<Child>,
    watchdog: Watchdog,
    /// The last [`Message::Alive`], or the start of the worker that has not sent one yet.
    last_sign: Instant,
    reboot_after: Option<Duration>,
    /// The largest mark of [`Message::Progress`] so far.
    furthest: u64,
    last_progress: Instant,
}

/// Runs as PID 1, for ever.
pub fn run() -> ! {
    super::kmsg::start("lifeboat");
    // The out-of-memory killer takes anyone but PID 1 (its children set their own figure).
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let mut supervisor = Supervisor::new();
    loop {
        supervisor.turn();
    }
}

impl Supervisor {
    fn new() -> Self {
        let control = control::listen();
        if let Err(error) = &control {
            tracing::error!(
                "opening PID 1's control socket: {error}; a hand-over is not possible, the rescue is"
            );
        }
        let now = Instant::now();
        let children = SERVICES.iter().map(|service| {
            let wait = if service.first { Duration::ZERO } else { FILESYSTEMS_LIMIT };
            Child { service, process: None, started: now, start_at: Some(now + wait), failures: 0 }
        });
        Supervisor {
            began_us: super::systemd::now_us(),
            control: control.ok(),
            signals: [SIGCHLD, SIGTERM, SIGINT, SIGUSR1, SIGUSR2]
                .into_iter()
                .filter_map(signal_pipe)
                .collect(),
            children: children.collect(),
            watchdog: Watchdog::default(),
            last_sign: now,
            reboot_after: None,
            furthest: 0,
            last_progress: now,
        }
    }

    /// One round: whatever is due, then wait for what comes next.
    fn turn(&mut self) {
        self.reap();
        let now = Instant::now();
        for child in &mut self.children {
            if child.start_at.is_some_and(|at| at <= now) {
                child.start();
                if child.service.argv == WORKER {
                    self.last_sign = now;
                }
            }
        }
        if watchdog::is_somebody_there(self.last_sign, is_logged_in) {
            self.watchdog.feed();
        } else {
            self.watchdog.starve();
        }
        self.reboot_when_forgotten();
        self.wait();
        for signal in self.taken_signals() {
            match signal {
                SIGTERM | SIGINT => self.end(End::Reboot),
                SIGUSR1 => self.end(End::Halt),
                SIGUSR2 => self.end(End::PowerOff),
                _ => {}
            }
        }
        while let Some(message) = self.control.as_ref().and_then(control::receive) {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::FilesystemsReady => {
                // Its figure was inherited by the children that came before /proc was there.
                let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
                let waiting =
                    self.children.iter_mut().filter(|child| child.failures == 0 && child.process.is_none());
                waiting.for_each(Child::start);
            }
            Message::Settings { reboot_after, watchdog } => {
                self.reboot_after = (reboot_after > 0).then(|| Duration::from_secs(reboot_after));
                self.watchdog.set_policy(watchdog);
            }
            Message::Alive => self.last_sign = Instant::now(),
            Message::Progress { mark } => {
                if mark > self.furthest {
                    self.furthest = mark;
                    self.last_progress = Instant::now();
                }
            }
            Message::HandOver(destination) => {
                self.watchdog.leave(destination.feeds_watchdog);
                // Comes back only when it failed, with everything as before but the children.
                let error = handover::hand_over(&destination, self.began_us, &mut self.watchdog);
                tracing::error!("handing over to {}: {error:#}; the rescue goes on", destination.init);
                self.watchdog.take_back();
                for child in &mut self.children {
                    child.ended();
                }
            }
            Message::Kexec if crate::control::is_kernel_loaded() => self.end(End::Kexec),
            Message::Kexec => tracing::error!("no kernel is loaded that could be started"),
        }
    }

    fn reap(&mut self) {
        loop {
            let (process, how) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(process, code)) if code == i32::from(NOTHING_TO_DO) => {
                    let done = self.children.iter_mut().filter(|child| child.process == Some(process));
                    done.for_each(|child| child.process = None);
                    continue;
                }
                Ok(WaitStatus::Exited(process, code)) => (process, format!("exit code {code}")),
                Ok(WaitStatus::Signaled(process, signal, _)) => (process, format!("{signal}")),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return tracing::error!("waiting for children: {error}"),
            };
            if let Some(child) = self.children.iter_mut().find(|child| child.process == Some(process)) {
                child.ended();
                tracing::warn!("{} ended ({how}): starting it again", child.service.name);
            }
        }
    }

    /// Invariant 2: no failure is the end. The row "too big for the RAM" of `vm::bad_days` holds it.
    fn reboot_when_forgotten(&mut self) {
        let Some(limit) = self.reboot_after else { return };
        if is_logged_in() {
            self.last_progress = Instant::now();
        }
        if self.last_progress.elapsed() > limit {
            tracing::error!("neither progress nor a login for {} s: rebooting", limit.as_secs());
            self.end(End::Reboot);
        }
    }

    /// Waits for a signal, a message, or the next thing that is due.
    fn wait(&self) {
        let due = self.children.iter().filter_map(|child| child.start_at);
        let feed = Instant::now() + Duration::from_secs(FEED_EVERY_S);
        let until = due.chain([feed]).min().unwrap_or(feed);
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let sources = self.signals.iter().map(|(pipe, _)| pipe.as_fd());
        let sources = sources.chain(self.control.iter().map(|socket| socket.as_fd()));
        let mut polled: Vec<PollFd> = sources.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        // An interrupted or failed wait only means another round.
        let _ = poll(&mut polled, Some(&timeout));
    }

    fn taken_signals(&self) -> Vec<i32> {
        let mut buffer = [0; 64];
        let mut came = |pipe: &UnixStream| rustix::io::read(pipe, &mut buffer).is_ok_and(|count| count > 0);
        self.signals.iter().filter(|(pipe, _)| came(pipe)).map(|(_, signal)| *signal).collect()
    }

    fn end(&mut self, how: End) {
        tracing::warn!("{how:?}: stopping everything");
        handover::end_machine(how, &mut self.watchdog);
    }
}

/// Whether anybody is at work here, or holds the boot.
fn is_logged_in() -> bool {
    std::fs::read_dir(SESSIONS_DIR).is_ok_and(|mut sessions| sessions.next().is_some())
}

/// A pipe that gets a byte for each of these signals.
fn signal_pipe(signal: i32) -> Option<(UnixStream, i32)> {
    let made = UnixStream::pair().and_then(|(read, write)| {
        read.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal, write)?;
        Ok((read, signal))
    });
    made.inspect_err(|error| tracing::error!("catching signal {signal}: {error}")).ok()
}
