//! Going on into the OS on a disk: [`root`] finds it, [`prepare`] checks and mounts it where PID 1 takes it from, and
//! [`crypttab`] gives opened devices the names that the OS knows.

pub mod crypttab;
pub mod modules;
pub mod prepare;
pub mod root;
