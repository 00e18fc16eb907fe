//! PID 1's end of [`crate::control`].

use std::io;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context, Result};

use crate::control::{self, address};
pub use crate::control::{Destination, Message};

/// No message is longer.
const LIMIT: usize = 16 * 1024;

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
    control::send(message).with_context(|| format!("sending {message:?} to PID 1"))
}
