//! DHCPv4 (RFC 2131, RFC 2132): [`packet`] is the format, [`message`] the checked form of what goes over the wire,
//! [`identifier`] who we are to a server; [`client`] asks, chooses among [`offers`], renews and never gives up; [`wire`] is
//! its way to the network and [`arp`] its look whether an address is free.

mod arp;
pub mod chance;
pub mod client;
pub mod identifier;
pub mod interface_name;
pub mod message;
mod offers;
pub mod options;
mod packet;
#[cfg(test)]
mod simulation;
pub mod wire;
