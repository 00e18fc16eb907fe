//! Mounting: to look without changing anything, by hand, and taking it away again.

pub mod attach;
pub mod detach;
pub mod disk_file;
pub mod fstab;
pub mod inside;
pub mod private;
pub mod record;
pub mod table;
