//! DHCP for Raspberry Pis' bootloaders: beside a site's own server ([`proxy`]), only to say where the boot files are, or as a
//! whole server ([`full`]).
//!
//! [`settings`] is what an operator asks for. [`server`] reads [`message`]s from its [`sockets`], asks [`pi`] who sent them,
//! and sends [`answer`]s. What decides is pure: a message goes in, an answer comes out. [`pool`] chooses addresses, which
//! [`leases`] keeps in a [`lease_file`]; [`probe`] looks whether one is free. What is seen goes out as [`sighting`]s, what is
//! wrong as [`findings`], of which [`watch`] finds most.

pub mod answer;
pub mod boot_options;
pub mod datagram;
pub mod findings;
pub mod flags;
pub mod full;
pub mod interface;
pub mod lease_file;
pub mod leases;
pub mod message;
pub mod pace;
pub mod pi;
pub mod pool;
pub mod probe;
pub mod proxy;
pub mod recent;
pub mod reload;
pub mod server;
pub mod settings;
pub mod sighting;
pub mod sockets;
pub mod subnet;
#[cfg(test)]
mod test_pi;
pub mod watch;
