//! Says where the boot stands, each time in the same words, to everyone who looks: `/dev/kmsg` and the console,
//! `/run/lifeboat/boot.json` (which `rescue status` shows), the boot server, and a test's virtio-serial port.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::control::{self, Message};
use super::events::Sender;
use super::file;
use super::pulse::Pulse;
use crate::event::{EVENT_FORMAT, Event, Progress, State};
use crate::size::human;
use crate::status::{
    BOOT_STATUS_PATH, BootStatus, HOST_KEY_FINGERPRINT_PATH, Machine, NETWORK_STATUS_PATH, NetworkStatus,
    StepError,
};

/// The virtio-serial port that a test's host listens on.
const REPORT_PORT: &str = "org.lifeboat.report";

/// The boot's voice.
pub struct Announcer {
    status: BootStatus,
    machine: Machine,
    boot_id: String,
    /// Told with every event.
    pub last_crash: Option<String>,
    sequence: u64,
    events: Sender,
    report: Option<File>,
    began: Instant,
    /// What is announced is a sign of life.
    pub pulse: Pulse,
}

impl Announcer {
    /// Nothing is said yet.
    pub fn new() -> Self {
        let status = BootStatus {
            goal: "not known yet".into(),
            step: String::new(),
            number: 0,
            total: 0,
            state: State::Started,
            uptime_ms: 0,
            progress: None,
            last_error: None,
            next: String::new(),
            reboots: None,
        };
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Announcer {
            status,
            machine: Machine::default(),
            boot_id: boot_id.trim().into(),
            last_crash: None,
            sequence: 0,
            events: Sender::none(),
            report: None,
            began: Instant::now(),
            pulse: Pulse::new(),
        }
    }

    /// What the boot is to become, on which machine, and whom to tell.
    pub fn set_goal(&mut self, goal: String, machine: Machine, events: Sender) {
        (self.status.goal, self.machine, self.events) = (goal, machine, events);
    }

    /// It is to become something else.
    pub fn change_goal(&mut self, goal: String) {
        self.status.goal = goal;
    }

    /// How the boot stands with starting the machine anew.
    pub fn set_reboots(&mut self, words: String) {
        tracing::info!("reboots: {words}");
        self.status.reboots = Some(words);
    }

    /// A step begins.
    pub fn started(&mut self, step: &str, number: usize, total: usize) {
        (self.status.step, self.status.number, self.status.total) = (step.into(), number, total);
        self.status.progress = None;
        self.status.next = format!("{step} is running");
        self.began = Instant::now();
        self.publish(State::Started, None, None);
    }

    /// It waits for something outside.
    pub fn waiting(&mut self, what: &str) {
        self.pulse.renew();
        if self.status.state == State::Waiting && self.status.next == what {
            return;
        }
        tracing::info!("{}: {what}", self.place());
        self.status.next = what.into();
        self.publish(State::Waiting, None, None);
    }

    /// It has got further.
    pub fn progress(&mut self, progress: Progress) {
        let Progress { bytes, total, rate } = progress;
        let percent = bytes * 100 / total.max(1);
        let left =
            (total - bytes.min(total)).checked_div(rate).map_or("unknown".into(), |s| format!("{s} s"));
        let line =
            format!("{} of {} ({percent}%), {}/s, {left} left", human(bytes), human(total), human(rate));
        tracing::info!("{}: {line}", self.place());
        self.status.progress = Some(progress);
        self.publish(State::Progress, None, None);
        self.tell_pid1(bytes);
    }

    /// It has got further by something that is no transfer of its own; `mark` grows with it.
    pub fn advanced(&self, mark: u64) {
        self.tell_pid1(mark);
    }

    /// It is done.
    pub fn done(&mut self) {
        tracing::info!("{}: done, {} ms", self.place(), self.began.elapsed().as_millis());
        self.publish(State::Done, None, None);
        self.tell_pid1(u64::MAX);
    }

    /// It failed. `next` says what happens now and what a human can do.
    pub fn failed(&mut self, error: &anyhow::Error, retry_in: Option<Duration>, next: &str) {
        let text = format!("{error:#}");
        tracing::error!("{}: failed: {text}", self.place());
        tracing::error!("{}: {next}", self.place());
        let step = self.status.step.clone();
        self.status.last_error = Some(StepError { step, error: text.clone(), uptime_ms: uptime_ms() });
        self.status.next = next.into();
        self.publish(State::Failed, Some(text), retry_in);
    }

    /// PID 1 counts from the last progress until it starts the machine anew. Where it does not listen, it counts nothing.
    fn tell_pid1(&self, bytes: u64) {
        const STEP: u64 = 1 << 48;
        let mark = self.status.number as u64 * STEP + bytes.min(STEP - 1);
        let _ = control::send(&Message::Progress { mark });
    }

    fn place(&self) -> String {
        format!("{}/{} {}", self.status.number, self.status.total, self.status.step)
    }

    fn publish(&mut self, state: State, error: Option<String>, retry_in: Option<Duration>) {
        self.pulse.renew();
        self.status.state = state;
        self.status.uptime_ms = uptime_ms();
        // Before the file systems are there, nobody could read it either.
        let _ = file::replace_json(Path::new(BOOT_STATUS_PATH), &self.status);
        self.report();
        self.sequence += 1;
        let network: Option<NetworkStatus> = file::read_json(Path::new(NETWORK_STATUS_PATH));
        let interfaces = network.map(|network| network.interfaces).unwrap_or_default();
        self.events.send(Event {
            format: EVENT_FORMAT,
            boot_id: self.boot_id.clone(),
            sequence: self.sequence,
            uptime_ms: self.status.uptime_ms,
            step: self.status.step.clone(),
            state,
            progress: self.status.progress,
            error,
            retry_in_s: retry_in.map(|wait| wait.as_secs()),
            addresses: interfaces.into_iter().flat_map(|interface| interface.addresses).collect(),
            host_key: std::fs::read_to_string(HOST_KEY_FINGERPRINT_PATH).ok().map(|text| text.trim().into()),
            model: Some(self.machine.model.clone()).filter(|model| !model.is_empty()),
            bootloader: self.machine.bootloader.clone(),
            last_crash: self.last_crash.clone(),
        });
    }

    /// One line of JSON for a test's host, where there is one.
    fn report(&mut self) {
        if self.report.is_none() {
            self.report = report_port();
        }
        if let (Some(port), Ok(mut line)) = (&mut self.report, serde_json::to_vec(&self.status)) {
            line.push(b'\n');
            let _ = port.write_all(&line);
        }
    }
}

impl Default for Announcer {
    fn default() -> Self {
        Self::new()
    }
}

fn report_port() -> Option<File> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    let named = ports.flatten().find(|port| {
        std::fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == REPORT_PORT)
    })?;
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
    options.write(true).open(Path::new("/dev").join(named.file_name())).ok()
}

/// Milliseconds since the kernel started.
pub fn uptime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}
