//! Boot events: what init posts to `/v1/boot/SERIAL/events` while it works. Lossy and bounded: a boot never waits for
//! them. They inform; nothing acts on them.

use serde::{Deserialize, Serialize};

/// The version of this format.
pub const EVENT_FORMAT: u32 = 1;
/// No event is longer than this many bytes of JSON; a server refuses what is.
pub const EVENT_LIMIT: usize = 16 * 1024;

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It runs.
    Started,
    /// It has got further.
    Progress,
    /// It waits for something outside: a link, an address, a server.
    Waiting,
    /// It is done.
    Done,
    /// It failed; `error` says why. Where `retry_in_s` is set it will be tried again.
    Failed,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes that are there and verified.
    pub bytes: u64,
    /// Bytes in all.
    pub total: u64,
    /// Bytes in a second, over the last few seconds.
    pub rate: u64,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The version of the format: [`EVENT_FORMAT`].
    pub format: u32,
    /// The kernel's `/proc/sys/kernel/random/boot_id`: another one, another boot.
    pub boot_id: String,
    /// Counts this boot's events from 1; gaps are lost events.
    pub sequence: u64,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// The step's name (see [`crate::steps`]).
    pub step: String,
    /// Where it stands.
    pub state: State,
    /// How far a transfer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why it failed, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// In how many seconds it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_s: Option<u64>,
    /// The device's addresses, with prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The SSH host key's fingerprint, as `ssh-keygen -l` prints it: `SHA256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// The device tree's `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The device tree's `chosen/bootloader/version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootloader: Option<String>,
    /// How an earlier boot crashed, in one sentence: as long as this boot lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_crash: Option<String>,
}
