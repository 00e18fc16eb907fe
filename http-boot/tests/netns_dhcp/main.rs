//! Our DHCP server and real ones, real clients and a Pi's bootloader on one switch. Needs root.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod bootloader;
mod clients;
mod doctor;
mod fleet;
mod full;
mod proxy;
mod site;
mod wire;
