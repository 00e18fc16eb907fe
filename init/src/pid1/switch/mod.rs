//! What the other end of a cable says of itself: LLDP ([`lldp`]) and spanning tree ([`bpdu`]). The Pi only listens.
//!
//! Two packet sockets hear all interfaces (packet(7)); an interface's card lets the frames through once its group addresses
//! are joined.

pub mod bpdu;
pub mod lldp;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{LinkAddr, recvfrom};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, eth, socket_with};

use crate::neighbours::SpanningTree;
use lldp::Announcement;

/// The groups that LLDP goes to: the nearest bridge, the nearest that is no relay, the nearest customer's.
const LLDP_GROUPS: [[u8; 6]; 3] = [
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e],
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x03],
    [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00],
];
/// Spanning tree's, and Cisco's for PVST+.
const TREE_GROUPS: [[u8; 6]; 2] =
    [[0x01, 0x80, 0xc2, 0x00, 0x00, 0x00], [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd]];
/// An interface's news are told this often: anybody on the link can make them up. What is left out is said again.
const NOT_BEFORE: Duration = Duration::from_secs(1);
/// No frame is larger.
const FRAME: usize = 2048;

/// What was heard on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// LLDP.
    Switch(Announcement),
    /// A BPDU.
    SpanningTree(SpanningTree),
}

/// The sockets.
#[derive(Clone)]
pub struct Handle {
    sockets: Arc<[OwnedFd; 2]>,
}

impl Handle {
    /// Lets an interface's card receive these frames, as long as it is there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(&self, index: u32) -> Result<()> {
        let [lldp, tree] = &*self.sockets;
        let all = LLDP_GROUPS
            .iter()
            .map(|group| (lldp, group))
            .chain(TREE_GROUPS.iter().map(|group| (tree, group)));
        for (socket, group) in all {
            join(socket, index, *group).context("joining a group of Ethernet addresses")?;
        }
        Ok(())
    }
}

/// Starts to listen, in a thread of its own. `tell` gets what is new of an interface; `false` ends the thread.
///
/// # Errors
/// When the kernel has no packet sockets.
pub fn listen(tell: impl FnMut(u32, Heard) -> bool + Send + 'static) -> Result<Handle> {
    let open = |protocol| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, Some(protocol))
    };
    let sockets = open(eth::LLDP).and_then(|lldp| Ok([lldp, open(eth::P_802_2)?]));
    let handle = Handle { sockets: Arc::new(sockets.context("opening packet sockets")?) };
    let sockets = handle.sockets.clone();
    let thread = std::thread::Builder::new().name("switch".into());
    thread.spawn(move || hear(&sockets, tell)).context("starting a thread")?;
    Ok(handle)
}

fn hear(sockets: &[OwnedFd; 2], mut tell: impl FnMut(u32, Heard) -> bool) {
    let mut buffer = [0; FRAME];
    // By interface and socket: when it was told last.
    let mut told: Vec<((u32, usize), Instant)> = Vec::new();
    loop {
        let mut polled =
            sockets.each_ref().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN));
        if poll(&mut polled, None).is_err() {
            // An interrupted wait only means another round.
            std::thread::sleep(Duration::from_millis(10));
        }
        for (number, socket) in sockets.iter().enumerate() {
            let received = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer);
            // ENETDOWN and its like are of an interface, not of the socket.
            let Ok((length, Some(from))) = received else { continue };
            let frame = buffer.get(..length).unwrap_or_default();
            let heard = match number {
                0 => Announcement::parse(frame).map(Heard::Switch),
                _ => bpdu::parse(frame).map(Heard::SpanningTree),
            };
            let (Some(heard), Ok(index)) = (heard, u32::try_from(from.ifindex())) else { continue };
            let now = Instant::now();
            told.retain(|(_, at)| now.saturating_duration_since(*at) < NOT_BEFORE);
            if told.iter().any(|(whose, _)| *whose == (index, number)) {
                continue;
            }
            told.push(((index, number), now));
            if !tell(index, heard) {
                return;
            }
        }
    }
}

fn join(socket: &OwnedFd, index: u32, group: [u8; 6]) -> Result<(), Errno> {
    let mut address = [0; 8];
    address.iter_mut().zip(group).for_each(|(to, from)| *to = from);
    let request = libc::packet_mreq {
        mr_ifindex: index as i32,
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: group.len() as u16,
        mr_address: address,
    };
    // SAFETY: the kernel copies a packet_mreq of the length that is given, and keeps no pointer to it (packet(7)).
    #[allow(unsafe_code, reason = "neither nix nor rustix has PACKET_ADD_MEMBERSHIP")]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            size_of_val(&request) as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

/// A MAC address in words.
fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
