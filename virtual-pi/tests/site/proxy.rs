//! A TCP proxy between guest and boot server: slow where a test wants to step in, and cut where it wants a fault.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A proxy on a port of its own.
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n\r\n<html>Log in</html>";

struct State {
    target: u16,
    /// Bytes a second towards the guest.
    rate: u64,
    passed: AtomicU64,
    refusing: AtomicBool,
    portal: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Passes connections on to `target`, at most `rate` bytes a second towards the guest.
    pub fn start(target: u16, rate: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            target,
            rate,
            passed: AtomicU64::new(0),
            refusing: AtomicBool::new(false),
            portal: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let accepting = state.clone();
        std::thread::spawn(move || {
            for guest in listener.incoming().flatten() {
                let state = accepting.clone();
                std::thread::spawn(move || state.serve(guest));
            }
        });
        Proxy { port, state }
    }

    /// Bytes passed on towards the guest.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::Relaxed)
    }

    /// Waits until so many bytes have passed.
    pub fn wait_for(&self, bytes: u64) {
        let end = Instant::now() + super::LIMIT;
        while self.passed() < bytes {
            assert!(Instant::now() < end, "{} of {bytes} bytes have passed", self.passed());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// From now on a network that wants a login first: a page, whatever is asked for. Or no longer.
    pub fn answer_with_a_page(&self, portal: bool) {
        self.state.portal.store(portal, Ordering::SeqCst);
    }

    /// Cuts what is open; as long as `refusing`, new connections end at once.
    pub fn cut(&self, refusing: bool) {
        self.state.refusing.store(refusing, Ordering::SeqCst);
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets connections pass again.
    pub fn pass(&self) {
        self.state.refusing.store(false, Ordering::SeqCst);
    }
}

impl State {
    fn serve(&self, mut guest: TcpStream) {
        if self.refusing.load(Ordering::SeqCst) {
            return;
        }
        if self.portal.load(Ordering::SeqCst) {
            let _ = guest.read(&mut [0; 4096]);
            let _ = guest.write_all(PAGE);
            return;
        }
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", self.target)) else { return };
        self.open.lock().unwrap().extend([guest.try_clone().unwrap(), server.try_clone().unwrap()]);
        let (mut from_guest, mut to_server) = (guest.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_guest, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let began = Instant::now();
        let mut sent = 0;
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            if guest.write_all(&buffer[..count]).is_err() {
                break;
            }
            sent += count as u64;
            self.passed.fetch_add(count as u64, Ordering::Relaxed);
            // The rate is what this thread is for: it sleeps off what it is ahead.
            let due = Duration::from_secs_f64(sent as f64 / self.rate as f64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let _ = guest.shutdown(Shutdown::Both);
    }
}
