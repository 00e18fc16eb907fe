//! A file tree in memory, every file with its origin: the initramfs before it is packed.

use crate::package::Package;
use anyhow::{Result, bail, ensure};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The longest chain of symbolic links followed, as in Linux's path_resolution(7).
const LINK_LIMIT: usize = 40;
/// The folders at the top that are links into /usr.
pub const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Directory,
    /// A file.
    File(Vec<u8>),
    /// A symbolic link.
    Symlink(String),
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Origin {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
}

impl Origin {
    /// Made by this program, or one of the project's own.
    pub fn own() -> Origin {
        Origin { package: "pi-lifeboat".into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

impl From<&Package> for Origin {
    fn from(package: &Package) -> Self {
        Origin { package: package.name.clone(), version: package.version.clone() }
    }
}

/// One path of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub node: Node,
    /// Permission bits.
    pub mode: u32,
    /// Where it comes from.
    pub origin: Origin,
}

/// A file tree. Paths are relative, without `.` or `..`, and in the merged-/usr layout: `usr/bin/sh`, never `bin/sh`.
#[derive(Debug, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// Puts an entry in. The same entry from another origin is fine: the first stays.
    ///
    /// # Errors
    /// If the path is no good, or there is another file.
    pub fn add(&mut self, path: &str, entry: Entry) -> Result<()> {
        let path = normal(path)?;
        match self.entries.get(&path) {
            None => {
                self.entries.insert(path, entry);
            }
            Some(old) if old.node == entry.node => {}
            Some(old) => bail!(
                "/{path} comes from {} {} and from {} {}, and is not the same",
                old.origin.package,
                old.origin.version,
                entry.origin.package,
                entry.origin.version
            ),
        }
        Ok(())
    }

    /// Puts a file of ours in.
    ///
    /// # Errors
    /// As [`Tree::add`].
    pub fn add_own(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Result<()> {
        self.add(path, Entry { node: Node::File(content.into()), mode, origin: Origin::own() })
    }

    /// Puts a folder in.
    ///
    /// # Errors
    /// As [`Tree::add`].
    pub fn add_folder(&mut self, path: &str, mode: u32) -> Result<()> {
        self.add(path, Entry { node: Node::Directory, mode, origin: Origin::own() })
    }

    /// Puts a symbolic link in.
    ///
    /// # Errors
    /// As [`Tree::add`].
    pub fn add_link(&mut self, path: &str, target: &str, origin: Origin) -> Result<()> {
        self.add(path, Entry { node: Node::Symlink(target.into()), mode: 0o777, origin })
    }

    /// All entries, in order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The bytes of all files.
    pub fn bytes(&self) -> usize {
        let files = self.entries.values().filter_map(|entry| match &entry.node {
            Node::File(data) => Some(data.len()),
            _ => None,
        });
        files.sum()
    }

    /// Whether that path is in the tree (links not followed).
    pub fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// The path of the file at the end of the links, if it is in the tree.
    pub fn resolve(&self, path: &str) -> Option<String> {
        let mut path = normal(path).ok()?;
        for _ in 0..LINK_LIMIT {
            match &self.entries.get(&path)?.node {
                Node::Symlink(target) => path = link_target(&path, target)?,
                _ => return Some(path),
            }
        }
        None
    }

    /// Adds every folder that is missing above an entry, and the links of the merged /usr.
    ///
    /// # Errors
    /// If a file stands where a folder must be.
    pub fn complete(&mut self) -> Result<()> {
        for name in MERGED {
            self.entries.insert(
                name.into(),
                Entry { node: Node::Symlink(format!("usr/{name}")), mode: 0o777, origin: Origin::own() },
            );
            self.add_folder(&format!("usr/{name}"), 0o755)?;
        }
        let mut folders = BTreeSet::new();
        for path in self.entries.keys() {
            let parents = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
            folders.extend(parents.map(str::to_owned));
        }
        for folder in folders {
            match self.entries.get(&folder).map(|entry| &entry.node) {
                Some(Node::Directory) => {}
                Some(_) => bail!("/{folder} is a file, but other files are to be in it"),
                None => self.add_folder(&folder, 0o755)?,
            }
        }
        Ok(())
    }
}

/// A path as the tree has it: `./bin/x` and `/usr/bin/x` are `usr/bin/x`.
///
/// # Errors
/// If it is empty or has `..` in it.
pub fn normal(path: &str) -> Result<String> {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    ensure!(
        !parts.is_empty() && !parts.contains(&"..") && !path.bytes().any(|byte| byte == 0),
        "{path:?} is no path for the image"
    );
    let merged = parts.first().is_some_and(|first| MERGED.contains(first)) && parts.len() > 1;
    Ok(if merged { format!("usr/{}", parts.join("/")) } else { parts.join("/") })
}

/// Where a link at `path` leads, as a path of the tree.
pub fn link_target(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => path.split('/').collect(),
    };
    if !target.starts_with('/') {
        parts.pop();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    normal(&parts.join("/")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usr_is_merged_and_nothing_leads_out() {
        assert_eq!(normal("./bin/sh").unwrap(), "usr/bin/sh");
        assert_eq!(normal("/lib/x.so").unwrap(), "usr/lib/x.so");
        assert_eq!(normal("usr/lib/x.so").unwrap(), "usr/lib/x.so");
        assert_eq!(normal("./bin").unwrap(), "bin");
        assert!(normal("a/../../b").is_err());
        assert!(normal("./").is_err());
        assert_eq!(link_target("usr/sbin/a", "../bin/b").as_deref(), Some("usr/bin/b"));
        assert_eq!(link_target("usr/sbin/a", "/lib/b").as_deref(), Some("usr/lib/b"));
        assert_eq!(link_target("usr/a", "../../../b").as_deref(), Some("b"));
    }

    #[test]
    fn links_are_followed_and_loops_end() {
        let mut tree = Tree::default();
        tree.add_link("a", "b", Origin::own()).unwrap();
        tree.add_link("b", "/bin/c", Origin::own()).unwrap();
        assert_eq!(tree.resolve("a"), None);
        tree.add_own("bin/c", 0o755, "x").unwrap();
        assert_eq!(tree.resolve("a").as_deref(), Some("usr/bin/c"));
        tree.add_link("l", "l", Origin::own()).unwrap();
        assert_eq!(tree.resolve("l"), None);
    }

    #[test]
    fn two_different_files_at_one_path_are_refused() {
        let mut tree = Tree::default();
        tree.add_own("bin/c", 0o755, "x").unwrap();
        tree.add_own("usr/bin/c", 0o755, "x").unwrap();
        assert!(tree.add_own("bin/c", 0o755, "y").is_err());
        tree.add_own("usr/bin/c/d", 0o755, "y").unwrap();
        assert!(tree.complete().is_err());
    }
}
