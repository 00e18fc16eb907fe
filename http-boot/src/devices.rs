//! What devices reported: a bounded memory of their boot events. It informs people; nothing acts on it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use init::event::{Event, Progress, State};
use serde::{Serialize, Serializer};

use crate::store::Store;
use crate::store::seen::{self, Known};

/// How much is kept. Events come from anyone who can reach the port, so every dimension has a bound.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Devices; the one that was silent for longest goes first.
    pub devices: usize,
    /// Events of one device; the oldest goes first.
    pub events: usize,
    /// Bytes of one device's events, as JSON.
    pub device_bytes: usize,
    /// Bytes of all events, as JSON; the device that was silent for longest goes first.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { devices: 4096, events: 256, device_bytes: 512 * 1024, bytes: 128 * 1024 * 1024 }
    }
}

/// How many boots of a device are told apart when events of an older boot arrive late.
const BOOTS_REMEMBERED: usize = 8;

/// A device's serial number: 1 to 64 of `0-9A-Za-z_-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Serial(String);

impl Serial {
    /// The serial number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A serial number that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the serial in the path is not 1 to 64 characters of 0-9, A-Z, a-z, _ and -")]
pub struct BadSerial;

impl FromStr for Serial {
    type Err = BadSerial;

    fn from_str(text: &str) -> Result<Self, BadSerial> {
        let known = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(known) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadSerial)
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment by the server's clock; written as RFC 3339, UTC, with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub SystemTime);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0))
    }
}

/// An event and when it came.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    /// When it came.
    pub received: Moment,
    /// What came.
    #[serde(flatten)]
    pub event: Event,
    #[serde(skip)]
    bytes: usize,
}

impl Received {
    /// An event that came as `bytes` bytes of JSON.
    pub fn new(received: Moment, event: Event, bytes: usize) -> Self {
        Self { received, event, bytes }
    }
}

/// A device in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its serial number, as in the path.
    pub serial: Serial,
    /// Where its last event came from.
    pub address: IpAddr,
    /// When its first event came.
    pub first_seen: Moment,
    /// When its last event came.
    pub last_seen: Moment,
    /// How many different `boot_id`s it had.
    pub boots: u64,
    /// The newest of them.
    pub boot_id: String,
    /// The sequence number of that boot's newest event.
    pub sequence: u64,
    /// That event's milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// The step that the boot is in.
    pub step: String,
    /// Where that step stands.
    pub state: State,
    /// How far a transfer is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why the step failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// In how many seconds it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_in_s: Option<u64>,
    /// The device tree's `model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The bootloader's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootloader: Option<String>,
    /// Its own addresses, with prefix.
    pub addresses: Vec<String>,
    /// Its SSH host key's fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// How an earlier boot of it crashed, as its newest boot says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_crash: Option<String>,
}

#[derive(Debug)]
struct Device {
    summary: Summary,
    recent_boots: VecDeque<String>,
    events: VecDeque<Received>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Memory {
    devices: HashMap<Serial, Device>,
    bytes: usize,
}

/// All devices.
#[derive(Debug, Default)]
pub struct Devices {
    limits: Limits,
    memory: Mutex<Memory>,
}

impl Devices {
    /// An empty memory with other limits.
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, memory: Mutex::default() }
    }

    /// Remembers an event that came from `address` as `bytes` bytes of JSON. Says whether it is of the device's newest
    /// boot: events may arrive late.
    pub fn record(&self, serial: &Serial, address: IpAddr, event: Event, bytes: usize) -> bool {
        let received = Received { received: Moment(SystemTime::now()), event, bytes };
        let boot = received.event.boot_id.clone();
        self.remember(serial, address, received);
        self.memory().devices.get(serial).is_some_and(|device| device.summary.boot_id == boot)
    }

    /// Takes up what an earlier run of this server wrote down.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn restore(&self, store: &Store) -> anyhow::Result<()> {
        store.read(|t| {
            seen::known(t, self.limits.devices, self.limits.events, |known| self.restore_one(known))
        })
    }

    fn restore_one(&self, known: Known) {
        for (address, received) in known.events {
            self.remember(&known.serial, address, received);
        }
        // A device whose events are all forgotten has no state that could be shown.
        if let Some(Device { summary, .. }) = self.memory().devices.get_mut(&known.serial) {
            summary.first_seen = known.first_seen;
            summary.boots = summary.boots.max(known.boots);
            summary.model = summary.model.take().or(known.model);
            summary.bootloader = summary.bootloader.take().or(known.bootloader);
            summary.host_key = summary.host_key.take().or(known.host_key);
            if summary.addresses.is_empty() {
                summary.addresses = known.addresses;
            }
        }
    }

    fn remember(&self, serial: &Serial, address: IpAddr, received: Received) {
        let mut memory = self.memory();
        let before = memory.devices.get(serial).map_or(0, |device| device.bytes);
        let device = match memory.devices.get_mut(serial) {
            Some(device) => device,
            None => {
                let device = Device::new(serial.clone(), address, &received);
                memory.devices.entry(serial.clone()).or_insert(device)
            }
        };
        device.record(address, received, self.limits);
        let after = device.bytes;
        memory.bytes = memory.bytes - before + after;
        memory.forget(self.limits);
    }

    /// All devices, by serial number.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut all: Vec<_> = self.memory().devices.values().map(|device| device.summary.clone()).collect();
        all.sort_by(|a, b| a.serial.cmp(&b.serial));
        all
    }

    /// A device in short.
    pub fn summary(&self, serial: &Serial) -> Option<Summary> {
        self.memory().devices.get(serial).map(|device| device.summary.clone())
    }

    /// A device's last events, in the order in which they came.
    pub fn events(&self, serial: &Serial) -> Option<Vec<Received>> {
        self.memory().devices.get(serial).map(|device| device.events.iter().cloned().collect())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn forget(&mut self, limits: Limits) {
        while self.devices.len() > limits.devices || (self.bytes > limits.bytes && self.devices.len() > 1) {
            let silent =
                self.devices.values().min_by_key(|d| d.summary.last_seen).map(|d| d.summary.serial.clone());
            let Some(device) = silent.and_then(|serial| self.devices.remove(&serial)) else { return };
            self.bytes -= device.bytes;
        }
    }
}

impl Device {
    fn new(serial: Serial, address: IpAddr, first: &Received) -> Self {
        let Received { received, event, .. } = first;
        let summary = Summary {
            serial,
            address,
            first_seen: *received,
            last_seen: *received,
            boots: 0,
            boot_id: String::new(),
            sequence: 0,
            uptime_ms: 0,
            step: event.step.clone(),
            state: event.state,
            progress: None,
            error: None,
            retry_in_s: None,
            model: None,
            bootloader: None,
            addresses: Vec::new(),
            host_key: None,
            last_crash: None,
        };
        Self { summary, recent_boots: VecDeque::new(), events: VecDeque::new(), bytes: 0 }
    }

    fn record(&mut self, address: IpAddr, received: Received, limits: Limits) {
        self.summary.address = address;
        self.summary.last_seen = received.received;
        self.summarize(&received.event);
        self.bytes += received.bytes;
        self.events.push_back(received);
        while self.events.len() > limits.events || (self.bytes > limits.device_bytes && self.events.len() > 1)
        {
            self.bytes -= self.events.pop_front().map_or(0, |old| old.bytes);
        }
    }

    /// Takes an event into the summary, unless a newer one is in it already: events may arrive late.
    fn summarize(&mut self, event: &Event) {
        let summary = &mut self.summary;
        if event.boot_id != summary.boot_id {
            if self.recent_boots.contains(&event.boot_id) {
                return;
            }
            self.recent_boots.push_back(event.boot_id.clone());
            if self.recent_boots.len() > BOOTS_REMEMBERED {
                self.recent_boots.pop_front();
            }
            summary.boots += 1;
            summary.boot_id.clone_from(&event.boot_id);
            summary.last_crash = None;
        } else if event.sequence < summary.sequence {
            return;
        }
        summary.sequence = event.sequence;
        summary.uptime_ms = event.uptime_ms;
        summary.step.clone_from(&event.step);
        summary.state = event.state;
        summary.progress = event.progress;
        summary.error.clone_from(&event.error);
        summary.retry_in_s = event.retry_in_s;
        if !event.addresses.is_empty() {
            summary.addresses.clone_from(&event.addresses);
        }
        let keep = |old: &mut Option<String>, new: &Option<String>| {
            if new.is_some() {
                old.clone_from(new);
            }
        };
        keep(&mut summary.model, &event.model);
        keep(&mut summary.bootloader, &event.bootloader);
        keep(&mut summary.host_key, &event.host_key);
        keep(&mut summary.last_crash, &event.last_crash);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use init::event::EVENT_FORMAT;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn serial(text: &str) -> Serial {
        text.parse().unwrap()
    }

    fn event(boot: &str, sequence: u64, step: &str) -> Event {
        Event {
            format: EVENT_FORMAT,
            boot_id: boot.into(),
            sequence,
            uptime_ms: sequence,
            step: step.into(),
            state: State::Started,
            progress: None,
            error: None,
            retry_in_s: None,
            addresses: vec![],
            host_key: None,
            model: None,
            bootloader: None,
            last_crash: None,
        }
    }

    #[test]
    fn serials() {
        for good in ["10000000deadbeef", "a", "A_b-9", &"x".repeat(64)] {
            assert!(good.parse::<Serial>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", "..", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Serial>(), Err(BadSerial), "{bad}");
        }
    }

    #[test]
    fn boots_are_counted_and_late_events_change_nothing() {
        let devices = Devices::default();
        let one = serial("one");
        for (boot, sequence, step) in
            [("a", 1, "console"), ("a", 3, "fetch"), ("a", 2, "plan"), ("b", 1, "console"), ("a", 4, "mount")]
        {
            devices.record(&one, HERE, event(boot, sequence, step), 100);
        }
        let summary = devices.summaries().pop().unwrap();
        assert_eq!((summary.boots, summary.boot_id.as_str(), summary.step.as_str()), (2, "b", "console"));
        assert_eq!(devices.events(&one).unwrap().len(), 5);
        assert!(devices.events(&serial("two")).is_none());
    }

    #[test]
    fn facts_stay_until_others_come() {
        let devices = Devices::default();
        let known = Event {
            model: Some("Pi".into()),
            addresses: vec!["10.0.0.2/24".into()],
            ..event("a", 1, "network")
        };
        devices.record(&serial("one"), HERE, known, 100);
        devices.record(&serial("one"), HERE, event("a", 2, "plan"), 100);
        let summary = devices.summaries().pop().unwrap();
        assert_eq!((summary.model.as_deref(), summary.addresses.len()), (Some("Pi"), 1));
    }

    #[test]
    fn everything_is_bounded() {
        let devices = Devices::with_limits(Limits { devices: 3, events: 4, device_bytes: 350, bytes: 800 });
        for i in 0..10 {
            devices.record(&serial("busy"), HERE, event("a", i, "fetch"), 100);
        }
        // 350 bytes hold three events of 100.
        let sequences: Vec<_> =
            devices.events(&serial("busy")).unwrap().iter().map(|r| r.event.sequence).collect();
        assert_eq!(sequences, [7, 8, 9]);
        for i in 0..10 {
            devices.record(&serial("small"), HERE, event("a", i, "fetch"), 1);
        }
        assert_eq!(devices.events(&serial("small")).unwrap().len(), 4);
        devices.record(&serial("three"), HERE, event("a", 1, "fetch"), 1);
        devices.record(&serial("four"), HERE, event("a", 1, "fetch"), 1);
        let left: Vec<_> = devices.summaries().into_iter().map(|s| s.serial.to_string()).collect();
        assert_eq!(left, ["four", "small", "three"]);
        devices.record(&serial("large"), HERE, event("a", 1, "fetch"), 900);
        let left: Vec<_> = devices.summaries().into_iter().map(|s| s.serial.to_string()).collect();
        assert_eq!(left, ["large"]);
        assert_eq!(devices.memory().bytes, 900);
    }
}
