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
pub mod disk_file;
pub mod event;
pub mod explain;
pub mod host_key;
pub mod identity;
pub mod install;
pub mod ip;
pub mod kernel_log;
pub mod layers;
pub mod links;
pub mod mac;
pub mod manifest;
pub mod neighbours;
pub mod network;
pub mod plan;
mod root;
pub mod server_plan;
pub mod signed;
pub mod size;
pub mod state;
pub mod status;
pub mod steps;
pub mod transport;
pub mod watchdog;
pub mod zram;

#[cfg(feature = "pid1")]
pub mod pid1;
