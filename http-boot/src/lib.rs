//! Stage 2: the boot server. Receives the files that the image builder made; hands to each Pi what its bootloader, and
//! later its init, ask for, and to people what the Pis reported.
//!
//! [`server`] owns the order in which sockets open and close; [`http`] answers requests; [`dhcp`] tells bootloaders where to
//! ask; [`devices`] remembers events.

pub mod devices;
pub mod dhcp;
pub mod http;
pub mod log;
pub mod server;
