//! What the boot's steps do, one file each. Their order is in [`super::boot`].

pub mod budget;
pub mod console;
pub mod fetch;
pub mod filesystems;
pub mod hand_over;
pub mod install;
pub mod manifest;
pub mod modules;
pub mod mount;
pub mod network;
pub mod overlay;
pub mod plan;
pub mod rescue;
pub mod root;
pub mod state;
pub mod unlock;
pub mod usr;
pub mod zram;
