//! The running kernel's modules for an OS that has none for it: seen in its `/lib/modules`, with nothing written to its disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

/// Ours.
const OURS: &str = "/usr/lib/modules";

/// Lays our modules over the OS's folder, read-only, so that it sees both. `false`: it has its own for this kernel, or no
/// place for any.
///
/// # Errors
/// When the kernel refuses the mount.
pub fn offer(root: &Path) -> Result<bool> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let Some(theirs) = folder(root) else { return Ok(false) };
    if theirs.join(&release).join("modules.dep").exists() || !Path::new(OURS).join(&release).exists() {
        return Ok(false);
    }
    // Colons and commas would end the option; a root has neither in these paths.
    let layers = format!("lowerdir={OURS}:{}", theirs.display());
    mount(Some("overlay"), &theirs, Some("overlay"), MsFlags::MS_RDONLY, Some(layers.as_str()))
        .with_context(|| format!("mounting overlay on {} ({layers})", theirs.display()))?;
    Ok(true)
}

/// `/lib` is a link to `usr/lib` where `/usr` is merged; one that is absolute leads out of the root from here.
fn folder(root: &Path) -> Option<PathBuf> {
    let merged = root.join("lib").is_symlink();
    let folder = root.join(if merged { "usr/lib/modules" } else { "lib/modules" });
    let real = folder.canonicalize().ok()?;
    (real.is_dir() && real.starts_with(root)).then_some(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_in_the_root_or_there_is_none() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        assert_eq!(folder(&root), None);
        std::fs::create_dir_all(root.join("usr/lib/modules")).unwrap();
        std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();
        assert_eq!(folder(&root), Some(root.join("usr/lib/modules")));
        std::fs::remove_dir(root.join("usr/lib/modules")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("usr/lib/modules")).unwrap();
        assert_eq!(folder(&root), None, "it leads out");
    }
}
