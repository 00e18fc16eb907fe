//! The file systems that are repaired and mounted here.

use std::fmt;

/// A kind of file system, by blkid's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// ext2, which has no journal.
    Ext2,
    /// ext3.
    Ext3,
    /// ext4.
    Ext4,
    /// FAT12, FAT16, FAT32.
    Vfat,
    /// exFAT.
    Exfat,
    /// btrfs.
    Btrfs,
    /// XFS.
    Xfs,
    /// F2FS.
    F2fs,
}

/// All of them.
pub const FILE_SYSTEMS: [FileSystem; 8] = [
    FileSystem::Ext2,
    FileSystem::Ext3,
    FileSystem::Ext4,
    FileSystem::Vfat,
    FileSystem::Exfat,
    FileSystem::Btrfs,
    FileSystem::Xfs,
    FileSystem::F2fs,
];

impl FileSystem {
    /// By blkid's name (the kernel's and fstab's as well).
    pub fn from_name(name: &str) -> Option<Self> {
        FILE_SYSTEMS.into_iter().find(|system| system.name() == name)
    }

    /// blkid's name.
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext2 => "ext2",
            FileSystem::Ext3 => "ext3",
            FileSystem::Ext4 => "ext4",
            FileSystem::Vfat => "vfat",
            FileSystem::Exfat => "exfat",
            FileSystem::Btrfs => "btrfs",
            FileSystem::Xfs => "xfs",
            FileSystem::F2fs => "f2fs",
        }
    }

    /// ext2, ext3 or ext4.
    pub fn is_ext(self) -> bool {
        matches!(self, FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4)
    }

    /// The mount options, beside `ro`, without which the kernel would write to look: it plays a journal back even for a
    /// read-only mount (Documentation/filesystems and ext4(5), xfs(5), btrfs(5)).
    pub fn options_without_replay(self) -> &'static str {
        match self {
            FileSystem::Ext3 | FileSystem::Ext4 => "noload",
            // A copy of a disk beside the disk has the same UUID.
            FileSystem::Xfs => "norecovery,nouuid",
            FileSystem::Btrfs => "rescue=nologreplay",
            FileSystem::F2fs => "norecovery",
            FileSystem::Ext2 | FileSystem::Vfat | FileSystem::Exfat => "",
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
