//! Waiting for the first SSH greeting.
//!
//! QEMU's network takes a connection at once, whether the guest listens or not, and what was asked too early may never
//! be answered. So a new connection is tried four times a second, beside those that are still waiting.

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often a connection is tried.
const EVERY: Duration = Duration::from_millis(250);
/// How long each may stay silent.
const PATIENCE: Duration = Duration::from_secs(3);

/// Tries until a server greets or the time is over.
pub(crate) fn first(port: u16, limit: Duration) -> Option<Instant> {
    let (greeted, greeting) = channel();
    let began = Instant::now();
    while began.elapsed() < limit {
        let greeted = greeted.clone();
        thread::spawn(move || listen(port, &greeted));
        match greeting.recv_timeout(EVERY) {
            Ok(at) => return Some(at),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    None
}

fn listen(port: u16, greeted: &Sender<Instant>) {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
    let mut start = [0; 4];
    if stream.set_read_timeout(Some(PATIENCE)).is_ok()
        && stream.read_exact(&mut start).is_ok()
        && &start == b"SSH-"
    {
        // Who is not the first finds nobody to tell.
        let _ = greeted.send(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn silent_connections_do_not_hold_it_up() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let silent = listener.accept().unwrap().0;
            listener.accept().unwrap().0.write_all(b"SSH-2.0-x\r\n").unwrap();
            silent
        });
        assert!(first(port, Duration::from_secs(60)).is_some());
        drop(server.join().unwrap());
    }

    #[test]
    fn it_ends_without_a_server() {
        assert_eq!(first(1, Duration::from_millis(1)), None);
    }
}
