//! Mounting: to look without changing anything, by hand, and taking it away again.

pub mod attach;
pub mod detach;
pub mod fstab;
pub mod private;
pub mod table;
