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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::boot_tree::BootTree;
use crate::boot_tree::rendering::{AsTheyAre, Rendering};
use crate::clients::Clients;
use crate::dhcp;
use crate::fleet::{self, watch::Watched};
use crate::http;
use crate::http::files::Root;
use crate::state::State;
use crate::store::prune::Policy;
use crate::tftp;
use crate::tftp::server::{Engine, Server as TftpServer};
use crate::tls;

/// The port where `--listen` names none.
pub const DEFAULT_PORT: u16 = 8080;
/// The port where `--listen-tls` names none.
pub const DEFAULT_TLS_PORT: u16 = 8443;
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
        parse_address(text, DEFAULT_PORT).map(Self)
    }
}

/// The same for TLS: where no port is named, it is [`DEFAULT_TLS_PORT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsListenAddress(pub ListenAddress);

impl FromStr for TlsListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_address(text, DEFAULT_TLS_PORT).map(|address| Self(ListenAddress(address)))
    }
}

fn parse_address(text: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(_) => Err(format!(
            "not an IP address with an optional port, like 192.0.2.1, 192.0.2.1:{port} or [2001:db8::1]:{port}"
        )),
    }
}

/// An address to serve TFTP on, as `ADDR` or `ADDR:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TftpAddress(pub SocketAddr);

impl FromStr for TftpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_address(text, tftp::server::PORT).map(Self)
    }
}

/// What is served over TFTP.
#[derive(Clone, Debug)]
pub struct TftpOptions {
    /// Where to listen: none, one or more.
    pub listen: Vec<TftpAddress>,
    /// The folder of boot files; without one, `tftp` in the root.
    pub root: Option<PathBuf>,
    /// Whether answers come from the port that was asked.
    pub single_port: bool,
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
    /// What each Pi shall do: a `fleet.toml`.
    pub fleet: Option<PathBuf>,
    /// Where to listen: at least one.
    pub listen: Vec<ListenAddress>,
    /// Where to listen for TLS, with what.
    pub tls: Option<(Vec<ListenAddress>, tls::Files)>,
    /// TFTP.
    pub tftp: TftpOptions,
    /// DHCP, where it is wanted.
    pub dhcp: Option<dhcp::settings::Settings>,
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
    let root = Arc::new(Root::open(&options.root)?);
    // Before the first line that says "listening": whoever waits for it may send a signal at once.
    let mut stop = Stop::new()?;
    let mut listeners = Vec::new();
    for address in &options.listen {
        listeners.push((listen(*address).await?, None));
    }
    if let Some((addresses, files)) = &options.tls {
        let acceptor = tls::acceptor(files)?;
        for address in addresses {
            listeners.push((listen(*address).await?, Some(acceptor.clone())));
        }
    }
    let fleet = options.fleet.as_ref().map(|path| Watched::open(path, root.clone())).transpose();
    let fleet = fleet.context("reading the fleet's file (nothing is served)")?.map(Arc::new);
    let clients = Arc::new(Clients::default());
    let mut dhcp = options.dhcp.as_ref().map(|settings| start_dhcp(settings, &clients)).transpose()?;
    let tftp = Tftp::open(&options, &clients, rendering(fleet.as_ref()))?;
    let mut site = http::Site::new(root, fleet, clients);
    site.metrics_open = options.metrics_open;
    if let Some(folder) = &options.state {
        site.state = Some(Arc::new(State::open(folder, &options.root, options.keep, &site.devices)?));
    }
    let site = Arc::new(site);
    let graceful = Arc::new(GracefulShutdown::new());
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for (listener, tls) in &listeners {
        let address = listener.local_addr().context("asking for the listening address")?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        tracing::info!(root = %options.root.display(), "listening on {scheme}://{address}");
    }
    let mut accepting = JoinSet::new();
    if let Some(fleet) = &site.fleet {
        accepting.spawn(keep_fresh(fleet.clone()));
    }
    for (listener, tls) in listeners {
        accepting.spawn(accept(listener, tls, site.clone(), graceful.clone(), room.clone()));
    }
    let engine = tftp.map(|tftp| tftp.start(&mut accepting));

    let name = tokio::select! {
        name = stop.wait() => name,
        ended = dhcp_ended(dhcp.as_mut()) => return ended,
    };
    if let Some(dhcp) = dhcp {
        dhcp.stop();
    }
    accepting.shutdown().await;
    site.live.stop();
    let connections = MAX_CONNECTIONS - room.available_permits();
    let tftp = engine.as_ref().map_or(0, |engine| engine.transfers());
    tracing::info!(connections, tftp, "stopping on {name}; transfers have {} s to finish", GRACE.as_secs());
    tokio::select! {
        () = async { tokio::join!(close(graceful), finish(engine)); } => tracing::info!("stopped"),
        () = tokio::time::sleep(GRACE) => tracing::warn!("stopped; transfers that were still open are cut"),
        name = stop.wait() => tracing::warn!("stopped at once on a second signal ({name})"),
    }
    if let Some(state) = &site.state {
        state.finish();
    }
    Ok(())
}

/// Reads the fleet's file again when it has changed. The task is aborted at the stop.
async fn keep_fresh(fleet: Arc<Watched>) {
    loop {
        tokio::time::sleep(fleet::watch::INTERVAL).await;
        let fleet = fleet.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || fleet.refresh()).await {
            tracing::error!("reading the fleet's file: {error}");
        }
    }
}

/// What makes text for one Pi.
fn rendering(fleet: Option<&Arc<Watched>>) -> Arc<dyn Rendering> {
    match fleet {
        Some(fleet) => fleet.clone(),
        None => Arc::new(AsTheyAre),
    }
}

/// DHCP answers before the first file can be asked for: a Pi asks again.
fn start_dhcp(settings: &dhcp::settings::Settings, clients: &Arc<Clients>) -> Result<dhcp::server::Running> {
    let config = settings.check(&dhcp::interface::all()?).context("checking the DHCP settings")?;
    dhcp::server::start(config, clients.clone())
}

/// Waits for ever, where there is no DHCP server.
async fn dhcp_ended(dhcp: Option<&mut dhcp::server::Running>) -> Result<()> {
    match dhcp {
        Some(running) => running.ended().await,
        None => std::future::pending().await,
    }
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

/// TFTP, ready to serve.
struct Tftp {
    engine: Engine,
    servers: Vec<TftpServer>,
}

impl Tftp {
    /// Opens the folder and the sockets, where there are to be any.
    fn open(
        options: &ServeOptions,
        clients: &Arc<Clients>,
        rendering: Arc<dyn Rendering>,
    ) -> Result<Option<Self>> {
        let TftpOptions { listen, root, single_port } = &options.tftp;
        if listen.is_empty() {
            return Ok(None);
        }
        let folder = root.clone().unwrap_or_else(|| options.root.join("tftp"));
        let tree = BootTree::open(&folder, Arc::clone(clients), rendering)?;
        let servers: Result<Vec<_>> =
            listen.iter().map(|TftpAddress(address)| TftpServer::bind(*address, *single_port)).collect();
        let (engine, servers) = (Engine::start(Arc::new(tree))?, servers?);
        for server in &servers {
            tracing::info!(root = %folder.display(), "listening on tftp://{}", server.local_addr()?);
        }
        Ok(Some(Self { engine, servers }))
    }

    fn start(self, serving: &mut JoinSet<()>) -> Arc<Engine> {
        let engine = Arc::new(self.engine);
        for server in self.servers {
            serving.spawn(server.serve(Arc::clone(&engine)));
        }
        engine
    }
}

async fn finish(engine: Option<Arc<Engine>>) {
    if let Some(engine) = engine {
        Engine::finish(engine).await;
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
    tls: Option<TlsAcceptor>,
    site: Arc<http::Site>,
    graceful: Arc<GracefulShutdown>,
    room: Arc<Semaphore>,
) {
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let serving = serve_connection(stream, peer, tls.clone(), site.clone(), graceful.watcher());
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

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    site: Arc<http::Site>,
    watcher: Watcher,
) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(address = %peer, "setting socket options: {error}");
    }
    let Some(tls) = tls else {
        return serve_http(stream, http::Peer { address: peer, is_tls: false }, site, watcher).await;
    };
    match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_http(stream, http::Peer { address: peer, is_tls: true }, site, watcher).await,
        // A bootloader that does not trust the certificate looks like this: worth a line that people see.
        Ok(Err(error)) => tracing::warn!(address = %peer, "TLS handshake failed: {error}"),
        Err(_) => {
            tracing::debug!(address = %peer, "TLS handshake took longer than {} s", HEAD_TIMEOUT.as_secs())
        }
    }
}

async fn serve_http<S>(stream: S, peer: http::Peer, site: Arc<http::Site>, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(http::router(site, peer));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024)
        // A boot client may close its sending side once it has asked.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(address = %peer.address, "connection ended early: {error}");
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
