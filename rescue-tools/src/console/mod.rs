//! A shell on the console, for who has a cable or a keyboard and no network. `lifeboat.console=` on the kernel command
//! line says who gets one; [`keeper`] stays on each terminal, [`challenge`] asks for an SSH key, [`shell`] runs and is
//! waited for.
//!
//! The boot does not wait for any of it, and nothing here asks for an answer: what nobody sees does no harm. The service is a child of PID 1 like the SSH
//! server: should it die, it is started again, and its shells with it are hung up.

pub mod challenge;
pub mod keeper;
pub mod shell;
pub mod terminal;
