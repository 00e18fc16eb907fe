//! The SSH server. A listener, which does little and so has little to fail, starts a process for each connection: a
//! panic, a kill or the OOM killer in one connection ends that one alone, and the listener may be restarted below the
//! people who are logged in.
//!
//! The way of a connection: [`sockets`] → [`listener`] (is there room? [`admission`]) → [`session`], the process →
//! [`connection`], who may log in ([`authorized_keys`]; each line's [`key_options`]; [`certificate`]s) and what they ask
//! for, as far as their [`permissions`] go → [`program`] on pipes or a [`terminal`], fed by [`intake`], or a
//! [`forward`]ed port.

pub mod address_list;
pub mod admission;
pub mod authorized_keys;
pub mod certificate;
pub mod connection;
pub mod forward;
pub mod host_key;
pub mod host_key_disk;
pub mod intake;
pub mod key_options;
pub mod key_strength;
pub mod listener;
pub mod login;
pub mod modes;
pub(crate) mod oom;
pub mod otp;
pub mod permissions;
pub mod priority;
pub mod program;
pub mod protocol;
pub mod rate;
pub mod russh_log;
pub mod session;
pub mod sessions;
pub mod settings;
pub mod sockets;
pub mod terminal;
