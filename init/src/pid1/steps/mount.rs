//! Step `mount`: each image becomes a read-only file system, and it is made sure that there is an OS in them.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, umount2};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use sys_mount::MountFlags;

use crate::pid1::boot::Boot;
use crate::pid1::{loopdev, mounts, stack};

/// Where the OS' root is put together.
pub(crate) const ROOT: &str = "/sysroot";

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let ram_boot = boot.ram_boot()?;
    let images = boot.images()?;
    unmount_stale()?;
    for (n, image) in images.iter().enumerate() {
        mount_image(n).with_context(|| format!("mounting {}", image.name()))?;
    }
    if images.len() == 1 {
        return check_init(&stack::mount_path(0), &ram_boot.init);
    }
    // What one image lacks another has: only all of them together say whether there is an OS.
    let options = format!("lowerdir={}", stack::lowerdir(images.len()));
    std::fs::create_dir_all(ROOT).with_context(|| format!("making {ROOT}"))?;
    mounts::mount("overlay", Path::new(ROOT), "overlay", MountFlags::RDONLY, &options)?;
    let checked = check_init(Path::new(ROOT), &ram_boot.init);
    umount2(ROOT, MntFlags::MNT_DETACH).with_context(|| format!("unmounting {ROOT}"))?;
    checked
}

fn mount_image(n: usize) -> Result<()> {
    let at = stack::mount_path(n);
    std::fs::create_dir_all(&at).with_context(|| format!("making {}", at.display()))?;
    let (device, open) = loopdev::attach(&stack::image_path(n))?;
    let mounted = mounts::mount(&device.to_string_lossy(), &at, "squashfs", MountFlags::RDONLY, "");
    drop(open);
    mounted.context("the image is no squashfs that this kernel can read")
}

/// Unmounts what an earlier try left.
pub(crate) fn unmount_stale() -> Result<()> {
    stack::unmount(ROOT)
}

/// An exec of it should work: it is a script, or a program of this machine whose loader is there too.
fn check_init(root: &Path, init: &str) -> Result<()> {
    let mut file = open_in(root, init).with_context(|| format!("there is no {init} in the image"))?;
    let mode = file.metadata().with_context(|| format!("looking at {init}"))?.mode();
    ensure!(mode & 0o111 != 0, "{init} in the image may not be executed (mode {:o})", mode & 0o7777);
    let mut head = vec![0; 4096];
    let count = read_up_to(&mut file, &mut head).with_context(|| format!("reading {init}"))?;
    head.truncate(count);
    match program(&head) {
        Program::Script => Ok(()),
        Program::Foreign(machine) => {
            bail!("{init} in the image is for another machine (ELF machine {machine})")
        }
        Program::Unknown => bail!("{init} in the image is neither a script nor an ELF program"),
        Program::Ours { loader: None } => Ok(()),
        Program::Ours { loader: Some(loader) } => open_in(root, &loader)
            .map(drop)
            .with_context(|| format!("{init} needs {loader}, which the image lacks")),
    }
}

use std::os::unix::fs::MetadataExt;

/// Opens a path as the OS will see it: absolute links lead into its root, not ours.
fn open_in(root: &Path, path: &str) -> Result<File> {
    let root: OwnedFd =
        rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let path = path.trim_start_matches('/');
    Ok(openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?.into())
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

#[derive(Debug, PartialEq, Eq)]
enum Program {
    Script,
    Ours { loader: Option<String> },
    Foreign(u16),
    Unknown,
}

/// ELF's `EM_AARCH64`, or on a test's host that machine's own.
const OUR_MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };

/// What a file's first bytes say: ELF64 little-endian (elf(5)), its `PT_INTERP`, or `#!`.
fn program(head: &[u8]) -> Program {
    if head.starts_with(b"#!") {
        return Program::Script;
    }
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return Program::Unknown;
    }
    let Some(machine) = u16_at(head, 18) else { return Program::Unknown };
    if machine != OUR_MACHINE {
        return Program::Foreign(machine);
    }
    Program::Ours { loader: loader(head) }
}

fn loader(head: &[u8]) -> Option<String> {
    const PT_INTERP: u16 = 3;
    let table = u64_at(head, 32)?;
    let (size, count) = (u64::from(u16_at(head, 54)?), u64::from(u16_at(head, 56)?));
    let interp = (0..count.min(64)).find_map(|n| {
        let at = usize::try_from(table.checked_add(n.checked_mul(size)?)?).ok()?;
        (u16_at(head, at)? == PT_INTERP).then_some(at)
    })?;
    let start = usize::try_from(u64_at(head, interp.checked_add(8)?)?).ok()?;
    let bytes = head.get(start..)?;
    let end = bytes.iter().take(256).position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(bytes.get(..end)?).into_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn this_very_program_is_ours_and_names_its_loader() {
        let mut head = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        head.truncate(4096);
        let Program::Ours { loader: Some(loader) } = program(&head) else { panic!("{:?}", program(&head)) };
        assert!(Path::new(&loader).exists(), "{loader}");
    }

    #[test]
    fn a_root_without_an_os_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8], mode: u32| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let refused = |init: &str| format!("{:#}", check_init(root.path(), init).unwrap_err());
        assert!(refused("/sbin/init").contains("no /sbin/init"));
        put("x", b"#!/bin/sh\n", 0o644);
        assert!(refused("/x").contains("may not be executed"));
        put("y", b"text", 0o755);
        assert!(refused("/y").contains("neither"));
        put("z", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x28\0", 0o755);
        assert!(refused("/z").contains("another machine (ELF machine 40)"));
        put("usr/lib/init", b"#!/bin/sh\n", 0o755);
        std::fs::create_dir(root.path().join("sbin")).unwrap();
        symlink("/usr/lib/init", root.path().join("sbin/init")).unwrap();
        check_init(root.path(), "/sbin/init").unwrap();
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
            head.extend(OUR_MACHINE.to_le_bytes());
            head.extend(tail);
            program(&head);
        }
    }
}
