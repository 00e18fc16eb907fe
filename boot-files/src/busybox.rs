//! busybox: the shell, and every small tool that no better one stands in for.

use crate::store::Store;
use crate::tree::{Node, Origin, Tree};
use anyhow::{Context, Result, ensure};

const PATH: &str = "usr/bin/busybox";
/// Applets that would be something else than they say: our init is PID 1.
const LEFT_OUT: [&str; 4] = ["busybox", "init", "linuxrc", "rescue"];
/// Fewer than this is no table of applets.
const FEWEST: usize = 50;

/// Adds busybox to the tree, with a link for each applet whose name no other program has.
/// To be called after the tools are in.
///
/// # Errors
/// If the package does not exist, or has no busybox with a table of applets.
pub fn add(tree: &mut Tree, store: &mut Store<'_>, package: &str) -> Result<()> {
    store.load([package])?;
    let deb = store.deb(package)?;
    let entry = deb.files.get(PATH).with_context(|| format!("package {package} has no /{PATH}"))?;
    let Node::File(program) = &entry.node else { anyhow::bail!("/{PATH} of package {package} is no file") };
    let applets = applets(program);
    ensure!(applets.len() >= FEWEST, "found no table of applets in /{PATH} of package {package}");
    let origin = Origin::from(&deb.package);
    tree.add(PATH, entry.clone())?;
    for applet in applets {
        let taken = ["usr/bin", "usr/sbin"].iter().any(|folder| tree.contains(&format!("{folder}/{applet}")));
        if !taken && !LEFT_OUT.contains(&applet) {
            tree.add_link(&format!("usr/bin/{applet}"), "busybox", origin.clone())?;
        }
    }
    // The kernel itself calls /sbin/modprobe when it wants a module.
    if !tree.contains("usr/sbin/modprobe") {
        tree.add_link("usr/sbin/modprobe", "../bin/busybox", origin)?;
    }
    Ok(())
}

/// The names of the applets, read from busybox's own table without running it: a run of sorted names, each ended by a
/// NUL, that starts with `[` and `[[` (include/applet_tables.h in busybox's build).
fn applets(program: &[u8]) -> Vec<&str> {
    let start = b"[\0[[\0";
    let Some(at) = program.windows(start.len()).position(|window| window == start) else { return Vec::new() };
    let mut names: Vec<&str> = Vec::new();
    for name in program.get(at..).unwrap_or_default().split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else { break };
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"[-_.+".contains(&byte);
        let sorted = names.last().is_none_or(|last| *last < name);
        if name.is_empty() || name.len() > 32 || !sorted || !name.bytes().all(plain) {
            break;
        }
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ends_where_the_order_does() {
        assert_eq!(applets(b"junk\0[\0[[\0ash\0cat\0\0more\0"), ["[", "[[", "ash", "cat"]);
        assert_eq!(applets(b"[\0[[\0ash\0cat\0Usage: x\0"), ["[", "[[", "ash", "cat"]);
        assert_eq!(applets(b"[\0[[\0b\0a\0"), ["[", "[[", "b"]);
        assert!(applets(b"nothing").is_empty());
    }
}
