//! What an OS says of itself: whether it can boot on a Pi, its version, the kernels it has modules for.

use super::contents::Contents;
use super::tree::{Kind, Tree};
use anyhow::{Context, Result, bail};
use std::io::Read;

/// Where an OS has its init, in the order in which they are looked for.
const INITS: [&str; 4] = ["/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/etc/init"];
/// No os-release is longer than this many bytes.
const OS_RELEASE_LIMIT: u64 = 64 << 10;
/// ELF's numbers for the machines that a Pi's arm64 kernel runs programs of.
const MACHINES: [u16; 2] = [183, 40];

/// Checks that the OS has an init that a Pi can run.
///
/// # Errors
/// If it has none, or one for another machine.
pub fn check_init(tree: &Tree, contents: &Contents) -> Result<()> {
    let escape = "--no-init-check takes it as it is";
    let found =
        INITS.iter().find_map(|path| tree.resolve(path).filter(|it| matches!(it.1.kind, Kind::File { .. })));
    let Some((path, entry)) = found else {
        let mut folders = tree.iter().filter(|(path, _)| path.components().count() == 1);
        let hint = match (folders.next(), folders.next()) {
            (Some((only, _)), None) => {
                format!("; all of it lies in {:?}: is the OS in there?", only.display())
            }
            _ => String::new(),
        };
        bail!("there is no init in it ({}){hint}; {escape}", INITS.join(", "));
    };
    let path = path.display();
    if entry.mode & 0o111 == 0 {
        bail!("its init /{path} may not be executed (mode {:o}); {escape}", entry.mode);
    }
    let head = read(tree, contents, &format!("/{path}"), 20)?.unwrap_or_default();
    let machine = head.get(18..20).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes);
    match machine.filter(|_| head.starts_with(b"\x7fELF")) {
        Some(machine) if !MACHINES.contains(&machine) => {
            bail!("its init /{path} is for {}, a Pi is arm64; {escape}", machine_name(machine))
        }
        _ => Ok(()),
    }
}

fn machine_name(machine: u16) -> String {
    match machine {
        3 => "i386".to_owned(),
        62 => "amd64".to_owned(),
        243 => "riscv64".to_owned(),
        other => format!("ELF machine {other}"),
    }
}

/// The releases of the kernels that the OS has modules for, sorted.
pub fn kernel_releases(tree: &Tree) -> Vec<String> {
    let folders = ["/usr/lib/modules", "/lib/modules"].into_iter().filter_map(|path| tree.resolve(path));
    let mut names: Vec<String> = folders
        .flat_map(|(path, _)| {
            tree.folders_in(&path)
                .into_iter()
                .map(|name| name.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The version in the OS's os-release, or `unknown`.
///
/// # Errors
/// If the file cannot be read.
pub fn version(tree: &Tree, contents: &Contents) -> Result<String> {
    let text = read(tree, contents, "/etc/os-release", OS_RELEASE_LIMIT)?;
    let text = match text {
        Some(text) => Some(text),
        None => read(tree, contents, "/usr/lib/os-release", OS_RELEASE_LIMIT)?,
    };
    Ok(version_in(&String::from_utf8_lossy(&text.unwrap_or_default()))
        .unwrap_or_else(|| "unknown".to_owned()))
}

/// The version in an os-release's text, the most telling line first.
pub fn version_in(text: &str) -> Option<String> {
    ["IMAGE_VERSION", "VERSION_ID", "BUILD_ID", "VERSION_CODENAME"].into_iter().find_map(|key| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
        let value = line.trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    })
}

fn read(tree: &Tree, contents: &Contents, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    let Some((at, entry)) = tree.resolve(path) else { return Ok(None) };
    let Kind::File { size, content } = &entry.kind else { return Ok(None) };
    let mut bytes = Vec::new();
    let source = contents.open(content, *size)?;
    source.take(limit).read_to_end(&mut bytes).with_context(|| format!("reading /{}", at.display()))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        assert_eq!(version_in("NAME=x\nVERSION_ID=\"13\"\n").as_deref(), Some("13"));
        assert_eq!(version_in("VERSION_CODENAME=forky\n").as_deref(), Some("forky"));
        assert_eq!(version_in("VERSION_ID=\"\"\nBUILD_ID=rolling").as_deref(), Some("rolling"));
        assert_eq!(version_in("NAME=x"), None);
    }
}
