//! The listening sockets. They need no network: an address that is not there yet will reach them when it comes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};

use super::settings::DEFAULT_LISTEN;

/// How many connections the kernel holds ready for us.
const BACKLOG: i32 = 64;

/// Listens on `addresses`, or on port 22 of every address of the machine where none is given.
pub fn open(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    if addresses.is_empty() {
        return Ok(vec![open_any(DEFAULT_LISTEN)?]);
    }
    addresses.iter().map(|address| open_any(*address)).collect()
}

/// Listens on `address`; `[::]` becomes `0.0.0.0` on a kernel without IPv6.
fn open_any(address: SocketAddr) -> Result<TcpListener> {
    let opened = match open_one(address) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
            if address.ip().is_unspecified() && address.is_ipv6() =>
        {
            open_one((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        opened => opened,
    };
    opened.with_context(|| format!("listening on {address}"))
}

fn open_one(address: SocketAddr) -> Result<TcpListener, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Not left to net.ipv6.bindv6only: `[::]` is to take IPv4 as well.
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn one_socket_takes_both_families() {
        let sockets = open(&["[::]:0".parse().unwrap()]).unwrap();
        let port = sockets[0].local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn an_address_in_use_is_named() {
        let first = open(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = first[0].local_addr().unwrap();
        let error = format!("{:#}", open(&[address]).unwrap_err());
        assert!(error.contains(&address.to_string()) && error.contains("in use"), "{error}");
    }
}
