//! The listener: accepts connections and gives each a process, for as long as the machine is here.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout, timeout_at};

use super::admission::{Admission, CONNECTIONS, Ticket, Turn};
use super::authorized_keys::AuthorizedKeys;
use super::host_key::{self, Origin, Sources};
use super::oom::{self, LISTENER};
use super::sessions;
use super::settings::Settings;
use super::sockets;
use crate::kernel_log::KernelLog;

/// Who has not logged in by then is closed.
const LOGIN_TIME: Duration = Duration::from_secs(30);
/// After an error of accept, which is one of the machine and not of a client.
const PAUSE: Duration = Duration::from_millis(200);
/// How long connections have to say goodbye.
const GOODBYE: Duration = Duration::from_millis(1700);

struct Server {
    settings: Settings,
    log: KernelLog,
    /// The host key as the processes of connections receive it.
    key: String,
    admission: Mutex<Admission>,
    /// Changes whenever a connection is over, or logged in.
    moved: watch::Sender<()>,
    ending: watch::Sender<bool>,
}

/// Listens and serves until SIGTERM or SIGINT.
pub fn run(settings: Settings) -> Result<()> {
    // First of all, so that nobody is refused while the rest gets ready.
    let sockets = sockets::open(&settings.listen)?;
    oom::inherit_less(LISTENER);
    let log = settings.log();
    sessions::sweep(&settings.run);
    let (key, origin) = host_key::load_or_make(&settings, &Sources::default(), &log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the server's runtime")?;
    report(&settings, &log, &sockets, &host_key::fingerprint(&key), &origin);
    let key = host_key::to_text(&key)?;
    let (moved, ending) = (watch::Sender::new(()), watch::Sender::new(false));
    let server = Arc::new(Server { settings, log, key, admission: Mutex::default(), moved, ending });
    runtime.block_on(server.serve(sockets))
}

/// What an operator wants to read on the console, and what a test waits for.
fn report(settings: &Settings, log: &KernelLog, sockets: &[TcpListener], fingerprint: &str, origin: &Origin) {
    match AuthorizedKeys::read(&settings.authorized_keys) {
        Err(error) => log.say(format!("nobody can log in: {error:#}")),
        Ok(keys) => {
            let path = settings.authorized_keys.display();
            for refused in &keys.refused {
                log.say(format!("{path}, line {}: {}", refused.line, refused.reason));
            }
            log.say(format!(
                "{path}: {} can log in",
                match keys.keys.len() {
                    1 => "1 key".to_string(),
                    count => format!("{count} keys"),
                }
            ));
        }
    }
    log.say(format!("host key {fingerprint}, {origin}"));
    for address in sockets.iter().filter_map(|socket| socket.local_addr().ok()) {
        log.say(format!("listening on {address}"));
    }
    // For whoever started us with a pipe to read from.
    let _ = writeln!(std::io::stdout(), "{fingerprint}");
}

impl Server {
    async fn serve(self: Arc<Self>, sockets: Vec<TcpListener>) -> Result<()> {
        let mut terminated = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
        // A terminal that goes, or a group of processes that does, is no reason to end.
        let _hangup = signal(SignalKind::hangup()).context("watching for SIGHUP")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
        for socket in sockets {
            let socket = tokio::net::TcpListener::from_std(socket).context("watching a listening socket")?;
            tokio::spawn(self.clone().accept(socket));
        }
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupt.recv() => {}
        }
        self.log.say("ending: the machine hands over");
        self.ending.send_replace(true);
        // Those of a listener before us, which died and left them, are told as well.
        sessions::sweep(&self.settings.run).into_iter().for_each(|id| terminate(Some(id)));
        let mut moved = self.moved.subscribe();
        let everyone_left = async {
            while !self.admission().is_empty() {
                let _ = moved.changed().await;
            }
        };
        // Whoever is left then is killed as the runtime ends.
        let _ = timeout(GOODBYE, everyone_left).await;
        Ok(())
    }

    /// Never ends: an error of accept passes, and PID 1 has nobody better to put in our place.
    async fn accept(self: Arc<Self>, socket: tokio::net::TcpListener) {
        loop {
            match socket.accept().await {
                Ok(_) if *self.ending.borrow() => {}
                Ok((stream, peer)) => self.clone().admit(stream, peer),
                Err(error) => {
                    self.log.say(format!("accepting a connection: {error}"));
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let from = peer.ip().to_canonical();
        let Some(ticket) = self.admission().admit(from, Instant::now()) else {
            self.log.say(format!("refused a connection from {from}: {CONNECTIONS} are logged in"));
            return;
        };
        tokio::spawn(async move {
            let number = ticket.number;
            if let Err(error) = self.attend(stream, peer, ticket).await {
                self.log.say(format!("serving {from}: {error:#}"));
            }
            self.admission().left(number);
            self.moved.send_replace(());
        });
    }

    /// Waits for a connection's turn; whether it came.
    async fn queue(&self, ticket: &Ticket) -> bool {
        sleep(ticket.wait).await;
        let mut moved = self.moved.subscribe();
        loop {
            let turn = self.admission().turn(ticket.number, Instant::now());
            match turn {
                Turn::Now => return true,
                Turn::Never => return false,
                Turn::Later(then) => {
                    let _ = timeout_at(then.into(), moved.changed()).await;
                }
            }
        }
    }

    /// From a connection's process's start to its end.
    async fn attend(&self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) -> Result<()> {
        let mut ending = self.ending.subscribe();
        tokio::select! {
            served = self.queue(&ticket) => if !served { return Ok(()) },
            () = ticket.leave.notified() => return Ok(()),
            () = ended(&mut ending) => return Ok(()),
        }
        let (mut child, mut control) = self.start(stream)?;
        let id = child.id();
        let mut byte = [0; 1];
        tokio::select! {
            read = control.read(&mut byte) => if let Ok(1) = read {
                self.admission().authenticated(ticket.number);
                self.moved.send_replace(());
            },
            () = sleep(LOGIN_TIME) => {
                let from = peer.ip().to_canonical();
                self.log.say(format!("closed a connection from {from}: no login in {} s", LOGIN_TIME.as_secs()));
                let _ = child.start_kill();
            }
            () = ticket.leave.notified() => {
                let _ = child.start_kill();
            }
            () = ended(&mut ending) => {}
        }
        tokio::select! {
            _ = child.wait() => {}
            () = ended(&mut ending) => {
                terminate(child.id());
                let _ = child.wait().await;
            }
        }
        // Its own last act, unless it could not.
        if let Some(id) = id {
            sessions::end(&self.settings.run, id);
        }
        Ok(())
    }

    fn start(&self, stream: TcpStream) -> Result<(Child, tokio::net::UnixStream)> {
        let context = "starting a process for a connection";
        let stream: OwnedFd = stream.into_std().context(context)?.into();
        let (mut ours, theirs) = UnixStream::pair().context(context)?;
        let child = Command::new(this_program())
            .args(self.settings.session_arguments())
            .stdin(Stdio::from(stream))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()
            .context(context)?;
        // A key is shorter than a socket's buffer: this never waits.
        ours.write_all(self.key.as_bytes()).context(context)?;
        ours.shutdown(std::net::Shutdown::Write).context(context)?;
        ours.set_nonblocking(true).context(context)?;
        Ok((child, tokio::net::UnixStream::from_std(ours).context(context)?))
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the server ends.
async fn ended(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

fn terminate(id: Option<u32>) {
    if let Some(pid) = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// The file of this program, also when it was replaced since it started.
fn this_program() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() { link.into() } else { std::env::args_os().next().unwrap_or_default().into() }
}
