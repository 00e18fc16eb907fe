//! `ls`, `cat` and `unpack` against the programs that make and read such images: mksquashfs, unsquashfs, mkfs.vfat, mtools.

// A panic is how a test fails; clippy knows that of test functions, and not of what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, package: &str, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}; install Debian's package {package}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn boot_files(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_boot-files")).args(arguments).current_dir(folder).output().unwrap()
}

fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = boot_files(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The one line that a refusal consists of.
fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = boot_files(folder, arguments);
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.trim_end().lines().count(), 1, "a refusal is one line: {line}");
    line
}

/// A folder `root` with one of each kind.
fn root(folder: &Path) {
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/hostname"), "pi\n").unwrap();
    std::fs::write(root.join("large"), vec![b'x'; 1 << 20]).unwrap();
    std::fs::set_permissions(root.join("large"), std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("etc/hostname", root.join("link")).unwrap();
}

#[test]
fn a_squashfs_of_each_compression() {
    for compression in ["zstd", "xz", "gzip"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        root(folder);
        let arguments = ["root", "a.squashfs", "-comp", compression, "-all-root", "-quiet", "-no-progress"];
        run(folder, "squashfs-tools", "mksquashfs", &arguments);
        let listing = said(folder, &["ls", "a.squashfs"]);
        assert!(listing.contains("-rwxr-xr-x     0     0    1048576 large\n"), "{listing}");
        assert!(listing.contains(" link -> etc/hostname\n"), "{listing}");
        assert_eq!(said(folder, &["cat", "a.squashfs", "/etc/hostname"]), "pi\n");
        said(folder, &["unpack", "a.squashfs", "ours"]);
        run(folder, "squashfs-tools", "unsquashfs", &["-q", "-n", "-d", "theirs", "a.squashfs"]);
        run(folder, "diffutils", "diff", &["-r", "--no-dereference", "ours", "theirs"]);
    }
}

#[test]
fn a_fat_image_of_each_width() {
    for (width, size) in [("12", 2 << 20), ("16", 20 << 20), ("32", 40 << 20)] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        root(folder);
        std::fs::File::create(folder.join("boot.img")).unwrap().set_len(size).unwrap();
        run(folder, "dosfstools", "mkfs.vfat", &["-F", width, "-s", "1", "boot.img"]);
        run(folder, "mtools", "mcopy", &["-s", "-i", "boot.img", "root/etc", "root/large", "::"]);
        let listing = said(folder, &["ls", "boot.img"]);
        assert!(listing.contains(" etc/\n") && listing.contains(" 3 etc/hostname\n"), "{listing}");
        assert_eq!(said(folder, &["cat", "boot.img", "etc/hostname"]), "pi\n");
        said(folder, &["unpack", "boot.img", "ours"]);
        std::fs::remove_file(folder.join("root/link")).unwrap();
        run(folder, "diffutils", "diff", &["-r", "ours", "root"]);
    }
}

#[test]
fn an_initramfs_inside_of_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    root(folder);
    let script = "cd root && find . | cpio -o -H newc --quiet | zstd -q > ../initramfs8 && cd .. && \
                  truncate -s 4M boot.img && mkfs.vfat boot.img >/dev/null && mcopy -i boot.img initramfs8 ::";
    run(folder, "cpio, zstd, dosfstools, mtools", "sh", &["-ec", script]);
    let program = env!("CARGO_BIN_EXE_boot-files");
    let script = format!("{program} cat boot.img initramfs8 | {program} ls --json -");
    let list: serde_json::Value = serde_json::from_str(&run(folder, "dash", "sh", &["-c", &script])).unwrap();
    let link = list.as_array().unwrap().iter().find(|item| item["path"] == "link").unwrap();
    assert_eq!((&link["type"], &link["target"]), (&"symlink".into(), &"etc/hostname".into()));
    // A reader that has seen enough is no error.
    run(
        folder,
        "bash",
        "bash",
        &["-c", &format!("set -o pipefail; {program} cat initramfs8 large | head -c 1")],
    );
}

#[test]
fn what_is_no_image_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("text"), "hello").unwrap();
    std::fs::write(folder.join("empty"), "").unwrap();
    let mut fat = vec![0; 4096];
    fat[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
    fat[11..13].copy_from_slice(&[0, 2]);
    fat[16] = 1;
    fat[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(folder.join("fat"), fat).unwrap();
    std::fs::write(folder.join("squashfs"), b"hsqs and nothing more").unwrap();
    assert!(refused(folder, &["ls", "text"]).contains("reading text: is neither"));
    assert!(refused(folder, &["ls", "empty"]).contains("reading empty: is neither"));
    assert!(refused(folder, &["ls", "."]).contains("is a folder"));
    assert!(refused(folder, &["ls", "nosuch"]).contains("opening nosuch"));
    assert!(refused(folder, &["ls", "fat"]).contains("opening the FAT file system"));
    assert!(refused(folder, &["ls", "squashfs"]).contains("opening the squashfs"));
    root(folder);
    run(folder, "cpio", "sh", &["-c", "cd root && find . | cpio -o -H newc --quiet > ../cpio"]);
    assert!(refused(folder, &["cat", "cpio", "nosuch"]).contains("cpio: has no nosuch"));
    assert!(refused(folder, &["cat", "cpio", "etc"]).contains("etc is no file"));
    std::fs::create_dir(folder.join("full")).unwrap();
    std::fs::write(folder.join("full/x"), "").unwrap();
    assert!(refused(folder, &["unpack", "cpio", "full"]).contains("not an empty folder"));
}
