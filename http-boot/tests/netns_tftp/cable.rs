//! A cable in software: a point-to-point interface in each of two network namespaces, and a thread that carries packets from
//! one to the other, or loses, doubles and delays them, by a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What becomes of packets, per mille of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    /// These are overtaken by those behind them.
    pub(crate) reordered: u64,
}

impl Weather {
    pub(crate) const CLEAR: Self = Self { loss: 0, duplicates: 0, reordered: 0 };
    pub(crate) const BAD: Self = Self { loss: 100, duplicates: 100, reordered: 100 };
}

/// So much later the overtaken ones come.
const LATE: Duration = Duration::from_millis(15);
/// So often the thread looks whether it is to end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A cable in use; it is cut when this is dropped.
pub(crate) struct Cable {
    ends: [Arc<File>; 2],
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// Between interfaces `wire` of these namespaces.
    pub(crate) fn lay(namespaces: [&str; 2], weather: Weather, seed: u64) -> Self {
        let ends = namespaces.map(|namespace| Arc::new(inside(namespace, || open("wire"))));
        let end = Arc::new(AtomicBool::new(false));
        let mut carrier = Carrier {
            weather,
            random: seed | 1,
            under_way: BinaryHeap::new(),
            number: 0,
            ends: ends.clone(),
        };
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                carrier.turn();
            }
        });
        Self { ends, end, thread: Some(thread) }
    }

    /// Puts a packet on the wire to the second namespace, as if it came from the first.
    pub(crate) fn inject(&self, packet: &[u8]) {
        while rustix::io::write(&self.ends[1], packet) == Err(rustix::io::Errno::AGAIN) {
            std::thread::yield_now();
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(!matches!(ended, Some(Err(_))) || std::thread::panicking(), "the cable broke");
    }
}

/// When it arrives, a number to keep the order, at which end, and what.
type UnderWay = (Instant, u64, usize, Vec<u8>);

struct Carrier {
    weather: Weather,
    random: u64,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    number: u64,
    ends: [Arc<File>; 2],
}

impl Carrier {
    fn turn(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, ..))) = self.under_way.peek()
            && *at <= now
        {
            let Reverse((_, _, to, packet)) = self.under_way.pop().unwrap();
            // An end whose interface is down loses it, as a cable would.
            let _ = rustix::io::write(&self.ends[to], &packet);
        }
        let due = self.under_way.peek().map_or(LOOK_AGAIN, |Reverse((at, ..))| at.duration_since(now));
        let timeout = Timespec { tv_sec: 0, tv_nsec: due.min(LOOK_AGAIN).subsec_nanos().into() };
        let ends = self.ends.clone();
        let mut polled = [PollFd::new(&ends[0], PollFlags::IN), PollFd::new(&ends[1], PollFlags::IN)];
        let _ = poll(&mut polled, Some(&timeout));
        for (from, end) in ends.iter().enumerate() {
            let mut buffer = [0; 2048];
            while let Ok(length) = rustix::io::read(end, &mut buffer) {
                self.carry(1 - from, &buffer[..length]);
            }
        }
    }

    fn carry(&mut self, to: usize, packet: &[u8]) {
        if self.happens(self.weather.loss) {
            return;
        }
        let copies = if self.happens(self.weather.duplicates) { 2 } else { 1 };
        for _ in 0..copies {
            let late = if self.happens(self.weather.reordered) { LATE } else { Duration::ZERO };
            if late.is_zero() {
                let _ = rustix::io::write(&self.ends[to], packet);
            } else {
                self.number += 1;
                self.under_way.push(Reverse((Instant::now() + late, self.number, to, packet.to_vec())));
            }
        }
    }

    /// xorshift64.
    fn happens(&mut self, per_mille: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < per_mille
    }
}

/// Runs something in a namespace.
pub(crate) fn inside<T: Send>(namespace: &str, run: impl FnOnce() -> T + Send) -> T {
    let path = Path::new("/run/netns").join(namespace);
    std::thread::scope(|scope| {
        let moved = scope.spawn(move || {
            let namespace = File::open(&path).unwrap();
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            run()
        });
        moved.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A TUN interface of this thread's namespace. (Its packets have whole checksums; a veth's may not.)
fn open(name: &str) -> File {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as u16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes a struct ifreq: 40 bytes, which start with the name and the flags.
    #[allow(unsafe_code, reason = "neither nix nor rustix has this call")]
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
    assert_eq!(result, 0, "making a TUN interface: {}", std::io::Error::last_os_error());
    rustix::io::ioctl_fionbio(&tun, true).unwrap();
    tun
}
