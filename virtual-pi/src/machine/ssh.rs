//! Waiting for an SSH server in the guest.

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How long one connection may stay silent. QEMU's network accepts at once, whether the guest listens or not, and tries
/// to reach it for as long as the connection is there.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long to wait before the next connection. There is no event to wait for: only asking shows whether one listens.
const PAUSE: Duration = Duration::from_millis(100);

/// Connects to `port` on 127.0.0.1 until a server greets, and gives its greeting: `SSH-2.0-…`. Stops when the time is
/// over, or `over` says so.
pub(super) fn banner(port: u16, timeout: Duration, over: impl Fn() -> bool) -> Option<String> {
    // No clock holds more; a year is as good as for ever.
    let deadline = Instant::now() + timeout.min(Duration::from_secs(365 * 24 * 3600));
    while Instant::now() < deadline && !over() {
        if let Some(line) = greeting(port, deadline) {
            return Some(line);
        }
        thread::sleep(PAUSE);
    }
    None
}

fn greeting(port: u16, deadline: Instant) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    let until = deadline.min(Instant::now() + PATIENCE);
    let mut text = Vec::new();
    let mut piece = [0; 256];
    while text.len() < 4096 {
        stream
            .set_read_timeout(Some(
                until.checked_duration_since(Instant::now())?.max(Duration::from_millis(1)),
            ))
            .ok()?;
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        text.extend_from_slice(piece.get(..count)?);
        // RFC 4253, section 4.2: other lines may come first.
        let lines = complete_lines(&text);
        if let Some(line) = lines.lines().find(|line| line.starts_with("SSH-")) {
            return Some(line.trim_end().to_owned());
        }
    }
    None
}

/// The text up to the last newline.
fn complete_lines(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
