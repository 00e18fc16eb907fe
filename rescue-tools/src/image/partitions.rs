//! The kernel's view of a disk's partitions.

use std::fs::File;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, ioctl};

/// `BLKRRPART`, `_IO(0x12, 95)` (linux/fs.h).
const BLKRRPART: Opcode = 0x125f;

/// Has the kernel read the partition table of `disk` again: its partitions are there when this returns. The caller has the
/// disk to himself: while it is claimed, nobody else's request is taken.
pub fn reread(disk: &File) -> Result<()> {
    // SAFETY: BLKRRPART takes no argument and touches no memory of ours.
    #[allow(unsafe_code, reason = "rustix has no function for it")]
    let read = unsafe { ioctl(disk, NoArg::<BLKRRPART>::new()) };
    match read {
        // A loop device without partitions, and the like.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(error).context("having the kernel read the new partition table"),
    }
}
