//! The manifest and its signature, as a Pi and as minisign see them.

use crate::{folder, os, peer, sample};
use init::manifest::Manifest;
use minisign_verify::PublicKey;
use std::fs;
use std::path::Path;
use std::process::Command;

fn keygen(path: &Path, kind: &str, name: &str) {
    peer(path, env!("CARGO_BIN_EXE_boot-files"), &["keygen", "--kind", kind, name]);
}

/// Checks signature and chunks of `NAME` as init does.
fn verified(path: &Path, name: &str) -> Manifest {
    let read = |end: &str| fs::read(path.join(format!("{name}.{end}"))).unwrap();
    let key = PublicKey::decode(&fs::read_to_string(path.join("image.pub")).unwrap()).unwrap();
    let signature = String::from_utf8(read("json.minisig")).unwrap();
    let manifest = Manifest::verify(&read("json"), &signature, &[key]).unwrap();
    let image = read("squashfs");
    assert_eq!(manifest.size, image.len() as u64);
    let chunks: Vec<[u8; 32]> =
        image.chunks(manifest.chunk_size as usize).map(|chunk| *blake3::hash(chunk).as_bytes()).collect();
    assert_eq!(manifest.chunks, chunks);
    manifest
}

#[test]
fn a_signed_manifest_is_what_a_pi_wants() {
    let folder = folder(sample::plain);
    let path = folder.path();
    keygen(path, "image", "image");
    os(path, &["root", "-o", "debian-13.1.squashfs", "--key", "image.key", "--chunk-size", "64K"]).unwrap();
    let manifest = verified(path, "debian-13.1");
    assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("debian-13.1", "13"));
    assert_eq!(manifest.kernel_releases, ["6.12.1-arm64"]);
    assert_eq!((manifest.serial, manifest.chunk_size), (1_790_000_000, 64 << 10));
    assert!(manifest.chunks.len() > 10);
    peer(path, "minisign", &["-V", "-p", "image.pub", "-m", "debian-13.1.json"]);

    let given = ["--name", "lab", "--version", "7", "--serial", "9", "--key", "image.key"];
    os(path, &[&["root", "-o", "debian-13.1.squashfs"], &given[..]].concat()).unwrap();
    let manifest = verified(path, "debian-13.1");
    assert_eq!((manifest.name.as_str(), manifest.version.as_str(), manifest.serial), ("lab", "7", 9));
}

#[test]
fn without_a_key_the_pis_parameter_is_said_and_no_old_signature_stays() {
    let folder = folder(sample::plain);
    let path = folder.path();
    keygen(path, "image", "image");
    os(path, &["root", "-o", "x.squashfs", "--key", "image.key"]).unwrap();
    let said = os(path, &["root", "-o", "x.squashfs"]).unwrap();
    let sum = peer(path, "sha256sum", &["x.squashfs"]);
    assert!(said.contains(&format!("lifeboat.sha256={}", &sum[..64])), "{said}");
    assert!(!path.join("x.json.minisig").exists());
    Manifest::parse(&fs::read(path.join("x.json")).unwrap()).unwrap();
}

#[test]
fn a_squashfs_made_elsewhere_gets_its_manifest() {
    let folder = folder(sample::whole);
    let path = folder.path();
    keygen(path, "image", "image");
    for packer in ["zstd", "xz", "gzip"] {
        let image = format!("{packer}.squashfs");
        peer(path, "mksquashfs", &["root", &image, "-quiet", "-no-progress", "-comp", packer]);
        let before = fs::read(path.join(&image)).unwrap();
        os(path, &[&image, "--manifest-only", "--key", "image.key"]).unwrap();
        assert!(fs::read(path.join(&image)).unwrap() == before);
        let manifest = verified(path, packer);
        assert_eq!((manifest.version.as_str(), manifest.kernel_releases.len()), ("13", 1));
    }
    fs::write(path.join("no.squashfs"), "hsqs, it is not").unwrap();
    let line = os(path, &["no.squashfs", "--manifest-only"]).unwrap_err();
    assert!(line.contains("as a squashfs") && line.trim_end().lines().count() == 1, "{line}");
    assert!(!path.join("no.json").exists());
}

#[test]
fn the_summary_is_json() {
    let folder = folder(sample::plain);
    let path = folder.path();
    let output = Command::new(env!("CARGO_BIN_EXE_boot-files"))
        .args(["os", "root", "-o", "x.squashfs", "--json"])
        .current_dir(path)
        .output()
        .unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["writer"], "backhand");
    assert_eq!(summary["size"], path.join("x.squashfs").metadata().unwrap().len());
    assert!(summary["signature"].is_null());
}
