//! What is refused: with one clear line, and with nothing left behind.

use crate::{folder, os, peer, sample};
use std::fs;
use std::path::Path;

/// The line of a refusal that leaves the output folder as it was: empty.
fn refused(path: &Path, arguments: &[&str]) -> String {
    let output = path.join("out");
    let _ = fs::create_dir(&output);
    let line =
        os(path, &[arguments, &["-o", "out/x.squashfs"]].concat()).expect_err("this has to be refused");
    let said: Vec<_> = line.trim_end().lines().collect();
    assert!(said.last().is_some_and(|line| line.starts_with("boot-files: ")), "{line}");
    assert!(said.len() <= 2, "a refusal is one line, after what the source was taken for: {line}");
    let left: Vec<_> = output.read_dir().unwrap().collect();
    assert!(left.is_empty(), "{left:?} is left behind");
    line
}

fn assert_refused(path: &Path, arguments: &[&str], because: &str) {
    let line = refused(path, arguments);
    assert!(line.contains(because), "{arguments:?}: {line}");
}

#[test]
fn sources_that_are_none() {
    let folder = folder(|_| ());
    let path = folder.path();
    fs::write(path.join("text"), "hello").unwrap();
    fs::write(path.join("noise.gz"), [&[0x1f, 0x8b][..], &sample::noise(3000)].concat()).unwrap();
    fs::write(path.join("squashfs"), [b"hsqs".as_slice(), &[0; 3000]].concat()).unwrap();
    assert_refused(path, &["text"], "no tar archive and no disk image");
    assert_refused(path, &["missing"], "missing");
    assert_refused(path, &["/dev/null"], "neither a folder nor a file");
    assert_refused(path, &["noise.gz"], "damaged");
    assert_refused(path, &["squashfs"], "--manifest-only");
    assert_refused(path, &["root", "--partition", "1"], "--partition is for disk images");
    let line = os(path, &["root", "-o", "x.img"]).unwrap_err();
    assert!(line.contains("NAME.squashfs"), "{line}");
    let line = os(path, &["root", "-o", "none/x.squashfs"]).unwrap_err();
    assert!(line.contains("no folder none"), "{line}");
}

#[test]
fn disk_images_without_an_os() {
    let folder = folder(|root| {
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("etc/fstab"), "").unwrap();
    });
    let path = folder.path();
    let script = "truncate -s 40M disk.img; printf 'start=2048, size=8192, type=c\\nstart=16384, type=83\\n' | sfdisk -q disk.img";
    peer(path, "sh", &["-c", script]);
    assert_refused(path, &["disk.img"], "none of its 2 partitions has an ext4");
    assert_refused(path, &["disk.img", "--partition", "1"], "partition 1 has no ext4");
    peer(path, "mke2fs", &["-q", "-t", "ext4", "-d", "root", "-E", "offset=8388608", "disk.img", "30M"]);
    assert_refused(path, &["disk.img"], "choose one with --partition");
    assert_refused(path, &["disk.img", "--partition", "5"], "there are: 1, 2");
    assert_refused(path, &["disk.img", "--partition", "2"], "there is no init");
    peer(path, "truncate", &["-s", "20M", "disk.img"]);
    assert_refused(path, &["disk.img", "--partition", "2"], "cut off");
}

#[test]
fn archives_that_are_damaged_or_lead_out() {
    // One folder further in: what leads out of it ends where this test can see it.
    let outer = folder(sample::plain);
    let path = &outer.path().join("inner");
    fs::create_dir(path).unwrap();
    fs::rename(outer.path().join("root"), path.join("root")).unwrap();
    let script =
        "tar -C root --exclude=./var/socket -cf a.tar . && gzip -k a.tar && xz -k -0 a.tar && zstd -q a.tar
        for end in tar tar.gz tar.xz tar.zst; do head -c -30000 a.$end > cut.$end; done
        # At the end of an entry, too: only the end mark is gone.
        tar --format=ustar -b 1 -C root -cf end.tar etc && head -c -1024 end.tar > no-end.tar
        tar -cPf out.tar --transform 's,^,../,' -C root etc
        tar -cf link.tar --format=ustar -C root etc sbin && ln root/etc/os-release root/etc/z
        tar -C root -cf hard.tar etc && tar --delete -f hard.tar etc/os-release";
    peer(path, "sh", &["-c", script]);
    for end in ["tar", "tar.gz", "tar.xz", "tar.zst"] {
        let line = refused(path, &[&format!("cut.{end}")]);
        assert!(line.contains("cut off") || line.contains("ends early"), "{end}: {line}");
    }
    assert_refused(path, &["no-end.tar"], "no end mark");
    assert_refused(path, &["out.tar"], "leads out");
    assert_refused(path, &["hard.tar"], "where there is no file");
    assert!(!path.join("etc").exists() && !outer.path().join("etc").exists());
}

#[test]
fn an_os_that_a_pi_cannot_run() {
    let folder = folder(sample::plain);
    let path = folder.path();
    sample::init(&path.join("root"), 62);
    assert_refused(path, &["root"], "is for amd64");
    peer(path, "chmod", &["644", "root/sbin/init"]);
    assert_refused(path, &["root"], "may not be executed");
    fs::remove_file(path.join("root/sbin/init")).unwrap();
    assert_refused(path, &["root"], "--no-init-check");
    os(path, &["root", "-o", "x.squashfs", "--no-init-check"]).unwrap();
    peer(path, "sh", &["-c", "mkdir parent && cp -a root parent/debian"]);
    assert_refused(path, &["parent"], "is the OS in there?");
}

#[test]
fn keys_that_do_not_fit() {
    let folder = folder(sample::plain);
    let path = folder.path();
    for (kind, name) in [("boot", "boot"), ("image", "image")] {
        peer(path, env!("CARGO_BIN_EXE_boot-files"), &["keygen", "--kind", kind, name]);
    }
    assert_refused(path, &["root", "--key", "boot.pem"], "is a boot key");
    assert_refused(path, &["root", "--key", "image.pub"], "public key");
    assert_refused(path, &["root", "--key", "missing.key"], "missing.key");
    assert_refused(path, &["root", "--name", "a/b"], "--name");
}

#[test]
fn a_writer_that_fails_leaves_the_old_image() {
    let folder = folder(sample::whole);
    let path = folder.path();
    os(path, &["root", "-o", "x.squashfs"]).unwrap();
    let before = fs::read(path.join("x.squashfs")).unwrap();
    // An mksquashfs that fails, and none at all.
    fs::create_dir(path.join("bin")).unwrap();
    peer(
        path,
        "sh",
        &[
            "-c",
            "printf '#!/bin/sh\\necho FATAL ERROR: it broke >&2; exit 1\\n' > bin/mksquashfs; chmod 755 bin/mksquashfs",
        ],
    );
    for (folder, said) in [("bin", "it broke"), ("empty", "install squashfs-tools")] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_boot-files"))
            .args(["os", "root", "-o", "x.squashfs"])
            .current_dir(path)
            .env("PATH", path.join(folder))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(said), "{error}");
        assert!(fs::read(path.join("x.squashfs")).unwrap() == before);
    }
    let hidden =
        path.read_dir().unwrap().filter(|it| it.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.');
    assert_eq!(hidden.count(), 0, "no temporary file stays behind");
}
