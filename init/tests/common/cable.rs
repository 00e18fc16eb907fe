//! A cable in software: two ports in a network namespace, and a thread that carries frames from one to the other, or loses,
//! delays, doubles and reorders them, by a seed. The kernel's netem could do the same, where a kernel has it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use init::pid1::dhcp::chance::Chance;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, SockaddrLike, bind, socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What becomes of frames, per mille of them; and for how long all are under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    /// These are overtaken by those behind them.
    pub(crate) reordered: u64,
    pub(crate) delay: Duration,
}

impl Weather {
    pub(crate) const CLEAR: Weather = Weather { loss: 0, duplicates: 0, reordered: 0, delay: Duration::ZERO };
}

/// Says to each of the device's frames what somebody else on the wire answers at once.
pub(crate) type Neighbour = Box<dyn FnMut(&[u8]) -> Vec<Vec<u8>> + Send>;

/// A cable in use; it is cut when this is dropped.
pub(crate) struct Cable {
    /// Every frame that the device sent.
    pub(crate) sent: Arc<Mutex<Vec<Vec<u8>>>>,
    pub(crate) neighbour: Arc<Mutex<Option<Neighbour>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const PORTS: [&str; 2] = ["device", "server"];
/// So often the thread looks whether it is to end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Cable {
    /// Joins the interfaces `device` and `server` of a namespace.
    pub(crate) fn lay(namespace: &str, weather: Weather, seed: u64) -> Self {
        let (sent, neighbour, end) = (Arc::default(), Arc::default(), Arc::new(AtomicBool::new(false)));
        let mut carrier = Carrier {
            weather,
            chance: Chance::seeded(seed),
            under_way: BinaryHeap::new(),
            number: 0,
            sent: Arc::clone(&sent),
            neighbour: Arc::clone(&neighbour),
        };
        let (path, ended) = (Path::new("/run/netns").join(namespace), Arc::clone(&end));
        let (opened, ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let namespace = File::open(&path).unwrap();
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            let ports = PORTS.map(open);
            opened.send(()).unwrap();
            while !ended.load(Ordering::Relaxed) {
                carrier.turn(&ports);
            }
        });
        ready.recv().expect("the cable's ports");
        Cable { sent, neighbour, end, thread: Some(thread) }
    }

    /// The values of an option in all DHCP messages that the device sent, each but once.
    pub(crate) fn dhcp_options(&self, code: u8) -> Vec<Vec<u8>> {
        let frames = self.sent.lock().unwrap();
        let mut values = Vec::new();
        for value in frames.iter().filter_map(|frame| dhcp_option(super::evil::dhcp_of(frame)?, code)) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(!matches!(ended, Some(Err(_))) || std::thread::panicking(), "the cable broke");
    }
}

fn dhcp_option(message: &[u8], code: u8) -> Option<Vec<u8>> {
    let mut options = message.get(240..)?;
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [kind, length, rest @ ..] if *kind != 255 => {
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                if *kind == code {
                    return Some(value.to_vec());
                }
                options = rest;
            }
            _ => return None,
        }
    }
}

/// When it arrives, a number to keep the order, at which port, and what.
type UnderWay = (Instant, u64, usize, Vec<u8>);

struct Carrier {
    weather: Weather,
    chance: Chance,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    number: u64,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    neighbour: Arc<Mutex<Option<Neighbour>>>,
}

impl Carrier {
    fn turn(&mut self, ports: &[OwnedFd; 2]) {
        let now = Instant::now();
        while let Some(Reverse((at, ..))) = self.under_way.peek()
            && *at <= now
        {
            let Reverse((_, _, to, frame)) = self.under_way.pop().unwrap();
            // A port that is down loses it, as a cable would.
            let _ = rustix::io::write(&ports[to], &frame);
        }
        let due =
            self.under_way.peek().map_or(LOOK_AGAIN, |Reverse((at, ..))| at.saturating_duration_since(now));
        let due = due.min(LOOK_AGAIN);
        let timeout = Timespec { tv_sec: 0, tv_nsec: due.subsec_nanos().into() };
        let mut polled = [PollFd::new(&ports[0], PollFlags::IN), PollFd::new(&ports[1], PollFlags::IN)];
        let _ = poll(&mut polled, Some(&timeout));
        for (from, port) in ports.iter().enumerate() {
            let mut buffer = [0; 2048];
            while let Ok(length) = rustix::io::read(port, &mut buffer) {
                self.carry(from, buffer[..length].to_vec());
            }
        }
    }

    fn carry(&mut self, from: usize, frame: Vec<u8>) {
        if from == 0 {
            self.sent.lock().unwrap().push(frame.clone());
            let answers = self.neighbour.lock().unwrap().as_mut().map(|answer| answer(&frame));
            for answer in answers.unwrap_or_default() {
                self.send(0, Duration::ZERO, answer);
            }
        }
        if self.happens(self.weather.loss) {
            return;
        }
        let copies = if self.happens(self.weather.duplicates) { 2 } else { 1 };
        for _ in 0..copies {
            let late =
                if self.happens(self.weather.reordered) { Duration::from_millis(50) } else { Duration::ZERO };
            self.send(1 - from, self.weather.delay + late, frame.clone());
        }
    }

    fn send(&mut self, to: usize, after: Duration, frame: Vec<u8>) {
        self.number += 1;
        self.under_way.push(Reverse((Instant::now() + after, self.number, to, frame)));
    }

    fn happens(&mut self, per_mille: u64) -> bool {
        self.chance.number() % 1000 < per_mille
    }
}

/// A packet socket on an interface of this thread's namespace, which gets all that comes in there.
fn open(name: &str) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
    let index = nix::net::if_::if_nametoindex(name).unwrap();
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index.try_into().unwrap(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // What we send must not come back to us (packet(7)).
    set(&socket, libc::PACKET_IGNORE_OUTGOING, &1i32);
    let promiscuous = libc::packet_mreq {
        mr_ifindex: index.try_into().unwrap(),
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(&socket, libc::PACKET_ADD_MEMBERSHIP, &promiscuous);
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to a whole sockaddr_ll of that length, which is copied before the call is over.
    #[allow(unsafe_code, reason = "nix makes this address from the kernel's bytes only")]
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }.unwrap();
    bind(socket.as_raw_fd(), &address).unwrap();
    socket
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) {
    // SAFETY: the kernel reads as many bytes as the value has, and keeps none of its addresses.
    #[allow(unsafe_code, reason = "nix does not have these options of packet(7)")]
    let result = unsafe {
        let (value, length) = ((&raw const *value).cast(), size_of::<T>() as libc::socklen_t);
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, value, length)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
