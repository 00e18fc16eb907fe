//! DHCPv6 (RFC 8415): [`question`] is what we send, [`answer`] the checked form of what comes back, [`options`] reads what
//! both are made of, [`client`] asks, renews and never gives up, in the rhythm of [`retransmission`], over a [`wire`].

pub mod address;
pub mod answer;
pub mod client;
pub mod options;
pub mod question;
pub mod retransmission;
#[cfg(test)]
mod simulation;
pub mod wire;
