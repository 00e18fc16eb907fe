//! Networks for tests: namespaces with a device, servers and a cable between them. Needs root.
#![allow(dead_code, reason = "each test program takes what it needs")]

pub(crate) mod cable;
pub(crate) mod evil;
pub(crate) mod servers;
pub(crate) mod site;
