//! HTTP's connections, in the clear and over TLS, and how many there may be. An address that opens all of them and says
//! nothing keeps nobody out (`tests/netns_flood`).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::http;
use crate::http::answered::Answered;
use crate::http::wire::{Outgoing, Wire};
use crate::seats::{Seat, Seats};

/// How many connections are served at once ([`crate::seats`] says whose). Bounds memory: each holds at most a request's head, one
/// of [`http::body::CHUNK`], and what TLS makes of it: some 160 KiB, by reckoning, of the unit's `MemoryMax=1G`.
const MAX_CONNECTIONS: usize = 4096;
/// Each may have a file open; half of all file descriptors are for others.
const DESCRIPTORS_OF_EACH: usize = 4;
/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 32 * 1024;
/// How long a client may take to send a request's head, or may sit idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection whose peer acknowledges nothing for so long is dropped: a Pi that lost power sends no FIN.
const PEER_TIMEOUT: Duration = Duration::from_secs(60);

/// All connections of the server.
#[derive(Clone)]
pub struct Connections {
    router: Router,
    graceful: Arc<GracefulShutdown>,
    seats: Arc<Seats>,
}

impl Connections {
    /// None yet. `descriptors`: how many file descriptors the process may have.
    pub fn new(site: &Arc<http::Site>, descriptors: usize) -> Self {
        let most = (descriptors / DESCRIPTORS_OF_EACH).min(MAX_CONNECTIONS);
        let (router, seats) = (http::router(site), Seats::new("connections", most));
        Self { router, graceful: Arc::default(), seats }
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.seats.taken()
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
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(seat) = connections.seats.admit(peer.ip(), Instant::now()) else { continue };
                let (seat, watcher) = (Arc::new(seat), connections.graceful.watcher());
                let (tls, router) = (tls.clone(), connections.router.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve_connection(stream, peer, tls, router, (watcher, seat.clone())) => {}
                        () = seat.lost() => {
                            tracing::debug!(address = %peer, "connection closed: another address needs its place");
                        }
                    }
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
    place: (Watcher, Arc<Seat>),
) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(address = %peer, "setting socket options: {error}");
    }
    match tls {
        None => {
            let wire = Wire::new(stream);
            let outgoing = Some(wire.outgoing());
            serve_http(wire, http::Peer { address: peer, is_tls: false }, outgoing, router, place).await;
        }
        // Boxed: a connection in the clear shall not take the memory that only TLS needs.
        Some(tls) => Box::pin(serve_tls(stream, peer, tls, router, place)).await,
    }
}

async fn serve_tls(
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    router: Router,
    place: (Watcher, Arc<Seat>),
) {
    match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            serve_http(stream, http::Peer { address: peer, is_tls: true }, None, router, place).await
        }
        // A bootloader that does not trust the certificate looks like this: worth a line that people see.
        Ok(Err(error)) => tracing::warn!(address = %peer, "TLS handshake failed: {error}"),
        Err(_) => {
            tracing::debug!(address = %peer, "TLS handshake took longer than {} s", HEAD_TIMEOUT.as_secs())
        }
    }
}

/// `outgoing`: what the stream sends files with, if it can.
async fn serve_http<S>(
    stream: S,
    peer: http::Peer,
    outgoing: Option<Outgoing>,
    router: Router,
    (watcher, seat): (Watcher, Arc<Seat>),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if let Some(outgoing) = outgoing.clone() {
            request.extensions_mut().insert(outgoing);
        }
        let (answering, answer) = (seat.answering(), router.call(request));
        async move { Ok::<_, Infallible>(Answered::response(answer.await?, answering)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(LONGEST_HEAD)
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
