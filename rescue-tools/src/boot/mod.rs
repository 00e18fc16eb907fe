//! Going on into the OS on a disk: [`root`] finds it, [`prepare`] checks and mounts it, and [`crypttab`] gives opened devices
//! the names that the OS knows. PID 1 takes it from there, with [`modules`] beside the OS' own; or [`kernel`] finds the disk's
//! own kernel, and [`kexec`] loads it, with what [`keys`] puts into its initramfs.

pub mod crypttab;
pub mod kernel;
pub mod kexec;
pub mod keys;
pub mod modules;
pub mod prepare;
pub mod root;
