//! A TCP proxy between guest and boot server: slow where a test wants to step in, and cut where it wants a fault.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
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
    /// No more than so many bytes pass, but for the rest of a buffer, until this is raised.
    held_at: Mutex<u64>,
    raised: Condvar,
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
            held_at: Mutex::new(u64::MAX),
            raised: Condvar::new(),
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

    /// Lets `bytes` pass since the start, and what comes behind only once it is let go or cut: a test that wants to step in
    /// before the end comes in time however slow the machine is.
    pub fn hold_at(&self, bytes: u64) {
        *self.state.held_at.lock().unwrap() = bytes;
        self.state.raised.notify_all();
    }

    /// Lets go what [`Proxy::hold_at`] holds.
    pub fn let_go(&self) {
        self.hold_at(u64::MAX);
    }

    /// Waits until `bytes` have passed since the start, lets no more pass, and cuts as [`Proxy::cut`] does.
    pub fn cut_at(&self, bytes: u64, refusing: bool) {
        self.hold_at(bytes);
        self.wait_for(bytes);
        self.cut(refusing);
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
        self.let_go();
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
            let held_at = self.held_at.lock().unwrap();
            drop(
                self.raised
                    .wait_while(held_at, |bytes| self.passed.load(Ordering::Relaxed) >= *bytes)
                    .unwrap(),
            );
        }
        let _ = guest.shutdown(Shutdown::Both);
    }
}
