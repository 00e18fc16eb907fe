//! What `rescue status` knows: the files that the boot leaves, with what the kernel says.

pub mod disks;
pub mod gather;
pub mod text;
