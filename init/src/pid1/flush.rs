//! `init flush`: takes addresses and routes away before a hand-over, where the command line says `lifeboat.flush`. PID 1 runs
//! it when nothing else runs any more. Without the word the OS finds them as they are, each with the time that is left of
//! its lease: it stays reachable until it sets the network up by itself.

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::route::{RouteHeader, RouteMessage, RouteProtocol};

use crate::cmdline::CommandLine;
use crate::plan::Plan;

/// Does what the command line says.
///
/// # Errors
/// When the kernel does not answer; the OS then finds what is left.
pub fn run(command_line: &str) -> Result<()> {
    if !Plan::parse(&CommandLine::parse(command_line)).identity.flush {
        return Ok(());
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("making a runtime")?;
    runtime.block_on(flush())
}

async fn flush() -> Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection().context("opening an rtnetlink socket")?;
    tokio::spawn(connection);
    // Routes first: those by IPv6 outlive their addresses.
    for request in [
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    ] {
        let routes: Vec<RouteMessage> =
            handle.route().get(request).execute().try_collect().await.context("listing the routes")?;
        for route in routes.into_iter().filter(is_ours) {
            // It may be gone with another.
            let _ = handle.route().del(route).execute().await;
        }
    }
    let addresses = handle.address().get().execute();
    let addresses: Vec<_> = addresses.try_collect().await.context("listing the addresses")?;
    let mut count = 0;
    // Link-local ones and the loopback's belong to the interface, not to a network.
    for address in addresses.into_iter().filter(|address| address.header.scope == AddressScope::Universe) {
        match handle.address().del(address).execute().await {
            Ok(()) => count += 1,
            Err(error) => tracing::warn!("removing an address: {error}"),
        }
    }
    tracing::info!("hand-over: {count} addresses and their routes are taken away (lifeboat.flush)");
    Ok(())
}

/// What we added, and what a router announced; what the kernel has for each address goes with it.
fn is_ours(route: &RouteMessage) -> bool {
    route.header.table == RouteHeader::RT_TABLE_MAIN
        && !matches!(route.header.protocol, RouteProtocol::Kernel)
}
