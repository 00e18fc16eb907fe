//! DHCPv4 (RFC 2131, RFC 2132): [`packet`] is the format, [`message`] the checked form of what goes over the wire,
//! [`client`] asks, renews and never gives up.

pub mod client;
pub mod message;
pub mod options;
mod packet;
