//! What people install: the package, the playbook, the bare program; on a Debian with systemd and sshd in systemd-nspawn. Needs
//! root and what `.ci/site` makes.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod eeprom;
mod empty_root;
mod machine;
mod package;
mod playbook;
