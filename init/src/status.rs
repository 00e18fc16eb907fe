//! `/run/lifeboat`: what the device's own programs tell each other. Each file has one writer, is replaced as a whole
//! (temp + rename), and may be missing at any moment.

use serde::{Deserialize, Serialize};

use crate::event::{Progress, State};
use crate::neighbours::{SpanningTree, Switch};

/// The folder of all that follows.
pub const RUN_DIR: &str = "/run/lifeboat";
/// Written by the boot: a [`BootStatus`].
pub const BOOT_STATUS_PATH: &str = "/run/lifeboat/boot.json";
/// Written by the network child: a [`NetworkStatus`].
pub const NETWORK_STATUS_PATH: &str = "/run/lifeboat/network.json";
/// Written by the boot: a [`Machine`].
pub const MACHINE_PATH: &str = "/run/lifeboat/machine.json";
/// The SSH server's host key (OpenSSH private key format, mode 0600), made at its first start.
pub const HOST_KEY_PATH: &str = "/run/lifeboat/ssh_host_ed25519_key";
/// Its fingerprint, `SHA256:…` and a newline.
pub const HOST_KEY_FINGERPRINT_PATH: &str = "/run/lifeboat/ssh_host_ed25519_key.fingerprint";
/// One file for each logged-in session, named by the process id that serves it; gone when the session ends. As long as
/// anything is here, the hand-over and the reboot timer wait.
pub const SESSIONS_DIR: &str = "/run/lifeboat/sessions";
/// Among the sessions, since it counts as one: the mark of `rescue hold` and of `rd.break`. One line says who and since
/// when.
pub const HOLD_PATH: &str = "/run/lifeboat/sessions/hold";
/// Written by `rescue continue`, gone with the next `rescue hold`: the names of the [`SESSIONS_DIR`]'s files that the
/// hand-over does not wait for, one in a line.
pub const CONTINUE_PATH: &str = "/run/lifeboat/continue";
/// There after a hand-over that failed, with the reason. Once it is gone, the boot tries again.
pub const HAND_OVER_FAILED_PATH: &str = "/run/lifeboat/hand-over-failed";
/// Written by the boot where an earlier boot crashed: a [`LastCrash`].
pub const LAST_CRASH_PATH: &str = "/run/lifeboat/last-crash.json";
/// The folder with what it left.
pub const PSTORE_DIR: &str = "/run/lifeboat/pstore";
/// What `reboot(2)` is given as its argument when the machine starts anew, as systemd's `/run/systemd/reboot-param`: one
/// line that the firmware's driver understands.
pub const REBOOT_ARGUMENT_PATH: &str = "/run/lifeboat/reboot-argument";

/// What this machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The device tree's `model`.
    pub model: String,
    /// The device tree's `serial-number`, or `unknown`.
    pub serial: String,
    /// RAM in bytes that the kernel manages (`MemTotal`).
    pub memory: u64,
    /// The running kernel's release.
    pub kernel: String,
    /// The image's name.
    pub image: String,
    /// `chosen/bootloader/version`, where the firmware left one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootloader: Option<String>,
}

/// What an earlier crash left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCrash {
    /// Whether the kernel itself noticed: a panic or an oops. Else its log just ends: a hang that the watchdog ended, a
    /// reset button.
    pub is_panic: bool,
    /// The line that says most.
    pub line: String,
    /// The names of the files in [`PSTORE_DIR`].
    pub files: Vec<String>,
}

impl LastCrash {
    /// One sentence.
    pub fn describe(&self) -> String {
        let how = if self.is_panic { "an earlier boot crashed" } else { "an earlier boot was cut off" };
        format!("{how}: {}", self.line)
    }
}

/// Where the boot stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootStatus {
    /// What the boot is to become, in words: `RAM boot of http://…` or `rescue`.
    pub goal: String,
    /// The step's name.
    pub step: String,
    /// Its number, from 1.
    pub number: usize,
    /// How many steps there are.
    pub total: usize,
    /// Where it stands.
    pub state: State,
    /// Milliseconds since the kernel started, when this was written.
    pub uptime_ms: u64,
    /// How far a transfer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The last error, also when a later try went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<StepError>,
    /// What happens next, or what a human can do: one sentence.
    pub next: String,
    /// Whether the boot starts the machine anew by itself, and how often it may still; nothing where it has not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboots: Option<String>,
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// The step's name.
    pub step: String,
    /// Why: the chain of causes in one line.
    pub error: String,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
}

/// What the network gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Every wired interface.
    pub interfaces: Vec<InterfaceStatus>,
    /// The name servers in use.
    pub nameservers: Vec<String>,
    /// The time servers that DHCP names, by address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<String>,
    /// The server with files that DHCP names (option 66): a host name or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tftp_server: Option<String>,
    /// The host name from `ip=` or DHCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The name that neighbours find this machine by (mDNS), `cm4-7.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mdns_name: Option<String>,
    /// Whether some interface has an IPv4 address that a route may use.
    pub online: bool,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its MAC address, `dc:a6:32:01:02:03`.
    pub mac: String,
    /// Whether a cable with a partner is there.
    pub carrier: bool,
    /// Its addresses with prefix.
    pub addresses: Vec<String>,
    /// Its default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// What it is doing, in words: `DHCP: 3 requests without an answer`.
    pub state: String,
    /// The switch at the other end of its cable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<Switch>,
    /// Spanning tree as heard on its cable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spanning_tree: Option<SpanningTree>,
    /// What there is to say of IPv6 beside its addresses.
    #[serde(default, skip_serializing_if = "Ipv6Status::is_empty")]
    pub ipv6: Ipv6Status,
}

/// IPv6 on an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipv6Status {
    /// What DHCPv6 is doing, in words; nothing where nobody is asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// The routers by which everything is reached, until their time is over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<String>,
    /// Addresses that another machine on the link has, so that they are not used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<String>,
    /// Addresses, with prefix, that are not taken for new connections any more (RFC 4862 section 5.5.4).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deprecated: Vec<String>,
}

impl Ipv6Status {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// In a few words, for people; the worst first.
    pub fn words(&self) -> Vec<String> {
        let list = |what: &str, all: &[String]| {
            Some(format!("{what} {}", all.join(" and "))).filter(|_| !all.is_empty())
        };
        let words = [
            list("another machine on this link has", &self.duplicates),
            Some(self.state.clone()).filter(|state| !state.is_empty()),
            list("no longer for new connections:", &self.deprecated),
            list("IPv6 router", &self.routers),
        ];
        words.into_iter().flatten().collect()
    }
}
