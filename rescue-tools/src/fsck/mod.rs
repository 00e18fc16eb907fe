//! Checking and repairing file systems: a look that changes nothing, then a repair that a person wanted, then a look
//! again, whose answer is the result. One file for each family of file systems.

pub mod btrfs;
pub mod check;
pub mod exfat;
pub mod ext;
pub mod f2fs;
pub mod look;
pub mod report;
pub mod subject;
pub mod vfat;
pub mod words;
pub mod xfs;
