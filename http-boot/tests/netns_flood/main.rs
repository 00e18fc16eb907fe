//! Floods by one host, while others boot on. Needs root.
#![allow(
    missing_docs,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic, and takes what it needs of another's site"
)]

mod events;
mod flood;
#[path = "../netns_dhcp/site.rs"]
mod site;
mod slow;
#[path = "../netns_dhcp/wire.rs"]
mod wire;
