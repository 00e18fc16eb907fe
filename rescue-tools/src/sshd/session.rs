//! The process of one connection. Standard input is the TCP connection; standard output is a socket to the listener,
//! which sends the host key through it and is told when someone has logged in.

use std::fs::OpenOptions;
use std::io::Read;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use russh::keys::PrivateKey;
use rustix::net::sockopt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::connection::Connection;
use super::host_key;
use super::login::{self, Ends};
use super::oom::{self, CONNECTION};
use super::priority::Priority;
use super::program::Programs;
use super::protocol;
use super::russh_log;
use super::sessions;
use super::settings::Settings;

/// The longest host key.
const KEY_LIMIT: u64 = 16 << 10;
/// How long each part of a goodbye may take. All of it must fit into the time that the listener gives.
const GOODBYE: Duration = Duration::from_millis(300);
/// How long programs have to end after SIGHUP, until they are left to PID 1.
const HANG_UP: Duration = Duration::from_millis(500);

/// Serves the connection until it ends.
pub fn run(settings: Settings) -> Result<()> {
    oom::inherit_less(CONNECTION);
    let (socket, mut control) = take_standard_streams().context("taking over a connection")?;
    let key = receive_key(&mut control)?;
    socket.set_nonblocking(true).context("taking over a connection")?;
    // A client that is gone without a word is noticed even while we wait to send to it.
    let _ = sockopt::set_tcp_user_timeout(&socket, protocol::UNACKNOWLEDGED);
    let _ = socket.set_nodelay(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime of a connection")?;
    let run = settings.run.clone();
    let served = runtime.block_on(serve(settings, socket, control, key));
    sessions::end(&run, std::process::id());
    served
}

async fn serve(settings: Settings, socket: TcpStream, control: UnixStream, key: PrivateKey) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let _hangup = signal(SignalKind::hangup()).context("watching for SIGHUP")?;
    let stream = tokio::net::TcpStream::from_std(socket).context("taking over a connection")?;
    let peer = stream.peer_addr().context("taking over a connection")?;
    let local = stream.local_addr().context("taking over a connection")?;
    let log = settings.log();
    russh_log::pass_on(log.clone());
    let run = settings.run.clone();
    let programs = Arc::new(Programs::default());
    let ends = Ends { peer, local };
    let config = protocol::config(key, settings.client_alive);
    let connection = Connection::new(settings, ends, control, programs.clone(), Priority::lower());
    let mut session = tokio::select! {
        session = russh::server::run_stream(config, stream, connection) => match session {
            Ok(session) => session,
            // Scanners that speak no SSH are not worth a line.
            Err(_) => return Ok(()),
        },
        _ = terminate.recv() => return Ok(()),
    };
    tokio::select! {
        ended = &mut session => if let Err(error) = ended && is_notable(&error) {
            log.say(format!("the connection from {} ended: {error}", peer.ip().to_canonical()));
        },
        _ = terminate.recv() => {
            let _ = timeout(GOODBYE, programs.take_leave(&login::goodbye(&run))).await;
            // Most clients go by themselves now.
            if timeout(GOODBYE, &mut session).await.is_err() {
                let text = String::from("the machine hands over");
                let _ = session.handle().disconnect(russh::Disconnect::ByApplication, text, String::new()).await;
                let _ = timeout(GOODBYE, &mut session).await;
            }
        }
    }
    programs.hang_up();
    let _ = timeout(HANG_UP, programs.gone()).await;
    Ok(())
}

/// Whether the end of a connection is one that an operator wants to know of, and not a client that just went.
fn is_notable(error: &russh::Error) -> bool {
    !matches!(error, russh::Error::Disconnect | russh::Error::HUP | russh::Error::IO(_))
}

/// Standard input and output as what they are; `/dev/null` takes their places, so that nothing else gets at them.
fn take_standard_streams() -> Result<(TcpStream, UnixStream)> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let control = std::io::stdout().as_fd().try_clone_to_owned()?;
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
    }
    Ok((socket.into(), control.into()))
}

fn receive_key(control: &mut UnixStream) -> Result<PrivateKey> {
    let mut text = String::new();
    control.take(KEY_LIMIT).read_to_string(&mut text).context("receiving the host key")?;
    host_key::from_text(&text)
}
