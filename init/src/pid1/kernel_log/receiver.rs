//! Finds who receives syslog: an address as it is, a name by the name servers that there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::kernel_log::Receiver;
use crate::pid1::mdns::message::{A, AAAA, Message, Name, Question};
use crate::status::NetworkStatus;

/// A name server has so long to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Recursion is desired: in the third byte of a question (RFC 1035 section 4.1.1).
const RECURSE: u8 = 1;

/// Its address.
///
/// # Errors
/// When no name server knows the name, now.
pub(super) fn find(receiver: &Receiver, network: &NetworkStatus) -> Result<SocketAddr> {
    if let Ok(address) = receiver.host.parse::<IpAddr>() {
        return Ok((address, receiver.port).into());
    }
    for server in network.nameservers.iter().filter_map(|server| server.parse::<IpAddr>().ok()) {
        for kind in [A, AAAA] {
            // Another server, or the other family, may know.
            if let Ok(Some(address)) = ask(server, &receiver.host, kind) {
                return Ok((address, receiver.port).into());
            }
        }
    }
    bail!("no name server knows {}", receiver.host)
}

fn ask(server: IpAddr, host: &str, kind: u16) -> Result<Option<IpAddr>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).context("opening a socket")?;
    socket.connect((server, 53)).and_then(|()| socket.set_read_timeout(Some(PATIENCE)))?;
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::INSECURE)?;
    let name = Name::new(&host.trim_end_matches('.').split('.').collect::<Vec<_>>());
    let question = Question { name, kind, unicast: false };
    let query =
        Message { id: u16::from_ne_bytes(id), questions: vec![question.clone()], ..Message::default() };
    let mut packet = query.encode();
    if let Some(flags) = packet.get_mut(2) {
        *flags |= RECURSE;
    }
    socket.send(&packet).context("asking a name server")?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).context("waiting for a name server")?;
    let answer = buffer.get(..length).and_then(Message::parse);
    let answer =
        answer.filter(|answer| answer.response && answer.id == query.id && answer.questions == [question]);
    // An alias comes before what it stands for: the first address is the one.
    let records = answer.into_iter().flat_map(|answer| answer.answers).filter(|record| record.kind == kind);
    Ok(records.filter_map(|record| address(&record.data)).next())
}

fn address(data: &[u8]) -> Option<IpAddr> {
    match data.len() {
        4 => Some(<[u8; 4]>::try_from(data).ok()?.into()),
        _ => Some(<[u8; 16]>::try_from(data).ok()?.into()),
    }
}
