//! What others tell PID 1: datagrams of JSON to an abstract Unix socket, which needs no file system and is there before any
//! other process starts. Only root is in the image, and PID 1 checks each message as it would a stranger's.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use serde::{Deserialize, Serialize};

use crate::watchdog::Policy;

const NAME: &str = "lifeboat/init";
/// Documentation/ABI/testing/sysfs-kernel-kexec_loaded: "1" or "0"; not there in a kernel without kexec.
pub const KEXEC_LOADED_PATH: &str = "/sys/kernel/kexec_loaded";

/// Whether another kernel is ready to be started, for [`Message::Kexec`].
pub fn is_kernel_loaded() -> bool {
    std::fs::read_to_string(KEXEC_LOADED_PATH).is_ok_and(|loaded| loaded.trim() == "1")
}

/// A message to PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub enum Message {
    /// The file systems are mounted: the other children may start.
    FilesystemsReady,
    /// The boot knows its settings.
    Settings {
        /// Seconds with neither progress nor a login after which to start anew; 0: never.
        reboot_after: u64,
        /// What to do with the hardware watchdog.
        watchdog: Policy,
    },
    /// The boot's worker lives, and is in time: see `pid1::pulse`. Without this the watchdog is fed no more.
    Alive,
    /// How far the boot is. Where this is further than ever, the reboot timer starts from the beginning.
    Progress {
        /// Grows with each step that is done and each byte that is verified; a retry of what was done before does not
        /// reach further.
        mark: u64,
    },
    /// The root is ready to be switched to.
    HandOver(Destination),
    /// Another kernel is loaded: it takes the place of this one (kexec_load(2)).
    Kexec,
}

/// Where a hand-over goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The mounted root, as seen from the initramfs.
    pub root: String,
    /// The program in it that becomes PID 1.
    pub init: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether it feeds the hardware watchdog ([`crate::watchdog::is_fed_by`]): it is left running then.
    pub feeds_watchdog: bool,
}

/// Where PID 1 listens.
///
/// # Errors
/// Never on Linux.
pub fn address() -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(NAME)
}

/// Sends a message to PID 1.
///
/// # Errors
/// When PID 1 does not listen: this is no Pi Lifeboat image, then.
pub fn send(message: &Message) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    UnixDatagram::unbound()?.send_to_addr(&bytes, &address()?).map(drop)
}
