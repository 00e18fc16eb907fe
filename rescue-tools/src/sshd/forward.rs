//! Ports that a client has connected from here (`ssh -L`, `ssh -W`, `ProxyJump`): off for a key that has no
//! `port-forwarding` before it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use russh::server::{ChannelOpenHandle, Msg};
use russh::{ChannelOpenFailure, ChannelWriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::intake::Outlet;

/// How long a connection may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much is read, and sent, at once.
const CHUNK: usize = 32 * 1024;

/// The addresses behind `host`. None: a name, which nothing here looks up.
pub fn addresses(host: &str, port: u16) -> Vec<SocketAddr> {
    let ips: Vec<IpAddr> = if host.eq_ignore_ascii_case("localhost") {
        vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
    } else {
        host.parse().into_iter().collect()
    };
    ips.into_iter().map(|ip| (ip, port).into()).collect()
}

/// Connects to the first of `addresses` that answers, answers `reply`, and carries bytes both ways until both sides have
/// ended, or the task is dropped.
pub async fn carry(
    addresses: Vec<SocketAddr>,
    reply: ChannelOpenHandle,
    out: Arc<ChannelWriteHalf<Msg>>,
    outlet: Outlet,
) {
    let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(addresses.as_slice())).await else {
        reply.reject(ChannelOpenFailure::ConnectFailed).await;
        return;
    };
    let _ = stream.set_nodelay(true);
    reply.accept().await;
    let (from, to) = stream.into_split();
    tokio::join!(send(from, &out), receive(to, outlet));
    let _ = out.close().await;
}

async fn send(mut from: OwnedReadHalf, out: &ChannelWriteHalf<Msg>) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        match from.read_buf(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(_) if out.data_bytes(chunk).await.is_err() => return,
            Ok(_) => {}
        }
    }
    let _ = out.eof().await;
}

async fn receive(mut to: OwnedWriteHalf, mut outlet: Outlet) {
    while let Some(data) = outlet.next().await {
        if to.write_all(&data).await.is_err() {
            return;
        }
        outlet.consumed(data.len());
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_looked_up() {
        assert_eq!(addresses("Localhost", 1).len(), 2);
        assert_eq!(addresses("::1", 80), ["[::1]:80".parse().unwrap()]);
        assert!(addresses("host.example", 80).is_empty());
    }
}
