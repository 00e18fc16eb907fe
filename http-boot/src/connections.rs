//! HTTP's connections, in the clear and over TLS, and how many there may be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::http;
use crate::http::wire::{Outgoing, Wire};

/// How many connections are served at once; further ones wait in the kernel's queue. Bounds memory: each holds at most
/// one of [`http::body::CHUNK`], and what TLS makes of it.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to send a request's head, or may sit idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection whose peer acknowledges nothing for so long is dropped: a Pi that lost power sends no FIN.
const PEER_TIMEOUT: Duration = Duration::from_secs(60);

/// All connections of the server.
#[derive(Clone)]
pub struct Connections {
    router: Router,
    graceful: Arc<GracefulShutdown>,
    room: Arc<Semaphore>,
}

impl Connections {
    /// None yet.
    pub fn new(site: Arc<http::Site>) -> Self {
        Self {
            router: http::router(&site),
            graceful: Arc::default(),
            room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        MAX_CONNECTIONS - self.room.available_permits()
    }

    /// Asks all connections to end after the answer they are at, and waits until they have. Nothing may [`accept`] any more.
    pub async fn close(self) {
        if let Some(graceful) = Arc::into_inner(self.graceful) {
            graceful.shutdown().await;
        }
    }
}

/// Accepts for ever. The task is aborted at the stop.
pub async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, connections: Connections) {
    loop {
        let Ok(permit) = connections.room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let watcher = connections.graceful.watcher();
                let serving =
                    serve_connection(stream, peer, tls.clone(), connections.router.clone(), watcher);
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
    router: Router,
    watcher: Watcher,
) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(address = %peer, "setting socket options: {error}");
    }
    let Some(tls) = tls else {
        let wire = Wire::new(stream);
        let outgoing = Some(wire.outgoing());
        return serve_http(wire, http::Peer { address: peer, is_tls: false }, outgoing, router, watcher)
            .await;
    };
    let peer = http::Peer { address: peer, is_tls: true };
    match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_http(stream, peer, None, router, watcher).await,
        // A bootloader that does not trust the certificate looks like this: worth a line that people see.
        Ok(Err(error)) => tracing::warn!(address = %peer.address, "TLS handshake failed: {error}"),
        Err(_) => {
            tracing::debug!(address = %peer.address, "TLS handshake took longer than {} s", HEAD_TIMEOUT.as_secs())
        }
    }
}

/// `outgoing`: what the stream sends files with, if it can.
async fn serve_http<S>(
    stream: S,
    peer: http::Peer,
    outgoing: Option<Outgoing>,
    router: Router,
    watcher: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if let Some(outgoing) = outgoing.clone() {
            request.extensions_mut().insert(outgoing);
        }
        router.call(request)
    });
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
