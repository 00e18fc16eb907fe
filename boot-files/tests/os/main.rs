//! `boot-files os` against the programs that others make and read such files with: tar, mke2fs, sfdisk, unsquashfs,
//! minisign. Has to run as root, since an OS has devices and files of many owners.

// A panic is how a test fails; clippy knows that of test functions, and not of what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod listing;
mod manifests;
mod refusals;
mod sample;

use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The Debian packages of the programs that the tests call.
const PACKAGES: &str = "attr, e2fsprogs, fdisk, libcap2-bin, minisign, squashfs-tools, tar, xz-utils, zstd";

/// Runs a program that has to succeed.
fn peer(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; the tests need {PACKAGES}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said} (as root? the tests need {PACKAGES})");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `boot-files os` and gives what it said, or the one line of its refusal.
fn os(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_boot-files"))
        .arg("os")
        .args(arguments)
        .current_dir(folder)
        .env("SOURCE_DATE_EPOCH", "1790000000")
        .output()
        .unwrap();
    let (said, error) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if output.status.success() { Ok(said + &error) } else { Err(error) }
}

/// A folder with the sample in `root`.
fn folder(make: impl Fn(&Path)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("root")).unwrap();
    make(&folder.path().join("root"));
    folder
}

/// Unpacks `NAME.squashfs` and compares it with `root`, but for the paths of which a difference is expected.
fn assert_same(folder: &Path, name: &str, expected: &[&str]) {
    let _ = std::fs::remove_dir_all(folder.join("unpacked"));
    peer(folder, "unsquashfs", &["-q", "-n", "-d", "unpacked", &format!("{name}.squashfs")]);
    let differences = listing::difference(&folder.join("root"), &folder.join("unpacked"), expected);
    assert!(differences.is_empty(), "{name}: {}", differences.join("\n"));
    for runtime in ["dev", "proc", "run", "sys", "tmp"] {
        assert_eq!(
            folder.join("unpacked").join(runtime).read_dir().unwrap().count(),
            0,
            "{runtime} is empty"
        );
    }
}

fn assert_equal_files(folder: &Path, one: &str, other: &str) {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert!(read(one) == read(other), "{one} and {other} differ");
}

#[test]
fn a_folder_survives_whole() {
    let folder = folder(sample::whole);
    let path = folder.path();
    let said = os(path, &["root", "-o", "one.squashfs"]).unwrap();
    assert!(said.contains("by mksquashfs") && !said.contains("warning"), "{said}");
    assert_same(path, "one", &[]);
    os(path, &["root", "-o", "two.squashfs"]).unwrap();
    assert_equal_files(path, "one.squashfs", "two.squashfs");
    let about = peer(path, "unsquashfs", &["-s", "one.squashfs"]);
    assert!(
        about.contains("zstd") && about.contains("Block size 131072") && about.contains("2026"),
        "{about}"
    );
}

#[test]
fn an_archive_survives_but_for_sockets() {
    let folder = folder(sample::whole);
    let path = folder.path();
    let archive = ["--xattrs", "--xattrs-include=*", "--format=pax", "-C", "root", "-cf", "a.tar", "."];
    peer(path, "tar", &archive);
    peer(path, "sh", &["-c", "gzip -k a.tar; xz -k -1 a.tar; zstd -q a.tar"]);
    let said = os(path, &["a.tar", "-o", "one.squashfs"]).unwrap();
    assert!(said.contains("tar archive, "), "{said}");
    // tar itself leaves the socket out; the top folder has the newest file's time.
    assert_same(path, "one", &["", "var/socket"]);
    for (packed, form) in [("a.tar.gz", "gzip"), ("a.tar.xz", "xz"), ("a.tar.zst", "zstd")] {
        let said = os(path, &[packed, "-o", "two.squashfs"]).unwrap();
        assert!(said.contains(&format!("tar archive ({form})")), "{said}");
        assert_equal_files(path, "one.squashfs", "two.squashfs");
    }
    // GNU's own format: holes are stored as such, attributes are not stored at all.
    peer(path, "tar", &["--format=gnu", "-S", "-C", "root", "-cf", "gnu.tar", "."]);
    os(path, &["gnu.tar", "-o", "gnu.squashfs"]).unwrap();
    let no_attributes = ["bin/ping", "bin/feed", "var", "var/a", "var/b", "many/another", "var/random"];
    assert_same(path, "gnu", &[&["", "var/socket"], &no_attributes[..]].concat());
}

/// A disk image with the sample in its second partition, by a script for sfdisk.
fn disk(path: &Path, script: &str) {
    peer(
        path,
        "sh",
        &["-c", &format!("rm -f disk.img; truncate -s 72M disk.img; printf '{script}' | sfdisk -q disk.img")],
    );
    peer(path, "mke2fs", &["-q", "-t", "ext4", "-d", "root", "-E", "offset=8388608", "disk.img", "64000k"]);
}

#[test]
fn a_disk_image_survives_but_for_sockets() {
    let folder = folder(sample::whole);
    let path = folder.path();
    let partitions = "start=2048, size=8192, type=%s\\nstart=16384, size=131000, type=%s\\n";
    for (label, types) in [("dos", ["c", "83"]), ("gpt", ["U", "L"])] {
        let script = partitions.replacen("%s", types[0], 1).replacen("%s", types[1], 1);
        disk(path, &format!("label: {label}\\n{script}"));
        let said = os(path, &["disk.img", "-o", "one.squashfs", "--writer", "mksquashfs"]).unwrap();
        assert!(
            said.contains("disk image, partition 2") && said.contains("not in the image: sockets: 1"),
            "{said}"
        );
        // mke2fs gives the top folder a mode and a time of its own, and makes lost+found.
        assert_same(path, "one", &["", "var/socket", "lost+found"]);
    }
    peer(path, "xz", &["-k", "-0", "-T2", "disk.img"]);
    os(path, &["disk.img.xz", "-o", "two.squashfs", "--partition", "2"]).unwrap();
    assert_equal_files(path, "one.squashfs", "two.squashfs");
    // The file system alone, without a partition table.
    peer(path, "dd", &["if=disk.img", "of=bare.img", "bs=1M", "skip=8", "status=none"]);
    os(path, &["bare.img", "-o", "bare.squashfs"]).unwrap();
    assert_equal_files(path, "one.squashfs", "bare.squashfs");
}

#[test]
fn backhand_carries_what_needs_no_attributes_and_no_hard_links() {
    let folder = folder(sample::plain);
    let path = folder.path();
    let said = os(path, &["root", "-o", "one.squashfs"]).unwrap();
    assert!(said.contains("by backhand") && !said.contains("warning"), "{said}");
    // backhand gives no way to set the time of the top folder.
    assert_same(path, "one", &[""]);
    for writer in ["auto", "backhand"] {
        os(path, &["root", "-o", "two.squashfs", "--writer", writer]).unwrap();
        assert_equal_files(path, "one.squashfs", "two.squashfs");
    }
    disk(path, "label: dos\\nstart=2048, size=8192, type=c\\nstart=16384, size=131000, type=83\\n");
    os(
        path,
        &["disk.img", "-o", "disk.squashfs", "--writer", "backhand", "--block-size", "1M", "--level", "1"],
    )
    .unwrap();
    assert_same(path, "disk", &["", "lost+found"]);
}

#[test]
fn what_backhand_loses_is_said() {
    let folder = folder(sample::whole);
    let path = folder.path();
    let said = os(path, &["root", "-o", "one.squashfs", "--writer", "backhand"]).unwrap();
    assert!(said.contains("file capabilities: 5") && said.contains("hard links: 2"), "{said}");
    let touched = ["bin/ping", "bin/feed", "var", "var/a", "var/b", "many/another", "var/random"];
    assert_same(path, "one", &[&[""], &touched[..]].concat());
    let content = |name: &str| std::fs::read(path.join("unpacked").join(name)).unwrap();
    assert!(content("var/b") == b"one\n" && content("many/another") == b"one\n");
}
