//! What an earlier crash left (Documentation/admin-guide/pstore-blk.rst, ramoops.rst): files in `/sys/fs/pstore`, where
//! the machine has a place that outlives a reset, and somebody has mounted it.

use std::path::Path;

/// A sentence on what is there; none where there is nothing, or no place for it.
pub fn hint(sys: &Path) -> Option<String> {
    let folder = sys.join("fs/pstore");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    if !names.is_empty() {
        return Some(format!("an earlier crash left its last words: {} in /sys/fs/pstore", names.join(", ")));
    }
    // It says `(null)` where no driver keeps anything.
    let backend = std::fs::read_to_string(sys.join("module/pstore/parameters/backend")).ok()?;
    let backend = backend.trim();
    let mounted =
        std::fs::read_to_string("/proc/self/mounts").unwrap_or_default().contains(" /sys/fs/pstore ");
    let keeps = !backend.is_empty() && backend != "(null)" && !mounted;
    keeps.then(|| {
        format!(
            "the driver {backend} may have kept an earlier crash's last words: `mount -t pstore pstore /sys/fs/pstore` \
             shows them"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_is_named() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(hint(sys.path()), None);
        let module = sys.path().join("module/pstore/parameters");
        std::fs::create_dir_all(&module).unwrap();
        std::fs::write(module.join("backend"), "(null)\n").unwrap();
        assert_eq!(hint(sys.path()), None);
        std::fs::write(module.join("backend"), "ramoops\n").unwrap();
        assert!(hint(sys.path()).unwrap().contains("mount -t pstore"));
        std::fs::create_dir_all(sys.path().join("fs/pstore")).unwrap();
        std::fs::write(sys.path().join("fs/pstore/dmesg-ramoops-0"), "Panic#1").unwrap();
        assert!(hint(sys.path()).unwrap().contains("dmesg-ramoops-0"));
    }
}
