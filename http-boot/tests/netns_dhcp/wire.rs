//! Ethernet frames by a packet socket, in a network namespace; and a cable in software that loses, doubles and reorders them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http_boot::dhcp::datagram;
use init::mac::Mac;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const IPV4: [u8; 2] = [8, 0];
const OUTGOING: u8 = 4;

/// Runs something in a namespace, on a thread of its own.
pub(crate) fn within<T: Send + 'static>(
    namespace: &str,
    what: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let path = Path::new("/run/netns").join(namespace);
    std::thread::spawn(move || {
        setns(File::open(&path).unwrap(), CloneFlags::CLONE_NEWNET).expect("root");
        what()
    })
}

/// A socket for whole frames, on an interface of this thread's namespace.
pub(crate) struct Port(OwnedFd);

impl Port {
    pub(crate) fn open(name: &str) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).expect("root");
        let mut all = nix::ifaddrs::getifaddrs().unwrap().filter(|one| one.interface_name == name);
        let address = all.find_map(|one| one.address?.as_link_addr().copied()).unwrap();
        bind(socket.as_raw_fd(), &address).unwrap();
        Self(socket)
    }

    /// The next frame that came in.
    pub(crate) fn read(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        loop {
            match recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut buffer) {
                Ok((_, Some(from))) if from.pkttype() == OUTGOING => {}
                Ok((length, _)) => return Some(buffer[..length].to_vec()),
                Err(Errno::EAGAIN) => return None,
                // Says once that the interface was down.
                Err(_) => {}
            }
        }
    }

    pub(crate) fn write(&self, frame: &[u8]) {
        // A port that is down loses it, as a cable would.
        let _ = send(self.0.as_raw_fd(), frame, MsgFlags::empty());
    }

    /// Sends a datagram to all.
    pub(crate) fn broadcast(&self, mac: Mac, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        let packet = datagram::write(from, to, payload).unwrap();
        self.write(&[&[0xff; 6], &mac.0[..], &IPV4, &packet].concat());
    }

    /// The next datagram that a host with this Ethernet address takes: from where, to where, what.
    pub(crate) fn datagram(&self, mac: Mac) -> Option<(SocketAddrV4, SocketAddrV4, Vec<u8>)> {
        loop {
            let frame = self.read()?;
            let ours = frame.starts_with(&mac.0) || frame.starts_with(&[0xff; 6]);
            if ours
                && frame[12..14] == IPV4
                && let Some((from, to, payload)) = datagram::read(&frame[14..])
            {
                return Some((from, to, payload.to_vec()));
            }
        }
    }

    /// Waits for a frame, not for ever.
    pub(crate) fn wait(&self, limit: Duration) {
        wait(&[self], limit);
    }
}

fn wait(ports: &[&Port], limit: Duration) {
    let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    let mut polled: Vec<_> = ports.iter().map(|port| PollFd::new(&port.0, PollFlags::IN)).collect();
    let _ = poll(&mut polled, Some(&timeout));
}

/// What becomes of frames, per mille of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    /// These are overtaken by those behind them.
    pub(crate) reordered: u64,
}

/// A cable between two interfaces of a namespace; it is cut when this is dropped.
pub(crate) struct Cable(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Cable {
    pub(crate) fn lay(namespace: &str, ends: [String; 2], weather: Weather, seed: u64) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let carry = move || {
            let ports = ends.map(|name| Port::open(&name));
            let mut carrier = Carrier { weather, state: seed, under_way: BinaryHeap::new(), number: 0 };
            while !ended.load(Ordering::Relaxed) {
                carrier.turn(&ports);
            }
        };
        Cable(end, Some(within(namespace, carry)))
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let ended = self.1.take().map(JoinHandle::join);
        assert!(!matches!(ended, Some(Err(_))) || std::thread::panicking(), "the cable broke");
    }
}

/// When it arrives, a number to keep the order, at which port, and what.
type UnderWay = (Instant, u64, usize, Vec<u8>);

struct Carrier {
    weather: Weather,
    state: u64,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    number: u64,
}

impl Carrier {
    fn turn(&mut self, ports: &[Port; 2]) {
        let now = Instant::now();
        while let Some(Reverse((at, ..))) = self.under_way.peek()
            && *at <= now
        {
            let Reverse((_, _, to, frame)) = self.under_way.pop().unwrap();
            ports[to].write(&frame);
        }
        wait(&[&ports[0], &ports[1]], Duration::from_millis(10));
        for (from, port) in ports.iter().enumerate() {
            while let Some(frame) = port.read() {
                self.carry(1 - from, frame);
            }
        }
    }

    fn carry(&mut self, to: usize, frame: Vec<u8>) {
        if self.happens(self.weather.loss) {
            return;
        }
        let copies = if self.happens(self.weather.duplicates) { 2 } else { 1 };
        for _ in 0..copies {
            let late = if self.happens(self.weather.reordered) { 50 } else { 0 };
            self.number += 1;
            let at = Instant::now() + Duration::from_millis(late);
            self.under_way.push(Reverse((at, self.number, to, frame.clone())));
        }
    }

    /// SplitMix64.
    fn happens(&mut self, per_mille: u64) -> bool {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 1000 < per_mille
    }
}
