//! Stage 5: `rescue`, what a human uses on the device. Receives a running init and its files in `/run/lifeboat`;
//! hands over a repaired, unlocked or rewritten disk.
//!
//! One file for each verb in [`verbs`]; the SSH server behind `rescue sshd` is [`sshd`], what `rescue status` knows is
//! [`status`].

pub mod boot;
pub mod confirm;
pub mod console;
pub mod disk;
pub mod ending;
pub mod fsck;
pub mod hangup;
pub mod hold;
pub mod image;
pub mod kernel_log;
pub mod log;
pub mod memory;
pub mod mount;
pub mod people;
pub mod progress;
pub mod refusal;
pub mod replace_file;
pub mod run_dir;
pub mod save;
pub mod session_group;
pub mod sshd;
pub mod state_file;
pub mod status;
pub mod tool;
pub mod unlock;
pub mod verbs;
pub mod watch;
