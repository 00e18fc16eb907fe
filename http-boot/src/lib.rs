//! Stage 2: the boot server. Receives the files that the image builder made; hands to each Pi what its bootloader, and
//! later its init, ask for, and to people what the Pis reported.
//!
//! [`server`] owns the order in which sockets open and close; [`http`] answers requests; [`fleet`] is what each
//! Pi shall do; [`devices`] remembers events.

pub mod authority;
pub mod devices;
pub mod fleet;
pub mod http;
pub mod log;
pub mod server;
pub mod tls;
