//! Sends the kernel's log by syslog over UDP (RFC 5426): from the beginning, each record once, and no more in a second than
//! a slow receiver takes.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::runtime::Builder;

use super::record::{self, Record};
use super::wait_for_network;
use crate::kernel_log::Receiver;
use crate::pid1::dns::resolver::Resolver;
use crate::pid1::file;
use crate::status::{MACHINE_PATH, Machine, NetworkStatus};

/// The number of the record that is next, for this child's successor.
const NEXT_PATH: &str = "/run/lifeboat/syslog-next.json";
/// So many records in a second; those that are too many wait in the kernel.
const RECORDS: u32 = 200;
const SECOND: Duration = Duration::from_secs(1);
/// More than any record has (`CONSOLE_EXT_LOG_MAX` of the kernel is 8192).
const RECORD_LIMIT: usize = 16 << 10;
/// After a failure it is tried again so soon, and at last so late.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// Runs for ever.
///
/// # Errors
/// When `/dev/kmsg` cannot be read.
pub(super) fn send_all(receiver: &Receiver) -> Result<()> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut kmsg = OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg");
    let kmsg = kmsg.as_mut().map_err(|error| anyhow::anyhow!("opening /dev/kmsg: {error}"))?;
    let mut next: u64 = file::read_json(Path::new(NEXT_PATH)).unwrap_or(0);
    let mut sender = Sender { receiver, host: String::new(), socket: None, last: None, pace: Pace::new() };
    let mut buffer = vec![0; RECORD_LIMIT];
    loop {
        match kmsg.read(&mut buffer) {
            Ok(length) => {
                let Some(record) = buffer.get(..length).and_then(Record::parse) else { continue };
                // What is older was sent by this child's predecessor.
                if record.sequence < next {
                    continue;
                }
                if record.sequence > next {
                    sender.deliver(|host| record::lost(record.sequence - next, host));
                }
                sender.deliver(|host| record.message(host));
                next = record.sequence + 1;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                file::replace_json(Path::new(NEXT_PATH), &next)?;
                match poll(&mut [PollFd::new(&kmsg, PollFlags::IN)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error).context("waiting for the kernel's log"),
                }
            }
            // Overwritten before it was read: the gap in the numbers says how many.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("reading /dev/kmsg"),
        }
    }
}

struct Sender<'a> {
    receiver: &'a Receiver,
    /// What this machine is called.
    host: String,
    socket: Option<UdpSocket>,
    /// What was sent last: that nobody listened is told with the next one.
    last: Option<String>,
    pace: Pace,
}

impl Sender<'_> {
    /// Sends a message, however long that takes.
    fn deliver(&mut self, message: impl Fn(&str) -> String) {
        self.pace.wait();
        let (mut wait, mut told) = (FIRST_WAIT, false);
        loop {
            match self.try_to_deliver(&message) {
                Ok(()) => return,
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(
                        "syslog to {}: {error:#}; trying again for as long as it takes",
                        self.receiver
                    );
                }
                Err(_) => {}
            }
            self.socket = None;
            std::thread::sleep(wait);
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    fn try_to_deliver(&mut self, message: &impl Fn(&str) -> String) -> Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.open()?,
        };
        let text = message(&self.host);
        socket.send(text.as_bytes()).context("sending")?;
        (self.socket, self.last) = (Some(socket), Some(text));
        Ok(())
    }

    fn open(&mut self) -> Result<UdpSocket> {
        let network = wait_for_network(|network| network.online);
        self.host = host(&network);
        let socket = connect(self.receiver)?;
        match &self.last {
            Some(last) => {
                socket.send(last.as_bytes()).context("sending")?;
                // So that a refusal is known before the next one goes.
                std::thread::sleep(FIRST_WAIT / 4);
            }
            None => tracing::info!("the kernel's log goes to {} by syslog", self.receiver),
        }
        Ok(socket)
    }
}

/// A socket to the first of the receiver's addresses that there is a way to.
fn connect(receiver: &Receiver) -> Result<UdpSocket> {
    let runtime = Builder::new_current_thread().enable_all().build().context("making a runtime")?;
    let addresses = runtime.block_on(Resolver::default().lookup(&receiver.host))?;
    let mut failures = Vec::new();
    for address in addresses {
        match connect_to((address, receiver.port).into()) {
            Ok(socket) => return Ok(socket),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!("{}", failures.join("; "))
}

fn connect_to(to: SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).context("opening a UDP socket")?;
    socket.connect(to).with_context(|| format!("connecting to {to}"))?;
    // While an IPv6 address is not known to be ours alone, the kernel takes the loopback's: nothing would arrive.
    let from = socket.local_addr().context("asking for our address")?;
    ensure!(from.ip().is_loopback() == to.ip().is_loopback(), "no address of ours reaches {to} yet");
    Ok(socket)
}

/// The host's name where it was given one, else its serial number.
fn host(network: &NetworkStatus) -> String {
    let serial = || file::read_json::<Machine>(Path::new(MACHINE_PATH)).map(|machine| machine.serial);
    record::host_name(&network.hostname.clone().or_else(serial).unwrap_or_default())
}

/// Holds back what comes too fast.
struct Pace {
    since: Instant,
    sent: u32,
}

impl Pace {
    fn new() -> Self {
        Pace { since: Instant::now(), sent: 0 }
    }

    fn wait(&mut self) {
        let left = SECOND.saturating_sub(self.since.elapsed());
        if left.is_zero() {
            *self = Pace::new();
        } else if self.sent >= RECORDS {
            std::thread::sleep(left);
            *self = Pace::new();
        }
        self.sent += 1;
    }
}
