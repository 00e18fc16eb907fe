//! The shared libraries that the image's programs need: read from their ELF headers, taken from the packages that the
//! programs' own packages depend on, and nothing else.

use crate::deb::Deb;
use crate::elf;
use crate::store::Store;
use crate::tree::{Node, Tree, link_target, normal};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// Where Debian's dynamic loader looks (ld.so(8)).
const FOLDERS: [&str; 2] = ["usr/lib/aarch64-linux-gnu", "usr/lib"];

/// A file that a program cannot run without.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Need {
    /// The soname, or for a loader or script interpreter its path.
    name: String,
    /// Which paths would do.
    paths: Vec<String>,
    /// Who needs it.
    user: String,
    /// The package of who needs it.
    package: String,
}

/// Adds to the tree every library that a program in it needs, and what those need.
///
/// # Errors
/// If a library is in none of the packages that the program's package depends on, or a script's interpreter is not in
/// the image.
pub fn add(tree: &mut Tree, store: &mut Store<'_>) -> Result<()> {
    let mut tried: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    loop {
        let missing = missing(tree)?;
        if missing.is_empty() {
            return check_scripts(tree);
        }
        let mut unknown: BTreeMap<String, Vec<Need>> = BTreeMap::new();
        for need in missing {
            if !take(tree, store, &need)? {
                unknown.entry(need.name.clone()).or_default().push(need);
            }
        }
        let existing = store.existing(unknown.values().flatten().flat_map(|need| depends(store, need)))?;
        let mut wanted = BTreeSet::new();
        for (name, needs) in &unknown {
            wanted.insert(candidate(store, needs, &existing, tried.entry(name.clone()).or_default())?);
        }
        store.load(wanted.iter().map(String::as_str))?;
    }
}

/// What the tree's programs need and the tree has not.
fn missing(tree: &Tree) -> Result<BTreeSet<Need>> {
    let mut missing = BTreeSet::new();
    for (path, entry) in tree.iter() {
        let Node::File(data) = &entry.node else { continue };
        if path.starts_with("usr/lib/modules/") {
            continue;
        }
        let elf = elf::parse(data).with_context(|| format!("/{path} (package {})", entry.origin.package))?;
        let Some(elf) = elf else { continue };
        let need = |name: &str, paths| Need {
            name: name.to_owned(),
            paths,
            user: path.to_owned(),
            package: entry.origin.package.clone(),
        };
        let interpreter = elf.interpreter.iter().map(|name| need(name, vec![name.clone()]));
        let libraries = elf.needed.iter().map(|name| need(name, search(name, &elf.runpath, path)));
        missing.extend(
            interpreter
                .chain(libraries)
                .filter(|need| !need.paths.iter().any(|path| tree.resolve(path).is_some())),
        );
    }
    Ok(missing)
}

/// The paths that the loader would try for a soname.
fn search(name: &str, runpath: &[String], user: &str) -> Vec<String> {
    let own = user.rsplit_once('/').map_or("", |(folder, _)| folder);
    let folders = runpath.iter().map(|folder| folder.replace("$ORIGIN", own).replace("${ORIGIN}", own));
    folders
        .chain(FOLDERS.map(str::to_owned))
        .filter_map(|folder| link_target("x", &format!("{folder}/{name}")))
        .collect()
}

/// Takes a file out of the packages that are loaded: whether it was there.
fn take(tree: &mut Tree, store: &Store<'_>, need: &Need) -> Result<bool> {
    for path in &need.paths {
        let path = normal(path)?;
        if let Some(deb) = store.loaded().find(|deb| deb.files.contains_key(&path)) {
            add_with_target(tree, deb, &path)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds a file of a package to the tree, and when it is a link also what it leads to in the same package.
///
/// # Errors
/// As [`Tree::add`].
pub fn add_with_target(tree: &mut Tree, deb: &Deb, path: &str) -> Result<()> {
    let mut next = Some(path.to_owned());
    let mut seen = BTreeSet::new();
    while let Some(path) = next.take() {
        let Some(entry) = deb.files.get(&path) else { break };
        tree.add(&path, entry.clone())?;
        if let Node::Symlink(target) = &entry.node {
            next = link_target(&path, target).filter(|target| seen.insert(target.clone()));
        }
    }
    Ok(())
}

/// The next package to look for a library in: by Debian's policy the packages of its users depend on the library's.
/// All `needs` are of one name.
fn candidate(
    store: &Store<'_>,
    needs: &[Need],
    existing: &BTreeSet<String>,
    tried: &mut BTreeSet<String>,
) -> Result<String> {
    let Some(first) = needs.first() else { bail!("nothing is needed") };
    let depends: BTreeSet<_> = needs.iter().flat_map(|need| depends(store, need)).collect();
    let guesses = guesses(&first.name);
    let (likely, other): (Vec<_>, Vec<_>) = depends.iter().partition(|name| guesses.contains(*name));
    for name in likely.into_iter().chain(other) {
        let loaded = store.loaded().any(|deb| deb.package.name == *name);
        if tried.insert(name.clone()) && !loaded && existing.contains(name) {
            return Ok(name.clone());
        }
    }
    bail!(
        "library {} not found: /{} needs it, and it is in none of the packages that its package {} depends on ({})",
        first.name,
        first.user,
        first.package,
        depends.into_iter().collect::<Vec<_>>().join(", ")
    )
}

/// The names of library packages among those that a user's package depends on.
fn depends(store: &Store<'_>, need: &Need) -> Vec<String> {
    let user = store.loaded().find(|deb| deb.package.name == need.package);
    let names = user.into_iter().flat_map(|deb| deb.package.depends.iter().flatten());
    names.filter(|name| name.contains("lib")).cloned().collect()
}

/// How Debian would name the package of a soname (Policy 8.1): libfoo.so.1 → libfoo1, libfoo-1, either with t64.
fn guesses(soname: &str) -> BTreeSet<String> {
    let name = soname.rsplit('/').next().unwrap_or(soname).to_ascii_lowercase().replace('_', "-");
    let (base, version) = name.split_once(".so").unwrap_or((name.as_str(), ""));
    let version = version.trim_start_matches('.');
    let mut all = BTreeSet::from([format!("{base}{version}"), format!("{base}-{version}")]);
    all.extend(all.clone().iter().map(|name| format!("{name}t64")));
    if ["libc", "libm", "ld-linux-aarch64", "libpthread", "libdl", "librt", "libresolv"].contains(&base) {
        all.insert("libc6".into());
    }
    all
}

/// Checks that every script's interpreter is in the image.
fn check_scripts(tree: &Tree) -> Result<()> {
    for (path, entry) in tree.iter() {
        let Node::File(data) = &entry.node else { continue };
        let Some(rest) = data.strip_prefix(b"#!") else { continue };
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line.get(..line.len().min(255)).unwrap_or_default()).into_owned();
        let interpreter = line.split_whitespace().next().unwrap_or_default();
        if tree.resolve(interpreter).is_none() {
            bail!(
                "/{path} (package {}) is a script for {interpreter}, which is not in the image",
                entry.origin.package
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_names_are_guessed_as_policy_has_them() {
        for (soname, package) in [
            ("libblkid.so.1", "libblkid1"),
            ("liblz4.so.1", "liblz4-1"),
            ("libdevmapper.so.1.02.1", "libdevmapper1.02.1"),
            ("libext2fs.so.2", "libext2fs2t64"),
            ("libgcc_s.so.1", "libgcc-s1"),
            ("libm.so.6", "libc6"),
            ("/lib/ld-linux-aarch64.so.1", "libc6"),
        ] {
            assert!(guesses(soname).contains(package), "{soname}: {:?}", guesses(soname));
        }
    }

    #[test]
    fn origin_is_the_file_s_folder() {
        let paths = search("libx.so", &["$ORIGIN/../lib".into()], "usr/bin/x");
        assert_eq!(paths, ["usr/lib/libx.so", "usr/lib/aarch64-linux-gnu/libx.so", "usr/lib/libx.so"]);
    }
}
