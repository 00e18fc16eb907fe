//! Stage 2: the boot server. Receives the files that the image builder made; hands to each Pi what its bootloader, and
//! later its init, ask for, and to people what the Pis reported.
//!
//! [`server`] owns the order in which sockets open and close; [`dhcp`] tells bootloaders where to ask; [`http`] and [`tftp`]
//! answer them, the latter with what [`boot_tree`] finds for who asks; [`fleet`] is what each Pi shall do; [`devices`] remembers
//! events, and [`clients`] who has which address. With `--state`, [`store`] keeps what was seen, [`people`] may log in, [`web`] is
//! the page, [`api`] the same for programs, and [`orders`] what people decided.

pub mod api;
pub mod authority;
pub mod boot_tree;
pub mod bootloader;
pub mod clients;
pub mod connections;
pub mod devices;
pub mod dhcp;
pub mod doctor;
pub mod fleet;
pub mod http;
pub mod images;
pub mod listen;
pub mod live;
pub mod log;
pub mod metrics;
pub mod order_request;
pub mod orders;
pub mod people;
pub mod pi;
pub mod seats;
pub mod server;
pub mod state;
pub mod store;
pub mod tftp;
pub mod tls;
pub mod web;
