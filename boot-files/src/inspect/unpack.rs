//! `boot-files unpack`: into a new folder, and never outside of it. Paths with `..` are refused; links are made last, so
//! that nothing is written through one (held by `nothing_is_written_outside`).

use super::{Archive, Item, Kind};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// Unpack boot.img, an initramfs or a squashfs into a new folder.
///
/// Files get the owner who unpacks them; devices, pipes and sockets are left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  boot-files unpack out/tftp/initramfs8 /tmp/rescue")]
pub struct Args {
    /// The image; - is standard input.
    image: PathBuf,
    /// The folder to make. It must not exist, or be empty.
    folder: PathBuf,
}

/// Runs it.
///
/// # Errors
/// If the image cannot be read, the folder is not empty, or a path leads out of it.
pub fn run(args: Args) -> Result<()> {
    let mut archive = super::open(&args.image)?;
    let left_out =
        unpack(&mut *archive, &args.folder).with_context(|| format!("unpacking {}", args.image.display()))?;
    if left_out > 0 {
        eprintln!("boot-files: left {left_out} devices, pipes and sockets out");
    }
    Ok(())
}

/// Unpacks into `folder`. Returns how many devices, pipes and sockets were left out.
///
/// # Errors
/// If the folder is not empty, a path leads out of it, or something cannot be written. Then the folder is as it was.
pub fn unpack(archive: &mut dyn Archive, folder: &Path) -> Result<usize> {
    let paths: Vec<PathBuf> =
        archive.items().iter().map(|item| checked(&item.path)).collect::<Result<_>>()?;
    let context = || format!("making the folder {}", folder.display());
    let was_there = folder.is_dir();
    ensure!(
        !folder.exists() || (was_there && fs::read_dir(folder).with_context(context)?.next().is_none()),
        "{} is there already and is not an empty folder",
        folder.display()
    );
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = tempfile::Builder::new().prefix(".unpack-").tempdir_in(parent).with_context(context)?;
    let items = archive.items().to_vec();
    // In an initramfs of several archives the last one of a path wins, as in the kernel.
    let last: BTreeMap<&Path, usize> =
        paths.iter().enumerate().map(|(index, path)| (path.as_path(), index)).collect();
    let mut left_out = 0;
    for (path, index) in &last {
        let Some(item) = items.get(*index) else { continue };
        left_out += usize::from(!write(archive, item, *index, &draft.path().join(path))?);
    }
    for (path, index) in last.iter().rev() {
        let Some(item) = items.get(*index) else { continue };
        finish(item, &draft.path().join(path))?;
    }
    fs::set_permissions(draft.path(), Permissions::from_mode(0o755)).with_context(context)?;
    if was_there {
        fs::remove_dir(folder).with_context(context)?;
    }
    fs::rename(draft.keep(), folder).with_context(context)?;
    Ok(left_out)
}

/// Makes a folder or file. Returns whether it is more than a device, pipe or socket.
fn write(archive: &mut dyn Archive, item: &Item, index: usize, target: &Path) -> Result<bool> {
    let context = || format!("writing {}", item.path);
    let parent = if item.kind == Kind::Directory { Some(target) } else { target.parent() };
    if let Some(parent) = parent {
        fs::create_dir_all(parent).with_context(context)?;
    }
    if item.kind == Kind::File {
        let mut file = File::create_new(target).with_context(context)?;
        archive.copy(index, &mut file).with_context(context)?;
    }
    Ok(!matches!(item.kind, Kind::Device { .. } | Kind::Special))
}

/// Makes a link, or gives a folder or file its permissions: after all that is in them.
fn finish(item: &Item, target: &Path) -> Result<()> {
    let context = || format!("writing {}", item.path);
    match &item.kind {
        Kind::Symlink { target: leads_to } => symlink(leads_to, target).with_context(context),
        // The owner keeps access; set-uid bits mean something else with another owner.
        Kind::Directory => fs::set_permissions(target, Permissions::from_mode(item.mode & 0o1777 | 0o700))
            .with_context(context),
        Kind::File => {
            fs::set_permissions(target, Permissions::from_mode(item.mode & 0o777)).with_context(context)
        }
        Kind::Device { .. } | Kind::Special => Ok(()),
    }
}

/// A path that stays below the folder it is joined to.
fn checked(path: &str) -> Result<PathBuf> {
    let mut checked = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => checked.push(name),
            Component::CurDir => {}
            _ => bail!("the path {path:?} leads out of the image"),
        }
    }
    ensure!(!path.contains('\0'), "the path {path:?} has a NUL in it");
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::super::cpio::Cpio;
    use super::*;

    fn archive(entries: &[(&str, u32, &str)]) -> Cpio {
        let mut data = Vec::new();
        for (name, mode, content) in entries {
            let mut writer = ::cpio::newc::Builder::new(name)
                .mode(*mode)
                .write(&mut data, u32::try_from(content.len()).unwrap());
            std::io::Write::write_all(&mut writer, content.as_bytes()).unwrap();
            writer.finish().unwrap();
        }
        ::cpio::newc::trailer(&mut data).unwrap();
        Cpio::parse(data).unwrap()
    }

    #[test]
    fn nothing_is_written_outside() {
        let temporary = tempfile::tempdir().unwrap();
        let outside = temporary.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let target = outside.to_str().unwrap();
        for evil in [
            archive(&[("../x", 0o100_644, "1")]),
            archive(&[("a/../../x", 0o100_644, "1")]),
            archive(&[("link", 0o120_777, target), ("link/x", 0o100_644, "1")]),
            archive(&[("link/x", 0o100_644, "1"), ("link", 0o120_777, target)]),
            archive(&[
                ("link", 0o120_777, target),
                ("link", 0o040_755, ""),
                ("link", 0o120_777, target),
                ("link/x", 0o100_644, "1"),
            ]),
        ] {
            let mut evil = evil;
            let folder = temporary.path().join("in");
            assert!(unpack(&mut evil, &folder).is_err());
            assert!(!folder.exists());
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
        // A leading slash is only the image's own root.
        unpack(&mut archive(&[("/etc/x", 0o100_600, "1")]), &temporary.path().join("in")).unwrap();
        assert_eq!(fs::read_to_string(temporary.path().join("in/etc/x")).unwrap(), "1");
    }

    #[test]
    fn the_last_one_of_a_path_wins_and_devices_stay_out() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("in");
        fs::create_dir(&folder).unwrap();
        let entries =
            [("a", 0o100_600, "1"), ("a", 0o104_755, "2"), ("d", 0o020_600, ""), ("l", 0o120_777, "a")];
        assert_eq!(unpack(&mut archive(&entries), &folder).unwrap(), 1);
        assert_eq!(fs::read_to_string(folder.join("l")).unwrap(), "2");
        assert_eq!(folder.join("a").metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        assert!(
            unpack(&mut archive(&entries), &folder).unwrap_err().to_string().contains("not an empty folder")
        );
    }
}
