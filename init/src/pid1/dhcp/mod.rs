//! DHCPv4 (RFC 2131, RFC 2132): [`message`] is the checked form of what goes over the wire, [`client`] asks, renews and
//! never gives up.

pub mod chance;
pub mod client;
pub mod message;
pub mod options;
