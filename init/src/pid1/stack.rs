//! The images of a boot into RAM, the lowest first: where each lies, and where it is mounted. The one of `root=live:` has
//! the number 0, those of `lifeboat.layer=` follow.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};

use super::mounts;

/// The folder that the images' own tmpfs is mounted on.
pub const IMAGE_DIR: &str = "/run/lifeboat/image";
/// Where the lowest squashfs is mounted.
const LOWER: &str = "/run/lifeboat/lower";
/// Where those above it are.
const LAYERS_DIR: &str = "/run/lifeboat/layers";

/// The file of the `n`th image.
pub fn image_path(n: usize) -> PathBuf {
    let name = if n == 0 { "root.squashfs".into() } else { format!("layer-{n}.squashfs") };
    Path::new(IMAGE_DIR).join(name)
}

/// Where the `n`th image is mounted.
pub fn mount_path(n: usize) -> PathBuf {
    if n == 0 { LOWER.into() } else { Path::new(LAYERS_DIR).join(n.to_string()) }
}

/// overlayfs' `lowerdir=` of so many images: the topmost comes first (Documentation/filesystems/overlayfs.rst).
pub fn lowerdir(count: usize) -> String {
    let paths = (0..count).rev().map(|n| mount_path(n).to_string_lossy().into_owned());
    paths.collect::<Vec<_>>().join(":")
}

/// Takes away the files that are none of the first `count` images: an earlier plan of this boot had more.
///
/// # Errors
/// When one is there and cannot be removed: its bytes would be missing in the budget.
pub fn discard_others(count: usize) -> Result<()> {
    let kept: Vec<PathBuf> = (0..count).map(image_path).collect();
    let files = std::fs::read_dir(IMAGE_DIR).into_iter().flatten().flatten().map(|entry| entry.path());
    for file in files.filter(|file| !kept.contains(file)) {
        std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    }
    Ok(())
}

/// Unmounts what an earlier try has stacked on `root`, and its images, the topmost first.
///
/// # Errors
/// When the kernel refuses.
pub fn unmount(root: &str) -> Result<()> {
    let layers = std::fs::read_dir(LAYERS_DIR).into_iter().flatten().flatten().map(|entry| entry.path());
    let stale = [PathBuf::from(root)].into_iter().chain(layers).chain([PathBuf::from(LOWER)]);
    for stale in stale {
        while mounts::is_mounted(&stale) {
            umount2(&stale, MntFlags::MNT_DETACH)
                .with_context(|| format!("unmounting {}", stale.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_layer_lies_on_top() {
        assert_eq!(lowerdir(1), "/run/lifeboat/lower");
        assert_eq!(lowerdir(3), "/run/lifeboat/layers/2:/run/lifeboat/layers/1:/run/lifeboat/lower");
        assert_eq!(image_path(0), Path::new("/run/lifeboat/image/root.squashfs"));
        assert_eq!(image_path(2), Path::new("/run/lifeboat/image/layer-2.squashfs"));
    }
}
