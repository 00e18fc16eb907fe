//! The kernel's log, which is also that of PID 1, its children and the SSH server: [`record`] is one message of it,
//! [`reader`] brings them from `/dev/kmsg`, [`text`] shows them to people, and [`pstore`] tells of those that an earlier
//! crash left.

pub mod pstore;
pub mod reader;
pub mod record;
pub mod text;
