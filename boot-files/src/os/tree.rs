//! What an OS consists of, without its content: every path with owner, mode, time, links and attributes.

use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};

/// Folders at the top that are filled while an OS runs: they are kept, what is in them is not.
pub const RUNTIME_FOLDERS: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];
/// As many symbolic links in a row as Linux follows.
const SYMLINK_LIMIT: usize = 40;

/// The files of an OS in the order of their paths; a folder comes before what is in it.
#[derive(Debug, Default)]
pub struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
    left_out: BTreeMap<String, u64>,
}

/// A file of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The lowest twelve bits of the mode.
    pub mode: u16,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The time of the last change in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by their whole names, file capabilities (`security.capability`) among them.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
    /// What it is.
    pub kind: Kind,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A regular file.
    File {
        /// Its size in bytes, holes included.
        size: u64,
        /// Where its bytes are.
        content: Content,
    },
    /// Another name for the file at `of`, which is of any kind but a folder.
    HardLink {
        /// The first of the file's paths.
        of: PathBuf,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to, as it was written.
        target: PathBuf,
    },
    /// A device.
    Device {
        /// A block device; otherwise a character device.
        block: bool,
        /// Which driver.
        major: u32,
        /// Which of its devices.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Where a file's bytes are; what the numbers mean is the source's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the file at this path.
    Path(PathBuf),
    /// In an archive, from this byte on.
    Offset(u64),
    /// In an archive, with holes: the entry's header is at this byte.
    Sparse(u64),
    /// In the inode with this number.
    Inode(u32),
}

impl Tree {
    /// Adds an entry, or replaces the one at `path`. What lies in a runtime folder is dropped, and so are attributes
    /// that a squashfs cannot hold: [`Tree::left_out`] counts those.
    pub fn insert(&mut self, path: PathBuf, mut entry: Entry) {
        if is_runtime(&path) {
            return;
        }
        entry.xattrs.retain(|(name, _)| {
            let known = ["user.", "trusted.", "security."]
                .iter()
                .any(|it| name.as_encoded_bytes().starts_with(it.as_bytes()));
            if !known {
                *self.left_out.entry(name.to_string_lossy().into_owned()).or_default() += 1;
            }
            known
        });
        entry.xattrs.sort();
        self.entries.insert(path, entry);
    }

    /// Checks that the entries make a tree: adds folders that are implied, gives each set of hard links its first path
    /// in order as the file.
    ///
    /// # Errors
    /// If something lies under a path that is no folder, or a hard link has no target.
    pub fn complete(mut self) -> Result<Self> {
        let folder =
            Entry { mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new(), kind: Kind::Directory };
        let parents: BTreeSet<PathBuf> =
            self.entries.keys().flat_map(|path| path.ancestors().skip(1).map(Path::to_owned)).collect();
        for parent in parents {
            let entry = self.entries.entry(parent.clone()).or_insert_with(|| folder.clone());
            ensure!(
                entry.kind == Kind::Directory,
                "it has files under {:?}, which is no folder",
                parent.display()
            );
        }
        self.entries.entry(PathBuf::new()).or_insert(folder);
        self.order_hard_links()?;
        Ok(self)
    }

    fn order_hard_links(&mut self) -> Result<()> {
        let mut links: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        for (path, entry) in &self.entries {
            if let Kind::HardLink { of } = &entry.kind {
                links.entry(of.clone()).or_default().push(path.clone());
            }
        }
        for (target, mut names) in links {
            let file = match self.entries.get(&target) {
                Some(Entry { kind: Kind::Directory | Kind::HardLink { .. }, .. }) | None => {
                    let name = names.first().map(|name| name.display().to_string()).unwrap_or_default();
                    bail!("the hard link {name:?} points to {:?}, where there is no file", target.display());
                }
                Some(file) => file.clone(),
            };
            names.push(target);
            names.sort();
            let mut names = names.into_iter();
            let first = names.next().context("ordering hard links")?;
            for name in names {
                self.entries
                    .insert(name, Entry { kind: Kind::HardLink { of: first.clone() }, ..file.clone() });
            }
            self.entries.insert(first, file);
        }
        Ok(())
    }

    /// All entries in order; the root's path is empty.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sum of all files' sizes in bytes.
    pub fn bytes(&self) -> u64 {
        self.entries.values().fold(0, |sum, entry| match entry.kind {
            Kind::File { size, .. } => sum.saturating_add(size),
            _ => sum,
        })
    }

    /// The latest time of all entries, within what a squashfs can hold: the image's own time if none is given.
    pub fn latest(&self) -> u32 {
        self.entries.values().map(|entry| squashfs_time(entry.mtime)).max().unwrap_or_default()
    }

    /// The attributes that a squashfs has no place for, with how often each came.
    pub fn left_out(&self) -> &BTreeMap<String, u64> {
        &self.left_out
    }

    /// The entry at `path` itself.
    pub fn entry(&self, path: &Path) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The file or folder that a running OS would find at `path`, symbolic links followed within the tree.
    pub fn resolve(&self, path: &str) -> Option<(PathBuf, &Entry)> {
        let mut left: Vec<OsString> = parts(Path::new(path));
        let (mut at, mut links) = (PathBuf::new(), 0);
        while let Some(part) = left.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            match &self.entries.get(&next)?.kind {
                Kind::Symlink { target } => {
                    links += 1;
                    if links > SYMLINK_LIMIT {
                        return None;
                    }
                    if target.is_absolute() {
                        at = PathBuf::new();
                    }
                    left.extend(parts(target));
                }
                Kind::HardLink { of } => at = of.clone(),
                _ => at = next,
            }
        }
        let entry = self.entries.get(&at)?;
        Some((at, entry))
    }

    /// The names of the folders in the folder at `path`.
    pub fn folders_in(&self, path: &Path) -> Vec<&OsStr> {
        self.entries
            .range::<Path, _>((Bound::Included(path), Bound::Unbounded))
            .take_while(|(it, _)| it.starts_with(path))
            .filter(|(it, entry)| it.parent() == Some(path) && entry.kind == Kind::Directory)
            .filter_map(|(it, _)| it.file_name())
            .collect()
    }
}

/// The parts of a path, last first; `.` and the leading slash are none.
fn parts(path: &Path) -> Vec<OsString> {
    let wanted = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().rev().filter(wanted).map(|part| part.as_os_str().to_owned()).collect()
}

fn is_runtime(path: &Path) -> bool {
    let mut parts = path.components();
    let first = parts.next().map(Component::as_os_str);
    first.is_some_and(|first| RUNTIME_FOLDERS.iter().any(|it| first == *it)) && parts.next().is_some()
}

/// A time as a squashfs holds it: seconds from 1970 to 2106.
pub fn squashfs_time(seconds: i64) -> u32 {
    u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind) -> Entry {
        Entry { mode: 0o755, uid: 0, gid: 0, mtime: 1, xattrs: Vec::new(), kind }
    }

    fn file() -> Kind {
        Kind::File { size: 1, content: Content::Offset(0) }
    }

    fn tree(entries: &[(&str, Kind)]) -> Result<Tree> {
        let mut tree = Tree::default();
        for (path, kind) in entries {
            tree.insert(path.into(), entry(kind.clone()));
        }
        tree.complete()
    }

    fn symlink(target: &str) -> Kind {
        Kind::Symlink { target: target.into() }
    }

    #[test]
    fn runtime_folders_are_kept_empty() {
        let tree = tree(&[
            ("proc", Kind::Directory),
            ("proc/1", Kind::Directory),
            ("dev/null", file()),
            ("etc/x", file()),
        ]);
        let paths: Vec<_> = tree.unwrap().iter().map(|(path, _)| path.to_str().unwrap().to_owned()).collect();
        assert_eq!(paths, ["", "etc", "etc/x", "proc"]);
    }

    #[test]
    fn links_are_followed_within_the_tree() {
        let tree = tree(&[
            ("sbin", symlink("usr/sbin")),
            ("usr/sbin/init", symlink("../../lib/systemd/systemd")),
            ("lib", symlink("/usr/lib")),
            ("usr/lib/systemd/systemd", file()),
            ("loop", symlink("loop")),
        ])
        .unwrap();
        assert_eq!(tree.resolve("/sbin/init").unwrap().0, Path::new("usr/lib/systemd/systemd"));
        assert!(tree.resolve("/../../sbin/./init").is_some());
        assert!(tree.resolve("/loop").is_none());
        assert!(tree.resolve("/sbin/none").is_none());
        assert_eq!(tree.folders_in(Path::new("usr")), ["lib", "sbin"]);
    }

    #[test]
    fn the_first_path_of_hard_links_is_the_file() {
        let link = |of: &str| Kind::HardLink { of: of.into() };
        let tree = tree(&[("m", file()), ("z", link("m")), ("a", link("m"))]).unwrap();
        assert_eq!(tree.entry(Path::new("a")).unwrap().kind, file());
        for name in ["m", "z"] {
            assert_eq!(tree.entry(Path::new(name)).unwrap().kind, link("a"));
        }
        assert_eq!(tree.bytes(), 1);
        assert_eq!(tree.resolve("z").unwrap().0, Path::new("a"));
    }

    #[test]
    fn what_makes_no_tree_is_refused() {
        let under = tree(&[("lib", symlink("usr/lib")), ("lib/x", file())]).unwrap_err();
        assert!(under.to_string().contains("no folder"), "{under}");
        let dangling = tree(&[("a", Kind::HardLink { of: "b".into() })]).unwrap_err();
        assert!(dangling.to_string().contains("no file"), "{dangling}");
    }

    #[test]
    fn attributes_without_a_place_are_counted() {
        let mut tree = Tree::default();
        let xattrs = ["system.posix_acl_access", "user.a", "security.capability"];
        let xattrs = xattrs.map(|name| (OsString::from(name), vec![1])).to_vec();
        tree.insert("x".into(), Entry { xattrs, ..entry(file()) });
        assert_eq!(tree.left_out().get("system.posix_acl_access"), Some(&1));
        assert_eq!(tree.entry(Path::new("x")).unwrap().xattrs.len(), 2);
    }

    #[test]
    fn times_are_held_within_bounds() {
        assert_eq!([-5, 7, 5_000_000_000].map(squashfs_time), [0, 7, u32::MAX]);
    }
}
