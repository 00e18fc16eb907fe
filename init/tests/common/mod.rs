//! Networks for tests: namespaces with a device, servers and a cable between them. Needs root.
#![allow(dead_code, reason = "each test program takes what it needs")]

pub mod cable;
pub mod evil;
pub mod servers;
pub mod site;
