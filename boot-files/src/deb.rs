//! The files of a .deb, by dpkg-deb and tar.

use crate::package::Package;
use crate::tree::{Entry, Node, Origin, normal};
use anyhow::{Context, Result, bail, ensure};
use globset::{Glob, GlobBuilder, GlobMatcher};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// The largest file taken out of a package, in bytes.
const FILE_LIMIT: u64 = 512 << 20;

/// A package's files. Paths are as in [`crate::tree::Tree`].
#[derive(Debug)]
pub struct Deb {
    /// The package.
    pub package: Package,
    /// Its files and links, without documentation.
    pub files: BTreeMap<String, Entry>,
}

impl Deb {
    /// Reads a downloaded package.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub fn read(path: &Path, package: &Package) -> Result<Deb> {
        let mut files = BTreeMap::new();
        let origin = Origin::from(package);
        each_file(path, |name, mode, node| {
            if !is_documentation(name) {
                files.insert(name.to_owned(), Entry { node: node.read()?, mode, origin: origin.clone() });
            }
            Ok(())
        })?;
        resolve_hard_links(&mut files)?;
        Ok(Deb { package: package.clone(), files })
    }

    /// The paths that a glob matches; `*` does not match `/`.
    ///
    /// # Errors
    /// If the glob is no good, or matches nothing.
    pub fn matching(&self, pattern: &str) -> Result<Vec<&str>> {
        let matcher = glob(pattern)?;
        let found: Vec<_> =
            self.files.keys().filter(|path| matcher.is_match(path)).map(String::as_str).collect();
        ensure!(
            !found.is_empty(),
            "package {} {} has no file {pattern}",
            self.package.name,
            self.package.version
        );
        Ok(found)
    }
}

fn glob(pattern: &str) -> Result<GlobMatcher> {
    let path = normal(pattern)?;
    let glob: Glob = GlobBuilder::new(&path)
        .literal_separator(true)
        .build()
        .with_context(|| format!("reading the glob {pattern}"))?;
    Ok(glob.compile_matcher())
}

fn is_documentation(path: &str) -> bool {
    ["usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/info/", "usr/share/lintian/"]
        .iter()
        .any(|folder| path.starts_with(folder))
}

/// One file of a package, not read yet.
pub struct Content<'a, R: Read> {
    entry: tar::Entry<'a, R>,
}

impl<R: Read> Content<'_, R> {
    /// Reads it. A hard link is a link whose target starts with [`HARD`].
    ///
    /// # Errors
    /// If it cannot be read, or is neither file nor link.
    pub fn read(mut self) -> Result<Node> {
        let link = |entry: &tar::Entry<'_, R>| -> Result<String> {
            let target = entry.link_name()?.context("a link leads nowhere")?;
            Ok(target.to_str().context("a link's target is not UTF-8")?.to_owned())
        };
        Ok(match self.entry.header().entry_type() {
            tar::EntryType::Symlink => Node::Symlink(link(&self.entry)?),
            tar::EntryType::Link => Node::Symlink(format!("{HARD}{}", normal(&link(&self.entry)?)?)),
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let size = self.entry.size();
                ensure!(size <= FILE_LIMIT, "a file of {size} bytes is too large");
                let mut data = Vec::new();
                self.entry.read_to_end(&mut data)?;
                Node::File(data)
            }
            other => bail!("a {other:?} is neither file nor link"),
        })
    }

    /// Writes it to a new file.
    ///
    /// # Errors
    /// If it is no file, or cannot be written.
    pub fn write_to(mut self, path: &Path) -> Result<()> {
        ensure!(self.entry.header().entry_type().is_file(), "{} is no file in the package", path.display());
        let mut file =
            std::fs::File::create_new(path).with_context(|| format!("making {}", path.display()))?;
        std::io::copy(&mut self.entry, &mut file).with_context(|| format!("writing {}", path.display()))?;
        Ok(())
    }
}

/// Marks a hard link's target while a package is read: no path starts with it.
const HARD: char = '\0';

fn resolve_hard_links(files: &mut BTreeMap<String, Entry>) -> Result<()> {
    let links: Vec<_> = files
        .iter()
        .filter_map(|(path, entry)| match &entry.node {
            Node::Symlink(target) => Some((path.clone(), target.strip_prefix(HARD)?.to_owned())),
            _ => None,
        })
        .collect();
    for (path, target) in links {
        let source = files
            .get(&target)
            .with_context(|| format!("{path} is a hard link to {target}, which is missing"))?;
        let node = source.node.clone();
        if let Some(entry) = files.get_mut(&path) {
            entry.node = node;
        }
    }
    Ok(())
}

/// Calls `visit` with path, permission bits and content of every file and link of a package, in the package's order.
///
/// # Errors
/// If the package is damaged, or `visit` fails.
pub fn each_file(
    deb: &Path,
    mut visit: impl FnMut(&str, u32, Content<'_, std::process::ChildStdout>) -> Result<()>,
) -> Result<()> {
    let context = || format!("unpacking {}", deb.display());
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("running dpkg-deb")?;
    let stdout = child.stdout.take().context("running dpkg-deb")?;
    let mut archive = tar::Archive::new(stdout);
    let visited = (|| {
        for entry in archive.entries()? {
            let entry = entry?;
            if entry.header().entry_type().is_dir() {
                continue;
            }
            let path = normal(entry.path()?.to_str().context("a path is not UTF-8")?)?;
            let mode = entry.header().mode()? & 0o7777;
            visit(&path, mode, Content { entry }).with_context(|| format!("reading {path}"))?;
        }
        std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
        anyhow::Ok(())
    })();
    if visited.is_err() {
        let _it_may_have_ended = child.kill();
    }
    let status = child.wait().with_context(context)?;
    visited.with_context(context)?;
    ensure!(status.success(), "unpacking {}: dpkg-deb ended with {status}", deb.display());
    Ok(())
}
