//! A tree as text, one line for each file: equal trees have equal lines.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Folders whose content stays out of an image.
const RUNTIME: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// All that must survive of everything under `root`, by path; the top folder's path is empty.
pub(crate) fn of(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut lines = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let real = root.join(&path);
        let meta = real.symlink_metadata().unwrap();
        if meta.is_dir() && !RUNTIME.iter().any(|name| path == Path::new(name)) {
            left.extend(real.read_dir().unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        let content = match () {
            () if meta.is_file() => blake3::hash(&fs::read(&real).unwrap()).to_hex().to_string(),
            () if meta.is_symlink() => fs::read_link(&real).unwrap().display().to_string(),
            () => String::new(),
        };
        let mut attributes: Vec<_> = xattr::list(&real).unwrap().collect();
        attributes.sort();
        let attributes: Vec<_> =
            attributes.into_iter().map(|name| (xattr::get(&real, &name).unwrap(), name)).collect();
        // A folder's size and links are its file system's affair.
        let (size, links) = if meta.is_dir() { (0, 0) } else { (meta.size(), meta.nlink()) };
        let (mode, uid, gid, mtime, rdev) = (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.rdev());
        let line = format!("{mode:o} {uid}:{gid} {mtime} {size} {links} {rdev} {content} {attributes:?}");
        lines.insert(path, line);
    }
    lines
}

/// The lines in which two trees differ, without those of `expected` paths.
pub(crate) fn difference(one: &Path, other: &Path, expected: &[&str]) -> Vec<String> {
    let (one, other) = (of(one), of(other));
    let paths: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    paths
        .into_iter()
        .filter(|path| {
            one.get(*path) != other.get(*path) && !expected.iter().any(|it| *path == Path::new(it))
        })
        .map(|path| format!("{path:?}\n  {:?}\n  {:?}", one.get(path), other.get(path)))
        .collect()
}
