//! Step `overlay`: a writable layer in RAM over the images, and what the OS gets from us: the running kernel's modules, a
//! resolv.conf and a machine ID, where it has none of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sys_mount::MountFlags;

use super::mount::ROOT;
use crate::pid1::boot::Boot;
use crate::pid1::{machine_id, mounts, stack};

const OVERLAY_DIR: &str = "/run/lifeboat/overlay";

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let layer = Path::new(OVERLAY_DIR);
    std::fs::create_dir_all(layer).with_context(|| format!("making {OVERLAY_DIR}"))?;
    if !mounts::is_mounted(layer) {
        let options = format!("mode=0755,size={}", boot.overlay_bytes);
        mounts::mount("tmpfs", layer, "tmpfs", MountFlags::empty(), &options)?;
    }
    // An earlier try's layer may hold anything.
    for folder in ["upper", "work"] {
        let folder = layer.join(folder);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
        }
        std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
    }
    std::fs::create_dir_all(ROOT).with_context(|| format!("making {ROOT}"))?;
    let lower = stack::lowerdir(boot.images()?.len());
    let options = format!("lowerdir={lower},upperdir={OVERLAY_DIR}/upper,workdir={OVERLAY_DIR}/work");
    mounts::mount("overlay", Path::new(ROOT), "overlay", MountFlags::empty(), &options)?;
    offer_modules(&boot.machine.kernel)?;
    if let Some(id) = machine_id::find(boot.plan.identity.machine_id, Path::new("/")) {
        machine_id::offer(Path::new(ROOT), id)?;
    }
    offer_resolv_conf(Path::new(ROOT), Path::new("/etc/resolv.conf"))
}

/// The OS sees our modules where it has none for this kernel. They are bind mounted: no copy.
fn offer_modules(release: &str) -> Result<()> {
    let ours = PathBuf::from("/lib/modules").join(release);
    let theirs = modules_dir(Path::new(ROOT)).join(release);
    if theirs.join("modules.dep").exists() || !ours.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&theirs).with_context(|| format!("making {}", theirs.display()))?;
    mounts::mount(&ours.to_string_lossy(), &theirs, "none", MountFlags::BIND, "")?;
    tracing::info!("the OS has no modules for kernel {release}: it gets those of this image");
    Ok(())
}

/// `/lib` is a link to `usr/lib` where `/usr` is merged; a link that is absolute leads out of the root from here.
fn modules_dir(root: &Path) -> PathBuf {
    let merged = root.join("lib").is_symlink();
    root.join(if merged { "usr/lib/modules" } else { "lib/modules" })
}

/// An OS with a resolver of its own has a link there, or a file with something in it.
fn offer_resolv_conf(root: &Path, ours: &Path) -> Result<()> {
    let theirs = root.join("etc/resolv.conf");
    let empty = match std::fs::symlink_metadata(&theirs) {
        Ok(data) => data.is_file() && data.len() == 0,
        Err(_) => true,
    };
    if empty && root.join("etc").is_dir() && ours.exists() {
        std::fs::copy(ours, &theirs).with_context(|| format!("writing {}", theirs.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_resolv_conf_is_filled() {
        let root = tempfile::tempdir().unwrap();
        let ours = root.path().join("ours");
        std::fs::write(&ours, "nameserver 192.0.2.1\n").unwrap();
        offer_resolv_conf(root.path(), &ours).unwrap();
        assert!(!root.path().join("etc").exists(), "nothing is made where there is no /etc");
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let theirs = root.path().join("etc/resolv.conf");
        offer_resolv_conf(root.path(), &ours).unwrap();
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "nameserver 192.0.2.1\n");
        std::fs::write(&theirs, "nameserver 192.0.2.2\n").unwrap();
        offer_resolv_conf(root.path(), &ours).unwrap();
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "nameserver 192.0.2.2\n");
        std::fs::remove_file(&theirs).unwrap();
        std::os::unix::fs::symlink("../run/systemd/resolve/stub-resolv.conf", &theirs).unwrap();
        offer_resolv_conf(root.path(), &ours).unwrap();
        assert!(theirs.is_symlink());
    }

    #[test]
    fn modules_are_where_the_os_looks() {
        let root = tempfile::tempdir().unwrap();
        assert!(modules_dir(root.path()).ends_with("lib/modules"));
        std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
        assert!(modules_dir(root.path()).ends_with("usr/lib/modules"));
    }
}
