//! The order in which sockets open, are served and close.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::http;
use crate::http::files::Root;
use crate::state::State;
use crate::store::prune::Policy;

/// The port where `--listen` names none.
pub const DEFAULT_PORT: u16 = 8080;
/// How many connections are served at once; further ones wait in the kernel's queue. Bounds memory: each holds at most
/// two of [`http::body::CHUNK`].
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to send a request's head, or may sit idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection whose peer acknowledges nothing for so long is dropped: a Pi that lost power sends no FIN.
const PEER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long transfers may go on after SIGINT or SIGTERM before they are cut. A client resumes a cut one by Range.
const GRACE: Duration = Duration::from_secs(5);

/// An address to listen on, as `ADDR` or `ADDR:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self(address));
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(ip) => Ok(Self(SocketAddr::new(ip, DEFAULT_PORT))),
            Err(_) => Err(
                "not an IP address with an optional port, like 192.0.2.1, 192.0.2.1:80 or [2001:db8::1]:80"
                    .into(),
            ),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What `serve` needs to know.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The folder to serve.
    pub root: PathBuf,
    /// Where to listen: at least one.
    pub listen: Vec<ListenAddress>,
    /// The folder of the database. Without one, nothing is kept and nobody can log in.
    pub state: Option<PathBuf>,
    /// How much the database keeps.
    pub keep: Policy,
    /// Whether `/metrics` is for everyone.
    pub metrics_open: bool,
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// When the root is no readable folder, or an address cannot be listened on.
pub fn run(options: ServeOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")?;
    let result = runtime.block_on(serve(options));
    // A read from a dead NFS server must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(options: ServeOptions) -> Result<()> {
    let root = Root::open(&options.root)?;
    // Before the first line that says "listening": whoever waits for it may send a signal at once.
    let mut stop = Stop::new()?;
    let mut listeners = Vec::new();
    for address in &options.listen {
        listeners.push(listen(*address).await?);
    }
    let mut site = http::Site::new(root);
    site.metrics_open = options.metrics_open;
    if let Some(folder) = &options.state {
        site.state = Some(Arc::new(State::open(folder, &options.root, options.keep, &site.devices)?));
    }
    let site = Arc::new(site);
    let graceful = Arc::new(GracefulShutdown::new());
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for listener in &listeners {
        let address = listener.local_addr().context("asking for the listening address")?;
        tracing::info!(root = %options.root.display(), "listening on http://{address}");
    }
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, site.clone(), graceful.clone(), room.clone()));
    }

    let name = stop.wait().await;
    accepting.shutdown().await;
    site.live.stop();
    let open = MAX_CONNECTIONS - room.available_permits();
    tracing::info!(connections = open, "stopping on {name}; transfers have {} s to finish", GRACE.as_secs());
    tokio::select! {
        () = close(graceful) => tracing::info!("stopped"),
        () = tokio::time::sleep(GRACE) => tracing::warn!("stopped; transfers that were still open are cut"),
        name = stop.wait() => tracing::warn!("stopped at once on a second signal ({name})"),
    }
    if let Some(state) = &site.state {
        state.finish();
    }
    Ok(())
}

async fn listen(ListenAddress(address): ListenAddress) -> Result<TcpListener> {
    let error = match TcpListener::bind(address).await {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            bail!(
                "{address} is in use by another program: stop that one (`ss -ltnp` names it) or choose another port with --listen"
            )
        }
        std::io::ErrorKind::PermissionDenied => {
            bail!("not permitted to listen on {address}: ports below 1024 need root or CAP_NET_BIND_SERVICE")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            bail!("{address} is not an address of this machine (`ip address` lists them)")
        }
        _ => Err(error).with_context(|| format!("listening on {address}")),
    }
}

/// Asks all connections to end after the answer they are at, and waits until they have.
async fn close(graceful: Arc<GracefulShutdown>) {
    // The accepting tasks had the other references, and are gone.
    if let Some(graceful) = Arc::into_inner(graceful) {
        graceful.shutdown().await;
    }
}

/// Accepts for ever. The task is aborted at the stop.
async fn accept(
    listener: TcpListener,
    site: Arc<http::Site>,
    graceful: Arc<GracefulShutdown>,
    room: Arc<Semaphore>,
) {
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let serving = serve_connection(stream, peer, site.clone(), graceful.watcher());
                tokio::spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: trying again at once would spin.
                tracing::error!("accepting a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, site: Arc<http::Site>, watcher: Watcher) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(address = %peer, "setting socket options: {error}");
    }
    let service = TowerToHyperService::new(http::router(site, peer));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024)
        // A boot client may close its sending side once it has asked.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(address = %peer, "connection ended early: {error}");
    }
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let milliseconds = u32::try_from(PEER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the next of them; gives its name.
    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        let parse = |text: &str| text.parse::<ListenAddress>().map(|a| a.to_string());
        assert_eq!(parse("127.0.0.1").unwrap(), "127.0.0.1:8080");
        assert_eq!(parse("0.0.0.0:80").unwrap(), "0.0.0.0:80");
        assert_eq!(parse("::1").unwrap(), "[::1]:8080");
        assert_eq!(parse("[::]").unwrap(), "[::]:8080");
        assert_eq!(parse("[::1]:0").unwrap(), "[::1]:0");
        for wrong in ["", "localhost", "8080", ":8080", "127.0.0.1:", "127.0.0.1:65536", "1.2.3"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
