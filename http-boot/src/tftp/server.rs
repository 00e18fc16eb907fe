//! Takes questions and gives those that get a place to the threads that answer.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::Tree;
use super::packet::{ErrorCode, LONGEST, Mode, Packet, Request};
use super::session::Heard;
use super::socket::{Line, Listener, Route};
use super::table::{Admission, Key, Limits, Table};
use super::transfer::{self, Question};

/// The port of RFC 1350.
pub const PORT: u16 = 69;
/// Transfers at a time, where there are file descriptors enough. Together they hold less than 64 MiB, unless all of them read
/// from a slow disk.
const MOST_TRANSFERS: usize = 4096;
/// Each has a socket and a file.
const DESCRIPTORS_OF_EACH: usize = 2;
/// Left to the rest. HTTP has the other half of all (`crate::connections`).
const DESCRIPTORS_OF_OTHERS: usize = 256;
/// Of one address. Behind a router that translates addresses there may be a few Pis.
const MOST_OF_ONE_CLIENT: usize = 64;
/// Files that are opened at a time.
const MOST_OPENING: usize = 16;
/// One thread fills a Gbit/s. There are never more than half as many as processors: the kernel's part of the work, HTTP and
/// whatever else the machine does need the others, and threads that take turns cost more than they bring.
const MOST_THREADS: usize = 4;

/// As many as fit into half of the process's file descriptors.
fn most_transfers(descriptors: usize) -> usize {
    ((descriptors / 2).saturating_sub(DESCRIPTORS_OF_OTHERS) / DESCRIPTORS_OF_EACH)
        .clamp(MOST_OF_ONE_CLIENT, MOST_TRANSFERS)
}

/// A server that listens.
pub struct Server {
    listener: Arc<Listener>,
    single_port: bool,
}

/// What all servers of a process share.
pub struct Engine {
    tree: Arc<dyn Tree>,
    table: Arc<Table>,
    opening: Arc<Semaphore>,
    /// When it was last said that there is no place.
    complained: Mutex<Option<Instant>>,
    threads: Threads,
    /// Held by each transfer, so that their end is seen.
    running: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Engine {
    /// Serves `tree`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(tree: Arc<dyn Tree>) -> Result<Self> {
        let descriptors = raise_descriptor_limit();
        let (running, ended) = mpsc::channel(1);
        Ok(Self {
            tree,
            table: Table::new(Limits {
                total: most_transfers(descriptors),
                of_one_client: MOST_OF_ONE_CLIENT,
            }),
            opening: Arc::new(Semaphore::new(MOST_OPENING)),
            complained: Mutex::default(),
            threads: Threads::start()?,
            running,
            ended,
        })
    }

    /// A flood of questions must not become one of log lines.
    fn complain(&self, route: &Route) {
        let mut last = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            tracing::warn!(
                address = %route.peer,
                "tftp: no place for another transfer: all are busy; the client asks again by itself"
            );
        }
    }

    /// How many transfers there are.
    pub fn transfers(&self) -> usize {
        self.table.len()
    }

    /// Cuts them, and tells their clients: what is to be called when the wait is over.
    pub fn cutter(&self) -> impl FnOnce() + use<> {
        let table = Arc::clone(&self.table);
        move || table.stop()
    }

    /// Waits until the transfers that there are have ended. No server may run any more.
    pub async fn finish(engine: Arc<Self>) {
        let Some(Self { running, mut ended, threads: _threads, .. }) = Arc::into_inner(engine) else {
            return;
        };
        drop(running);
        while ended.recv().await.is_some() {}
    }
}

/// As many file descriptors as this process may have. (Nothing here uses `select`, for which 1024 is the limit.)
pub(crate) fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    let now = if setrlimit(Resource::Nofile, limit).is_ok() { limit.maximum } else { before };
    now.map_or(usize::MAX, |now| usize::try_from(now).unwrap_or(usize::MAX))
}

impl Server {
    /// Listens at `address`. `single_port`: answers come from there too, for firewalls and address translation that know
    /// nothing of TFTP; else from a new port for each transfer, as RFC 1350 has it.
    ///
    /// # Errors
    /// When the address cannot be had; the message says what to do.
    pub fn bind(address: SocketAddr, single_port: bool) -> Result<Self> {
        use std::io::ErrorKind;
        let error = match Listener::bind(address) {
            Ok(listener) => return Ok(Self { listener: Arc::new(listener), single_port }),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::AddrInUse => bail!(
                "UDP {address} is in use by another program: stop that one (`ss -lunp` names it; often dnsmasq or tftpd-hpa), or choose another address with --tftp"
            ),
            ErrorKind::PermissionDenied => bail!(
                "not permitted to listen on UDP {address}: ports below 1024 need root or CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE; by hand: setcap cap_net_bind_service=+ep http-boot)"
            ),
            ErrorKind::AddrNotAvailable => {
                bail!("{address} is not an address of this machine (`ip address` lists them)")
            }
            _ if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
                bail!("this machine has no IPv6: give an IPv4 address, like --tftp 0.0.0.0")
            }
            _ => Err(error).with_context(|| format!("listening on UDP {address}")),
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("asking for the TFTP socket's address")
    }

    /// Takes questions for ever. The task is aborted at the stop.
    pub async fn serve(self, engine: Arc<Engine>) {
        let mut buffer = [0; LONGEST];
        loop {
            let (length, route) = match self.listener.receive(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // Out of memory, mostly: trying again at once would spin.
                    tracing::error!("tftp: receiving: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // RFC 1123, section 4.2.3.6: questions to everybody are not for us.
            if route.to_many {
                continue;
            }
            let Ok(packet) = Packet::parse(buffer.get(..length).unwrap_or_default()) else { continue };
            let key = Key { peer: route.peer, local: route.local };
            match packet {
                Packet::Read(request) if request.mode == Mode::Octet => {
                    self.read(&engine, key, route, request)
                }
                Packet::Read(request) => self.refuse(
                    &route,
                    &request,
                    ErrorCode::ILLEGAL,
                    "only mode octet is served (in tftp: binary)",
                ),
                Packet::Write(request) => {
                    self.refuse(&route, &request, ErrorCode::ACCESS, "this server is for reading only");
                }
                Packet::Ack(number) => self.tell(&engine, key, Heard::Ack(number)),
                Packet::Error { code, text } => self.tell(&engine, key, Heard::Error(code, text)),
                Packet::Data { .. } | Packet::OptionAck(_) => {}
            }
        }
    }

    fn read(&self, engine: &Arc<Engine>, key: Key, route: Route, request: Request) {
        match engine.table.admit(key, &request) {
            Admission::Known => {}
            Admission::Full => engine.complain(&route),
            Admission::New(seat, inbox) => {
                let shared = self.single_port.then(|| Arc::clone(&self.listener));
                let question = Question { route, request, seat, inbox, shared };
                let (tree, opening) = (Arc::clone(&engine.tree), Arc::clone(&engine.opening));
                let running = engine.running.clone();
                engine.threads.spawn(async move {
                    transfer::run(question, tree, opening).await;
                    drop(running);
                });
            }
        }
    }

    /// On a single port, what clients say comes here. Else nothing but stray packets does.
    fn tell(&self, engine: &Engine, key: Key, what: Heard) {
        if self.single_port {
            engine.table.tell(key, what);
        }
    }

    fn refuse(&self, route: &Route, request: &Request, code: ErrorCode, text: &str) {
        tracing::info!(address = %route.peer, file = ?String::from_utf8_lossy(&request.name), "tftp refused: {text}");
        let packet = Packet::Error { code, text: text.into() }.to_bytes();
        let line = Line::Shared(Arc::clone(&self.listener), *route);
        let _lost = line.send(&[[IoSlice::new(&packet)]]);
    }
}

/// Threads that transfers run on, each with an executor of its own: a packet and its answer never change the thread.
struct Threads {
    handles: Vec<Handle>,
    next: AtomicUsize,
    /// The threads end when these are dropped.
    _stops: Vec<oneshot::Sender<()>>,
}

impl Threads {
    fn start() -> Result<Self> {
        let count = thread::available_parallelism()
            .map_or(1, |processors| processors.get() / 2)
            .clamp(1, MOST_THREADS);
        let mut threads = Self { handles: Vec::new(), next: AtomicUsize::new(0), _stops: Vec::new() };
        for number in 1..=count {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(MOST_OPENING * 2)
                .build()
                .context("starting the TFTP server's executor")?;
            let (stop, stopped) = oneshot::channel();
            threads.handles.push(runtime.handle().clone());
            threads._stops.push(stop);
            let run = move || {
                let _dropped = runtime.block_on(stopped);
                runtime.shutdown_background();
            };
            let builder = thread::Builder::new().name(format!("tftp-{number}"));
            builder.spawn(run).context("starting a thread of the TFTP server")?;
        }
        Ok(threads)
    }

    fn spawn(&self, transfer: impl Future<Output = ()> + Send + 'static) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(handle) = self.handles.get(turn % self.handles.len().max(1)) {
            handle.spawn(transfer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_fit_into_half_of_the_descriptors() {
        assert_eq!([1024, 4096, 16384, 65536].map(most_transfers), [128, 896, 3968, MOST_TRANSFERS]);
    }
}
