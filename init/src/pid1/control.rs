//! What the children tell PID 1: datagrams of JSON to an abstract Unix socket, which needs no file system and is there
//! before any other child starts. Only root is in the image, and PID 1 checks each message as it would a stranger's.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

const NAME: &str = "lifeboat/init";
/// No message is longer.
const LIMIT: usize = 16 * 1024;

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
        /// Whether to feed the hardware watchdog.
        watchdog: bool,
    },
    /// How far the boot is. Where this is further than ever, the reboot timer starts from the beginning.
    Progress {
        /// Grows with each step that is done and each byte that is verified; a retry of what was done before does not
        /// reach further.
        mark: u64,
    },
    /// The root is ready to be switched to.
    HandOver(Destination),
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
}

fn address() -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(NAME)
}

/// PID 1's end.
///
/// # Errors
/// When another process has it.
pub fn listen() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::bind_addr(&address()?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The next message that is there and makes sense; what does not is logged and passed over.
pub fn receive(socket: &UnixDatagram) -> Option<Message> {
    let mut buffer = [0; LIMIT];
    loop {
        let count = socket.recv(&mut buffer).ok()?;
        match serde_json::from_slice(buffer.get(..count)?) {
            Ok(message) => return Some(message),
            Err(error) => tracing::warn!("a message to PID 1 makes no sense: {error}"),
        }
    }
}

/// Sends a message to PID 1.
///
/// # Errors
/// When PID 1 does not listen.
pub fn send(message: &Message) -> Result<()> {
    let bytes = serde_json::to_vec(message).context("encoding a message")?;
    let socket = UnixDatagram::unbound().context("making a socket")?;
    let sent = address().and_then(|address| socket.send_to_addr(&bytes, &address));
    sent.map(drop).with_context(|| format!("sending {message:?} to PID 1"))
}
