//! The order in which sockets open, are served and close.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::boot_tree::BootTree;
use crate::boot_tree::rendering::{AsTheyAre, Rendering};
use crate::clients::Clients;
use crate::connections::{Connections, accept};
use crate::dhcp;
use crate::fleet::{self, watch::Watched};
use crate::http;
use crate::http::files::Root;
use crate::listen::{ListenAddress, TftpAddress, listen};
use crate::state::State;
use crate::store::prune::Policy;
use crate::tftp::server::{Engine, Server as TftpServer, raise_descriptor_limit};
use crate::tls;

/// How long transfers may go on after SIGINT or SIGTERM before they are cut. A client resumes a cut one by Range.
const GRACE: Duration = Duration::from_secs(5);

/// How long TFTP's last words to clients that are cut may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

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
        // Each may hang in a file system that does not answer; all of them have to fit into the unit's TasksMax=.
        .max_blocking_threads(96)
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
    let listeners = listeners(&options).await?;
    let fleet = options.fleet.as_ref().map(|path| Watched::open(path, root.clone())).transpose();
    let fleet = fleet.context("reading the fleet's file (nothing is served)")?.map(Arc::new);
    let clients = Arc::new(Clients::default());
    let mut dhcp = start_dhcp(options.dhcp.as_ref(), fleet.as_ref(), &clients)?;
    let tftp = Tftp::open(&options, &clients, rendering(fleet.as_ref()))?;
    let site = Arc::new(site(&options, root, fleet, clients, dhcp.as_ref())?);
    let connections = Connections::new(&site, raise_descriptor_limit());
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
        accepting.spawn(accept(listener, tls, connections.clone()));
    }
    let engine = tftp.map(|tftp| tftp.start(&mut accepting));
    ready();

    let name = tokio::select! {
        name = stop.wait() => name,
        // Pis that find no server find no files either: whoever started this one shall start it again.
        ended = dhcp_ended(dhcp.as_mut()) => {
            close_database(&site);
            return ended;
        }
    };
    if let Some(dhcp) = dhcp {
        dhcp.stop();
    }
    accepting.shutdown().await;
    site.live.stop();
    finish_transfers(name, &mut stop, connections, engine).await;
    close_database(&site);
    Ok(())
}

/// What HTTP serves, with the database where there is to be one.
fn site(
    options: &ServeOptions,
    root: Arc<Root>,
    fleet: Option<Arc<Watched>>,
    clients: Arc<Clients>,
    dhcp: Option<&dhcp::server::Running>,
) -> Result<http::Site> {
    let mut site = http::Site::new(root, fleet, clients);
    site.metrics_open = options.metrics_open;
    if let Some(folder) = &options.state {
        let state = Arc::new(State::open(folder, &options.root, options.keep, &site.devices)?);
        if let Some(dhcp) = dhcp {
            state.keep_findings(&dhcp.findings);
        }
        site.state = Some(state);
    }
    Ok(site)
}

/// Lets transfers end, for a while; cuts those that have not. `name`: the signal that ends the server.
async fn finish_transfers(
    name: &str,
    stop: &mut Stop,
    connections: Connections,
    engine: Option<Arc<Engine>>,
) {
    let tftp = engine.as_ref().map_or(0, |engine| engine.transfers());
    tracing::info!(
        connections = connections.open(),
        tftp,
        "stopping on {name}; transfers have {} s to finish",
        GRACE.as_secs()
    );
    let cut = engine.as_ref().map(|engine| engine.cutter());
    let (closing, mut finishing) = (connections.close(), Box::pin(finish(engine)));
    let is_over = tokio::select! {
        () = async { tokio::join!(closing, finishing.as_mut()); } => {
            tracing::info!("stopped");
            true
        }
        () = tokio::time::sleep(GRACE) => {
            tracing::warn!("stopped; transfers that were still open are cut");
            false
        }
        name = stop.wait() => {
            tracing::warn!("stopped at once on a second signal ({name})");
            false
        }
    };
    if let Some(cut) = cut.filter(|_| !is_over) {
        cut();
        let _too_slow = tokio::time::timeout(LAST_WORDS, finishing).await;
    }
}

/// Tells systemd that all sockets are open, where the unit has `Type=notify`: a start that fails is then seen as one.
fn ready() {
    if let Err(error) = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]) {
        tracing::warn!("telling systemd that the server is ready: {error}");
    }
}

/// Writes down what is still queued, where there is a database.
fn close_database(site: &http::Site) {
    if let Some(state) = &site.state {
        state.finish();
    }
}

/// HTTP's sockets, in the clear and with what TLS needs.
async fn listeners(options: &ServeOptions) -> Result<Vec<(TcpListener, Option<TlsAcceptor>)>> {
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
    Ok(listeners)
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

/// DHCP answers before the first file can be asked for: a Pi asks again. By flags, or by the fleet's file.
fn start_dhcp(
    flags: Option<&dhcp::settings::Settings>,
    fleet: Option<&Arc<Watched>>,
    clients: &Arc<Clients>,
) -> Result<Option<dhcp::server::Running>> {
    let settings = match fleet {
        Some(fleet) => fleet.fleet().dhcp(flags).map_err(anyhow::Error::msg)?,
        None => flags.cloned(),
    };
    if settings.is_none() && fleet.is_some_and(|fleet| !fleet.fleet().reservations().is_empty()) {
        tracing::warn!(
            "devices of the fleet's file have an address, and nobody gives it: [dhcp] or --dhcp full"
        );
    }
    let rendering = rendering(fleet);
    let left_alone = Arc::new(move |who| rendering.refuses(who));
    let start = |settings| dhcp::server::start(settings, clients.clone(), left_alone);
    let running = settings.map(start).transpose()?;
    if let Some(fleet) = fleet {
        fleet.set_gate(fleet::dhcp::gate(flags.cloned(), running.as_ref().map(|dhcp| dhcp.reload.clone())));
    }
    Ok(running)
}

/// Waits for ever, where there is no DHCP server.
async fn dhcp_ended(dhcp: Option<&mut dhcp::server::Running>) -> Result<()> {
    match dhcp {
        Some(running) => running.ended().await,
        None => std::future::pending().await,
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
