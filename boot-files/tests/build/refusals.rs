//! Bad input: one line that names it, exit code 1, and nothing in the output folder.

use crate::repository::{Repository, run};
use crate::site::{Site, boot_files};
use std::process::Command;

fn refusal(more: &str) -> String {
    let site = Site::new();
    site.configure(more);
    site.refused(&[])
}

fn names(error: &str, words: &[&str]) {
    assert!(error.starts_with("boot-files: "), "{error}");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}

#[test]
fn an_unknown_key() {
    names(&refusal("[sign]\nkye = \"x\"\n"), &["image.toml:", "unknown field `kye`"]);
}

#[test]
fn a_config_that_is_not_there() {
    let output = boot_files().args(["build", "/nosuch/image.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    names(&String::from_utf8(output.stderr).unwrap(), &["/nosuch/image.toml"]);
}

#[test]
fn a_usage_error_is_code_2() {
    assert_eq!(boot_files().args(["build", "--nosuch"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_missing_package() {
    names(
        &refusal("[[tools]]\npackage = \"nosuch-tool\"\nfiles = [\"/x\"]\n"),
        &["package nosuch-tool does not exist"],
    );
}

#[test]
fn a_file_that_the_package_has_not() {
    names(
        &refusal("[[tools]]\npackage = \"tool\"\nfiles = [\"/usr/bin/nosuch\"]\n"),
        &["package tool", "/usr/bin/nosuch"],
    );
}

#[test]
fn a_missing_library() {
    let error = refusal("[[tools]]\npackage = \"broken\"\nfiles = [\"/usr/bin/broken\"]\n");
    names(&error, &["libgone.so.1 not found", "/usr/bin/broken", "libstrange"]);
}

#[test]
fn a_script_without_its_interpreter() {
    let error = refusal("[[tools]]\npackage = \"script\"\nfiles = [\"/usr/bin/script\"]\n");
    names(&error, &["/usr/bin/script", "/usr/bin/python3"]);
}

#[test]
fn a_missing_module() {
    let site = Site::new();
    site.configure_kernel("linux-image-test", "[\"a-driver\", \"nosuch\"]", "");
    names(&site.refused(&[]), &["6.99-test has no module nosuch"]);
}

#[test]
fn a_missing_overlay_and_device_tree() {
    let site = Site::new();
    let text = std::fs::read_to_string(site.path("image.toml")).unwrap();
    std::fs::write(site.path("image.toml"), text.replace("rpi-4-b.dtb", "rpi-9.dtb")).unwrap();
    names(&site.refused(&[]), &["no device tree bcm2711-rpi-9.dtb"]);
    std::fs::write(site.path("image.toml"), text.replace("[access]", "overlays = [\"nosuch\"]\n[access]"))
        .unwrap();
    names(&site.refused(&[]), &["no overlay nosuch"]);
}

#[test]
fn a_repository_signed_by_someone_else() {
    let mut site = Site::new();
    let other = tempfile::tempdir().unwrap();
    let home = other.path().to_str().unwrap();
    let key = [
        "--homedir",
        home,
        "-q",
        "--batch",
        "--passphrase",
        "",
        "--quick-gen-key",
        "other <o@example>",
        "ed25519",
    ];
    run(other.path(), "gnupg", "gpg", &key);
    let exported = run(other.path(), "gnupg", "gpg", &["--homedir", home, "--export"]);
    std::fs::write(site.path("other.gpg"), exported).unwrap();
    let _ended = Command::new("gpgconf").args(["--homedir", home, "--kill", "all"]).status();
    site.trust(site.path("other.gpg"));
    names(&site.refused(&[]), &["fetching the package lists", "not signed"]);
}

#[test]
fn a_release_that_was_changed_after_signing() {
    let site = Site::with_own_repository();
    let file = site.apt().join("InRelease");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("Suite: test", "Suite: best")).unwrap();
    names(&site.refused(&[]), &["fetching the package lists", "not signed"]);
}

#[test]
fn a_package_that_was_changed_after_signing() {
    let site = Site::with_own_repository();
    let file = site.apt().join("pool/raspi-firmware_2.0-1_all.deb");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = site.refused(&[]);
    names(&error, &["raspi-firmware"]);
    assert!(error.contains("Hash Sum mismatch") || error.contains("SHA-256"), "{error}");
}

#[test]
fn an_image_over_the_firmware_s_limit() {
    let error = refusal("[firmware]\npackage = \"firmware-huge\"\nfiles = [\"start4.elf\"]\n");
    names(&error, &["97.", "at most 96 MiB"]);
}

#[test]
fn a_device_program_that_cannot_run_there() {
    let site = Site::new();
    let folder = site.path("device");
    std::fs::create_dir(&folder).unwrap();
    let argument = ["--device-binaries", folder.to_str().unwrap()];
    let arguments: Vec<_> = site.arguments().into_iter().take(6).collect();
    let refused = || {
        let output = boot_files().args(&arguments).args(argument).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap().lines().last().unwrap().to_owned()
    };
    names(&refused(), &["device/init", "--device-binaries"]);
    std::fs::copy(Repository::get().path("tool"), folder.join("init")).unwrap();
    names(&refused(), &["device/init is not static", "libover.so.1"]);
    std::fs::write(folder.join("init"), "#!/bin/sh\n").unwrap();
    names(&refused(), &["device/init is no program"]);
}

#[test]
fn a_private_key_among_the_public_ones() {
    let site = Site::new();
    std::fs::write(site.path("id.pub"), "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    names(&site.refused(&[]), &["id.pub holds a private key"]);
}

#[test]
fn a_failed_rebuild_leaves_the_old_image_whole() {
    let site = Site::new();
    site.built(&[]);
    run(&site.path(""), "coreutils", "cp", &["-a", "out", "before"]);
    site.configure("[firmware]\npackage = \"firmware-huge\"\nfiles = [\"start4.elf\"]\n");
    assert_eq!(site.build(&[]).status.code(), Some(1));
    run(&site.path(""), "diffutils", "diff", &["-r", "out", "before"]);
}

/// The output folder is on a tmpfs of 1 MiB, in a mount namespace of its own.
#[test]
fn a_full_disk() {
    let site = Site::new();
    std::fs::create_dir(site.path("out")).unwrap();
    let script =
        "mount -t tmpfs -o size=1m tmpfs \"$1\" && shift && { \"$@\"; code=$?; ls -A \"$0\"; exit $code; }";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .args([site.path("out"), site.path("out")])
        .arg(env!("CARGO_BIN_EXE_boot-files"))
        .args(site.arguments())
        .arg("--quiet")
        .output()
        .expect("Debian package util-linux");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    names(said.lines().last().unwrap(), &["writing", "No space left on device"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "something was left in the output folder");
}
