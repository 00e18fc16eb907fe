//! Stages 3 and 4: PID 1. Receives the kernel command line, `/etc/lifeboat.toml` and the server's files;
//! hands over a mounted root and an exec, or a rescue that never ends by itself.
//!
//! Without features this crate is the *contract*: plain types that the image builder and the boot server share
//! with the device. The feature `pid1` adds the machinery, which nothing but the `init` binary uses.

pub mod answer;
pub mod cgroups;
pub mod cmdline;
pub mod config;
pub mod control;
pub mod event;
pub mod explain;
pub mod host_key;
pub mod ip;
pub mod links;
pub mod manifest;
pub mod network;
pub mod plan;
mod root;
pub mod size;
pub mod status;
pub mod steps;
pub mod watchdog;

#[cfg(feature = "pid1")]
pub mod pid1;
