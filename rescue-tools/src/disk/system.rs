//! Which device has a Linux on it: told by its os-release(5), read without changing anything.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Serialize;

use super::filesystem::FileSystem;
use super::inventory::Device;
use crate::mount::private::{Access, with_mounted};
use crate::tool::Tool;

/// Where it is, the vendor's first: `/etc/os-release` is a link to it.
const FILES: [&str; 2] = ["usr/lib/os-release", "etc/os-release"];
/// The subvolumes in which distributions put their root.
const SUBVOLUMES: [&str; 5] = ["@rootfs", "@", "root", "@root", "@/.snapshots/1/snapshot"];
/// Nobody's is larger.
const LIMIT: u64 = 64 << 10;

/// A Linux on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct System {
    /// `PRETTY_NAME`.
    pub name: String,
    /// The btrfs subvolume that has it, where it is not the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subvolume: Option<String>,
}

/// The Linux on `device`: ext2, ext3 and ext4 are read by debugfs, without the kernel; the others are mounted, read-only
/// and without playing a journal back, where nobody sees it. A device that is mounted already is read there.
pub fn find(device: &Device) -> Option<System> {
    let system = FileSystem::from_name(device.content_kind()?)?;
    if let Some(at) = device.mounts.first() {
        return in_folder(at);
    }
    if device.swap || device.holders().next().is_some() {
        return None;
    }
    match system {
        FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => by_debugfs(&device.path),
        FileSystem::Btrfs | FileSystem::Xfs | FileSystem::F2fs => {
            with_mounted(&device.path, system, Access::Look, in_folder).ok().flatten()
        }
        FileSystem::Vfat | FileSystem::Exfat => None,
    }
}

fn by_debugfs(device: &Path) -> Option<System> {
    FILES.iter().find_map(|file| {
        // Without -w it opens the device for reading, and never plays a journal back.
        let output =
            Tool::new("debugfs").ok()?.args(["-R", &format!("cat /{file}")]).arg(device).output().ok()?;
        let name = pretty_name(&String::from_utf8_lossy(&output.stdout))?;
        Some(System { name, subvolume: None })
    })
}

/// The Linux in a mounted file system, or in one of its subvolumes.
pub fn in_folder(root: &Path) -> Option<System> {
    let direct = FILES.iter().find_map(|file| read(root, Path::new(file)));
    if let Some(name) = direct {
        return Some(System { name, subvolume: None });
    }
    SUBVOLUMES.iter().find_map(|subvolume| {
        let name = FILES.iter().find_map(|file| read(&root.join(subvolume), Path::new(file)))?;
        Some(System { name, subvolume: Some((*subvolume).into()) })
    })
}

/// Links in a disk's own tree mean that tree, not ours.
fn read(root: &Path, file: &Path) -> Option<String> {
    let folder = File::open(root).ok()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(folder, file, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let mut text = Vec::new();
    File::from(file).take(LIMIT).read_to_end(&mut text).ok()?;
    pretty_name(&String::from_utf8_lossy(&text))
}

/// `PRETTY_NAME`, or else `NAME`, of an os-release.
pub fn pretty_name(text: &str) -> Option<String> {
    let value = |key: &str| {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
        let value = value.trim().trim_matches(['"', '\'']).replace(char::is_control, "?");
        Some(value).filter(|value| !value.is_empty())
    };
    value("PRETTY_NAME").or_else(|| value("NAME"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_with_and_without_quotes() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\n";
        assert_eq!(pretty_name(debian).unwrap(), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(pretty_name("NAME=Alpine\n").unwrap(), "Alpine");
        assert_eq!(pretty_name("PRETTY_NAME=\"\"\n"), None);
        assert_eq!(pretty_name("no release"), None);
    }

    #[test]
    fn links_are_those_of_the_disk() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("@rootfs/etc")).unwrap();
        std::fs::create_dir_all(root.path().join("@rootfs/opt")).unwrap();
        std::fs::write(root.path().join("@rootfs/opt/release"), "PRETTY_NAME='Mine'\n").unwrap();
        // Absolute, and out of the tree if one could.
        std::os::unix::fs::symlink("/../../opt/release", root.path().join("@rootfs/etc/os-release")).unwrap();
        let system = in_folder(root.path()).unwrap();
        assert_eq!((system.name.as_str(), system.subvolume.as_deref()), ("Mine", Some("@rootfs")));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,200}") {
            if let Some(name) = pretty_name(&text) {
                prop_assert!(!name.contains(char::is_control));
            }
        }
    }
}
