//! DHCP for Raspberry Pis' bootloaders: beside a site's own server ([`proxy`]), which only says where the boot files are, or
//! as a whole server.
//!
//! [`settings`] is what an operator asks for. [`server`] reads [`message`]s from its [`sockets`], asks [`pi`] who sent them,
//! and sends [`answer`]s. What decides ([`proxy`]) is pure: a message goes in, an answer comes out.

pub mod answer;
pub mod boot_options;
pub mod datagram;
pub mod flags;
pub mod interface;
pub mod mac;
pub mod message;
pub mod pace;
pub mod pi;
pub mod proxy;
pub mod recent;
pub mod server;
pub mod settings;
pub mod sighting;
pub mod sockets;
pub mod subnet;
#[cfg(test)]
mod test_pi;
