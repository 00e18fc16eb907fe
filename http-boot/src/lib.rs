//! Stage 2: the boot server. Receives the files that the image builder made; hands to each Pi what its bootloader, and
//! later its init, ask for, and to people what the Pis reported.
//!
//! [`server`] owns the order in which sockets open and close; [`http`] answers requests; [`devices`] remembers events;
//! with `--state`, [`store`] keeps them, [`people`] may log in, [`web`] is the page, [`api`] the same for programs, and
//! [`orders`] what people decided.

pub mod api;
pub mod devices;
pub mod http;
pub mod images;
pub mod live;
pub mod log;
pub mod metrics;
pub mod order_request;
pub mod orders;
pub mod people;
pub mod server;
pub mod state;
pub mod store;
pub mod web;
