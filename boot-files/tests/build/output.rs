//! What comes out of a build.

use crate::repository::{DATE, run};
use crate::site::{Site, boot_files};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const TOOL: &str = "[[tools]]\npackage = \"tool\"\nfiles = [\"/usr/sbin/t*\"]\n";

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// What unsquashfs lists of the `/usr` in the initramfs, and GNU cpio of the initramfs itself.
fn listings(site: &Site) -> String {
    let initramfs = listing(site);
    run(&site.path(""), "cpio", "cpio", &["-i", "--quiet", "-F", "initramfs.cpio", "usr.squashfs"]);
    let options = ["-lln", "-d", "usr", "usr.squashfs"];
    initramfs + &text(run(&site.path(""), "squashfs-tools", "unsquashfs", &options))
}

/// What GNU cpio lists of the initramfs in `boot.img`, read with mtools and zstd.
fn listing(site: &Site) -> String {
    let out = site.path("out");
    run(&out, "dosfstools", "fsck.vfat", &["-n", "boot.img"]);
    run(&out, "mtools", "mcopy", &["-n", "-o", "-i", "boot.img", "::initramfs8", "../initramfs8"]);
    run(&site.path(""), "zstd", "zstd", &["-dqf", "initramfs8", "-o", "initramfs.cpio"]);
    text(run(&site.path(""), "cpio", "cpio", &["-tvn", "--quiet", "-F", "initramfs.cpio"]))
}

#[test]
fn the_image_has_what_was_asked_for_and_no_more() {
    let site = Site::new();
    site.configure(TOOL);
    let said = site.built(&[]);
    assert!(said.contains("not signed (hash and timestamp only)"), "{said}");
    let listing = listings(&site);
    let has = |words: &[&str]| {
        let found =
            listing.lines().any(|line| words.iter().all(|word| line.split_whitespace().any(|w| w == *word)));
        assert!(found, "{words:?} is not in\n{listing}");
    };
    has(&["-rwxr-xr-x", "0", "init"]);
    has(&["-rwxr-xr-x", "0", "rescue"]);
    has(&["usr/bin/rescue", "->", "../../rescue"]);
    has(&["usr.squashfs"]);
    has(&["usr/sbin/tool"]);
    has(&["usr/lib/aarch64-linux-gnu/libover.so.1"]);
    has(&["usr/lib/aarch64-linux-gnu/libunder.so.2"]);
    has(&["usr/lib/ld-linux-aarch64.so.1"]);
    has(&["usr/bin/applet10", "->", "busybox"]);
    has(&["lib", "->", "usr/lib"]);
    has(&["crw-------", "5,", "1", "dev/console"]);
    has(&["drwx------", "root/.ssh"]);
    has(&["-rw-------", "root/.ssh/authorized_keys"]);
    has(&["drwxrwxrwt", "tmp"]);
    has(&["etc/lifeboat.toml"]);
    has(&["usr/lib/modules/6.99-test/kernel/base.ko"]);
    has(&["usr/lib/modules/6.99-test/modules.dep"]);
    for absent in ["libc-extra", "usr/bin/tool", "other.ko", "share/doc"] {
        assert!(!listing.contains(absent), "{absent} is in\n{listing}");
    }
    let owner = |line: &str| {
        line.split_whitespace().nth(1) == Some("0/0") || line.split_whitespace().nth(2) == Some("0")
    };
    assert!(listing.lines().filter(|line| !line.is_empty()).all(owner), "{listing}");
}

#[test]
fn the_manifest_names_every_file() {
    let site = Site::new();
    site.configure(TOOL);
    site.built(&[]);
    let out = site.path("out");
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["kernel_release"], "6.99-test");
    assert_eq!(manifest["built"], DATE);
    let count = |list: &str| manifest[list].as_array().unwrap().len();
    let usr = boot_files().arg("cat").arg(out.join("tftp/initramfs8")).arg("usr.squashfs").output().unwrap();
    std::fs::write(out.join("usr.squashfs"), usr.stdout).unwrap();
    for (image, list) in [("boot.img", "boot"), ("tftp/initramfs8", "initramfs"), ("usr.squashfs", "usr")] {
        for file in manifest[list].as_array().unwrap() {
            let path = file["path"].as_str().unwrap();
            let inside = path.strip_prefix("usr/").filter(|_| list == "usr").unwrap_or(path);
            let content = boot_files().arg("cat").arg(out.join(image)).arg(inside).output().unwrap().stdout;
            std::fs::write(site.path("content"), &content).unwrap();
            let sum = text(run(&site.path(""), "coreutils", "sha256sum", &["content"]));
            assert_eq!(sum.split_whitespace().next(), file["sha256"].as_str(), "{path}");
            assert_eq!(file["size"].as_u64().unwrap(), content.len() as u64, "{path}");
        }
    }
    let files = listings(&site).lines().filter(|line| line.starts_with('-')).count();
    assert_eq!(count("initramfs") + count("usr"), files);
    let tool =
        manifest["usr"].as_array().unwrap().iter().find(|file| file["path"] == "usr/sbin/tool").unwrap();
    assert_eq!((&tool["package"], &tool["version"]), (&"tool".into(), &"1:2.0-1".into()));
    // The TFTP tree has the same files.
    for file in manifest["boot"].as_array().unwrap() {
        assert!(out.join("tftp").join(file["path"].as_str().unwrap()).is_file());
    }
}

#[test]
fn the_firmware_s_files_are_as_configured() {
    let site = Site::new();
    site.configure(
        "[boot]\ncmdline = \"quiet x=1\"\nconfig_txt = [\"gpu_mem=32\"]\n[serials]\ndebian-13 = 7\n",
    );
    site.built(&[]);
    let cat = |path: &str| {
        text(run(&site.path("out"), "mtools", "mtype", &["-i", "boot.img", &format!("::{path}")]))
    };
    assert_eq!(cat("cmdline.txt"), "quiet x=1\n");
    assert!(cat("config.txt").ends_with("[all]\ngpu_mem=32\n"));
    assert_eq!(cat("bcm2711-rpi-cm4.dtb"), "tree cm4");
    assert_eq!(cat("start4.elf"), "start");
    let kernel = std::fs::read(site.path("out/tftp/kernel8.img")).unwrap();
    std::fs::write(site.path("kernel.gz"), kernel).unwrap();
    assert_eq!(run(&site.path(""), "gzip", "gzip", &["-dc", "kernel.gz"]).len(), 100_000);
    let toml = boot_files()
        .arg("cat")
        .arg(site.path("out/tftp/initramfs8"))
        .arg("etc/lifeboat.toml")
        .output()
        .unwrap();
    let config: init::config::Config = toml::from_str(&text(toml.stdout)).unwrap();
    assert_eq!((config.name.as_str(), config.built, config.reboot_after), ("test", DATE, 1800));
    assert_eq!(config.serials, [("debian-13".to_owned(), 7)].into());
}

fn same(one: &Path, other: &Path) {
    run(one, "diffutils", "diff", &["-r", one.to_str().unwrap(), other.to_str().unwrap()]);
}

#[test]
fn two_builds_are_the_same_bit_for_bit() {
    let (one, other) = (Site::new(), Site::new());
    for site in [&one, &other] {
        site.configure(TOOL);
        site.built(&[]);
    }
    same(&one.path("out"), &other.path("out"));
}

#[test]
fn source_date_epoch_is_the_time() {
    let site = Site::new();
    let output = boot_files().args(site.arguments()).env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap();
    assert!(output.status.success());
    assert!(std::fs::read_to_string(site.path("out/boot.sig")).unwrap().contains("\nts: 1700000000\n"));
    // Another time is another image.
    let before = std::fs::read(site.path("out/boot.img")).unwrap();
    assert!(site.built(&[]).contains("built "));
    assert!(before != std::fs::read(site.path("out/boot.img")).unwrap());
}

#[test]
fn an_unchanged_rebuild_touches_nothing() {
    let site = Site::new();
    site.built(&[]);
    let image = site.path("out/boot.img");
    let inode = || image.metadata().unwrap().ino();
    let before = inode();
    assert!(site.built(&[]).contains("unchanged: "));
    assert_eq!(before, inode());
    std::fs::write(site.path("id.pub"), "ssh-ed25519 BBBB someone@else\n").unwrap();
    assert!(site.built(&[]).contains("built "));
    let after = inode();
    assert_ne!(before, after);
    // A damaged output is made anew.
    std::fs::write(site.path("out/tftp/config.txt"), "x").unwrap();
    assert!(site.built(&[]).contains("built "));
}

#[test]
fn without_the_mirror_the_cache_is_enough() {
    let site = Site::with_own_repository();
    let error = site.refused(&["--offline"]);
    assert!(error.contains("no package lists"), "{error}");
    site.configure(TOOL);
    site.built(&[]);
    std::fs::rename(site.apt(), site.path("gone")).unwrap();
    std::fs::rename(site.path("out"), site.path("first")).unwrap();
    site.built(&["--offline"]);
    same(&site.path("first"), &site.path("out"));
}

#[test]
fn a_key_signs_the_image() {
    let site = Site::new();
    run(&site.path(""), "openssl", "openssl", &["genrsa", "-out", "boot.pem", "2048"]);
    site.configure("[sign]\nkey = \"boot.pem\"\n");
    assert!(site.built(&[]).contains(", signed"));
    let signature = std::fs::read_to_string(site.path("out/boot.sig")).unwrap();
    assert_eq!(signature.lines().count(), 3, "{signature}");
    run(&site.path(""), "openssl", "openssl", &["rsa", "-in", "boot.pem", "-pubout", "-out", "boot.pub"]);
    let hex = signature.lines().nth(2).unwrap().strip_prefix("rsa2048: ").unwrap();
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    std::fs::write(site.path("signature"), bytes).unwrap();
    let arguments = ["dgst", "-sha256", "-verify", "boot.pub", "-signature", "signature", "out/boot.img"];
    run(&site.path(""), "openssl", "openssl", &arguments);
}

#[test]
fn a_large_image_is_warned_of() {
    let site = Site::new();
    site.configure("[firmware]\npackage = \"firmware-large\"\nfiles = [\"start4.elf\"]\n");
    assert!(site.built(&[]).contains("warning: boot.img has 66."));
}
