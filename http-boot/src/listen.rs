//! Where to listen: addresses as the command line has them, and the sockets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;

use crate::tftp;

/// The port where `--listen` names none.
pub const DEFAULT_PORT: u16 = 8080;
/// The port where `--listen-tls` names none.
pub const DEFAULT_TLS_PORT: u16 = 8443;

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

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

/// Listens.
///
/// # Errors
/// In words that say what to do.
pub async fn listen(ListenAddress(address): ListenAddress) -> Result<TcpListener> {
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
