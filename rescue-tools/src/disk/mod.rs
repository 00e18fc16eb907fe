//! Block devices: what there is, and the claim that everything needs which changes one.
//!
//! Looking never writes: nothing here assembles, activates, mounts or replays.

pub mod filesystem;
pub mod health;
pub mod inventory;
pub mod kernel_errors;
pub mod lsblk;
pub mod overview;
pub mod page;
pub mod probe;
pub mod system;
pub mod target;
pub mod traces;
pub mod usage;
pub mod volumes;
