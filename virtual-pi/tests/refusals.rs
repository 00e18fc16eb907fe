//! What the real Pi would refuse, from files; no QEMU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod common;

use std::fs;
use std::io::Write;
use std::process::Command;

use common::{Keys, Text, boot_sig, files_with, good_image, image, kernel, openssl, pi};
use virtual_pi::board::{Board, Pi, Serial};
use virtual_pi::bootloader::firmware::Boot;
use virtual_pi::bootloader::refusal::{Kind, Refusal, Stage};
use virtual_pi::bootloader::signature::PublicKey;
use virtual_pi::bootloader::{check_files, load_unsigned};

/// Loads an image with changed files; gives also the log.
fn load_with(changes: &[(&'static str, Option<&[u8]>)]) -> (Result<Boot, Refusal>, String) {
    let text = Text::default();
    (load_unsigned(&pi(), &image(&files_with(changes)), &mut text.log()), text.text())
}

#[test]
fn a_good_image_boots() {
    let (keys, image, text) = (Keys::new(2048), good_image(), Text::default());
    let boot = check_files(&pi(), &image, &keys.sign(&image), &keys.public(), &mut text.log()).unwrap();
    assert_eq!((boot.kernel, boot.initramfs.as_slice()), (kernel(), &b"initramfs"[..]));
    assert!(boot.command_line.ends_with("  console=ttyAMA0,115200 panic=1"), "{}", boot.command_line);
    assert!(boot.command_line.contains("smsc95xx.macaddr=DC:A6:32:FE:FD:EF "));
    let log = text.text();
    for words in [
        "hash: ",
        "ts: 1700000000",
        "rsa2048: ",
        "rsa-verify pass (0x0)",
        "Read config.txt bytes ",
        "Read start4.elf bytes ",
    ] {
        assert!(log.contains(words), "{words}\n{log}");
    }
}

/// Our verdict and openssl's on the same image, signature and key.
fn verdicts(keys: &Keys, image: &[u8], signature: &[u8]) -> (bool, bool) {
    fs::write(keys.path("image"), image).unwrap();
    fs::write(keys.path("signature"), signature).unwrap();
    let arguments = ["dgst", "-sha256", "-verify", "boot.pub.pem", "-signature", "signature", "image"];
    let theirs = Command::new("openssl").args(arguments).current_dir(keys.folder.path()).output().unwrap();
    let ours =
        check_files(&pi(), image, &boot_sig(image, signature), &keys.public(), &mut Text::default().log());
    if let Err(refusal) = &ours {
        assert_eq!(refusal.kind, Kind::Signature);
    }
    (ours.is_ok(), theirs.status.success())
}

#[test]
fn signatures_are_judged_as_openssl_does() {
    let (keys, other, image) = (Keys::new(2048), Keys::new(2048), good_image());
    let signature = keys.signature(&image);
    assert_eq!(verdicts(&keys, &image, &signature), (true, true));
    assert_eq!(verdicts(&other, &image, &signature), (false, false));
    // The signature of another file, with the hash of this one.
    assert_eq!(verdicts(&keys, &image, &keys.signature(b"other")), (false, false));
    for (byte, bit) in [(0, 0x80), (0, 0x01), (100, 0x10), (255, 0x01)] {
        let mut flipped = signature.clone();
        flipped[byte] ^= bit;
        assert_eq!(verdicts(&keys, &image, &flipped), (false, false), "byte {byte}");
    }
    // Signed with another hash.
    openssl(&["dgst", "-sha1", "-sign", "boot.pem", "-out", "signature", "image"], keys.folder.path());
    let sha1 = fs::read(keys.path("signature")).unwrap();
    assert_eq!(verdicts(&keys, &image, &sha1), (false, false));
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let (keys, image) = (Keys::new(2048), good_image());
    let sig = keys.sign(&image);
    let check = |image: &[u8], sig: &[u8]| {
        let text = Text::default();
        let refusal = check_files(&pi(), image, sig, &keys.public(), &mut text.log()).unwrap_err();
        assert_eq!(refusal.kind, Kind::Signature);
        assert!(text.text().contains("Failed to validate boot.img"));
        assert!(text.text().contains("BOOT ERROR: code 24"));
        refusal.reason
    };
    for at in [0, 1000, image.len() - 1] {
        let mut flipped = image.clone();
        flipped[at] ^= 1;
        assert!(check(&flipped, &sig).contains("boot.img is not the file that boot.sig was made for"));
    }
    let mut hash = sig.clone();
    hash[0] = if hash[0] == b'0' { b'1' } else { b'0' };
    assert!(check(&image, &hash).contains("is not the file"));
    let mut signature = sig.clone();
    let last = sig.len() - 2;
    signature[last] = if signature[last] == b'0' { b'1' } else { b'0' };
    assert!(check(&image, &signature).contains("signature was not made by the private key"));
    let unsigned = &sig[..sig.windows(4).position(|w| w == b"rsa2").unwrap()];
    assert!(check(&image, unsigned).contains("must always be signed"));
    assert!(check(&image, b"").contains("boot.sig: its first line"));
}

#[test]
fn public_keys_in_both_forms() {
    let keys = Keys::new(2048);
    openssl(&["rsa", "-in", "boot.pem", "-RSAPublicKey_out", "-out", "pkcs1.pem"], keys.folder.path());
    PublicKey::from_pem(&fs::read_to_string(keys.path("pkcs1.pem")).unwrap()).unwrap();
    PublicKey::from_pem(&keys.public_pem()).unwrap();
    let error = |pem: &str| PublicKey::from_pem(pem).unwrap_err();
    assert!(error(&fs::read_to_string(keys.path("boot.pem")).unwrap()).contains("private key"));
    assert!(error("hello").contains("not an RSA public key"));
    assert!(error(&Keys::new(3072).public_pem()).contains("3072 bits; the bootloader takes 2048 only"));
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "ed.pem"], keys.folder.path());
    let ed = openssl(&["pkey", "-in", "ed.pem", "-pubout"], keys.folder.path());
    assert!(error(&String::from_utf8(ed.stdout).unwrap()).contains("not an RSA public key"));
}

#[test]
fn missing_and_wrong_files() {
    let cases: [(&'static str, Option<&[u8]>, Kind, &str); 13] = [
        ("start4.elf", None, Kind::Firmware, "start4.elf is not in boot.img"),
        ("fixup4.dat", None, Kind::Firmware, "fixup4.dat is not in boot.img"),
        ("start4.elf", Some(b"text"), Kind::Firmware, "start4.elf is not an ELF file"),
        ("kernel8.img", None, Kind::NoKernel, "the kernel kernel8.img is not in boot.img"),
        ("kernel8.img", Some(b"neither"), Kind::BadKernel, "neither gzip nor an arm64 Image"),
        ("kernel8.img", Some(b"\x1f\x8b\x08\x00damaged"), Kind::BadKernel, "gzip stream is damaged"),
        ("initramfs8", None, Kind::Initramfs, "the initramfs initramfs8"),
        ("bcm2711-rpi-4-b.dtb", None, Kind::DeviceTree, "bcm2711-rpi-4-b.dtb is not in boot.img"),
        ("bcm2711-rpi-4-b.dtb", Some(b"text text"), Kind::DeviceTree, "no flattened device tree"),
        ("bcm2711-rpi-4-b.dtb", Some(b"\xd0\x0d\xfe\xed\0\0\x10\0"), Kind::DeviceTree, "cut short"),
        ("config.txt", Some(b"gpu_mem=16"), Kind::Firmware, "start4cd.elf is not in boot.img"),
        ("config.txt", Some(b"arm_64bit=0"), Kind::BadKernel, "arm_64bit=0"),
        ("config.txt", Some(b"kernel=other.img"), Kind::NoKernel, "other.img"),
    ];
    for (name, content, kind, words) in cases {
        let (result, log) = load_with(&[(name, content)]);
        let Refusal { kind: got, stage, reason } = result.unwrap_err();
        assert_eq!(got, kind, "{reason}");
        // Without start4.elf it is the bootloader that refuses; all else is for start4.elf to look at.
        assert_eq!(stage == Stage::Bootloader, kind == Kind::Firmware, "{reason}");
        assert!(reason.contains(words), "{reason}");
        assert!(log.contains(words));
        assert_eq!(log.contains("BOOT ERROR: code 04"), kind == Kind::Firmware);
        assert_eq!(log.contains("BOOT ERROR: code 07"), kind == Kind::NoKernel);
    }
    let text = Text::default();
    let refusal = load_unsigned(&pi(), &[0; 4096], &mut text.log()).unwrap_err();
    assert_eq!((refusal.kind, text.text().contains("BOOT ERROR: code 21")), (Kind::NotFat, true));
}

#[test]
fn what_is_tolerated() {
    let (boot, log) = load_with(&[("cmdline.txt", None), ("config.txt", None)]);
    assert_eq!(boot.unwrap().initramfs, b"");
    assert!(log.contains("config.txt is not there") && log.contains("cmdline.txt is not there"));
    let config = b"what=1\nnonsense\ndtoverlay=disable-bt\nauto_initramfs=1\n";
    let (boot, log) = load_with(&[("config.txt", Some(config)), ("cmdline.txt", Some(b"one\ntwo\n"))]);
    let boot = boot.unwrap();
    assert_eq!(boot.initramfs, b"initramfs");
    assert!(boot.command_line.ends_with("  one"));
    for words in [
        "what is not known here",
        "\"nonsense\" is no setting",
        "dtoverlay=disable-bt is not in boot.img",
        "only the first counts",
    ] {
        assert!(log.contains(words), "{words}\n{log}");
    }
}

#[test]
fn filters_choose_for_the_board() {
    let config = b"[cm4]\nkernel=cm4.img\ninitramfs a,b followkernel\n[pi5]\nkernel=none.img\n[0x12345678]\ncmdline=mine.txt\n[tryboot]\nkernel=none.img\n";
    let mut cm4 = kernel();
    cm4.push(4);
    let files = files_with(&[
        ("config.txt", Some(config)),
        ("cm4.img", Some(&cm4)),
        ("a", Some(b"first")),
        ("b", Some(b"second")),
        ("mine.txt", Some(b"mine")),
    ]);
    let load = |board, serial: &str| {
        let pi = Pi::new(board, serial.parse::<Serial>().unwrap(), 1024);
        load_unsigned(&pi, &image(&files), &mut Text::default().log()).unwrap()
    };
    let boot = load(Board::Cm4, "1");
    assert_eq!((boot.kernel, boot.initramfs), (cm4, b"firstsecond".to_vec()));
    let boot = load(Board::Pi4B, "12345678");
    assert_eq!((boot.kernel, boot.initramfs), (kernel(), vec![]));
    // [pi5] still holds beside the serial number: filters of different kinds combine.
    assert!(!boot.command_line.ends_with("mine"));
}

#[test]
fn a_prefix_counts_where_kernel_and_tree_are() {
    let mut prefixed = kernel();
    prefixed.push(1);
    let config = b"os_prefix=new/\ncmdline=/cmdline.txt\n";
    let (boot, log) = load_with(&[("config.txt", Some(config)), ("new/kernel8.img", Some(&prefixed))]);
    assert_eq!(boot.unwrap().kernel, kernel());
    assert!(log.contains("os_prefix=new/ is dropped"));
    let tree = common::device_tree();
    let (boot, _) = load_with(&[
        ("config.txt", Some(config)),
        ("new/kernel8.img", Some(&prefixed)),
        ("new/bcm2711-rpi-4-b.dtb", Some(&tree)),
    ]);
    let boot = boot.unwrap();
    assert_eq!(boot.kernel, prefixed);
    assert!(boot.command_line.ends_with("panic=1"));
}

#[test]
fn a_gzip_kernel_is_unpacked() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&kernel()).unwrap();
    let packed = gzip.finish().unwrap();
    assert_eq!(load_with(&[("kernel8.img", Some(&packed))]).0.unwrap().kernel, kernel());
}

#[test]
fn file_systems_of_dosfstools_and_mtools() {
    for (kind, blocks) in [("12", "4096"), ("16", "20480"), ("32", "69632")] {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("boot.img");
        // One FAT and one sector in a cluster, as the official tool makes them.
        let mkfs = Command::new("mkfs.vfat")
            .args(["-C", "-f", "1", "-s", if kind == "12" { "4" } else { "1" }, "-F", kind, "-n", "BOOT"])
            .arg(&path)
            .arg(blocks)
            .output();
        let mkfs = mkfs.expect("mkfs.vfat runs (Debian package: dosfstools)");
        assert!(mkfs.status.success(), "{}", String::from_utf8_lossy(&mkfs.stderr));
        for (name, content) in common::files() {
            fs::write(folder.path().join(name), content).unwrap();
            let mcopy = Command::new("mcopy")
                .arg("-i")
                .arg(&path)
                .arg(folder.path().join(name))
                .arg(format!("::{name}"))
                .output();
            assert!(mcopy.expect("mcopy runs (Debian package: mtools)").status.success());
        }
        load_unsigned(&pi(), &fs::read(&path).unwrap(), &mut Text::default().log()).unwrap();
    }
}

#[test]
fn the_check_command() {
    let (keys, image) = (Keys::new(2048), good_image());
    let folder = tempfile::TempDir::new().unwrap();
    let check = |file: &str, extra: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtual-pi"));
        command
            .arg("check")
            .arg(folder.path().join(file))
            .arg("--public-key")
            .arg(keys.path("boot.pub.pem"))
            .args(extra);
        let output = command.output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    fs::write(folder.path().join("boot.img"), &image).unwrap();
    assert_eq!(check("", &[]).0, 10);
    fs::write(folder.path().join("boot.sig"), keys.sign(&image)).unwrap();
    let (code, out, err) = check("", &[]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("A Raspberry Pi 4 Model B Rev 1.4 would boot this."));
    assert_eq!(check("boot.img", &["--board", "cm4"]).0, 0);
    assert!(check("", &["--json"]).1.contains(r#""initramfs_bytes":9"#));
    fs::write(folder.path().join("boot.img"), common::image(&files_with(&[("kernel8.img", None)]))).unwrap();
    assert_eq!(check("", &[]).0, 12);
    fs::write(folder.path().join("boot.sig"), keys.sign(&fs::read(folder.path().join("boot.img")).unwrap()))
        .unwrap();
    let (code, out, err) = check("", &[]);
    assert_eq!((code, out.as_str()), (14, ""));
    assert!(err.contains("virtual-pi: the kernel kernel8.img is not in boot.img"), "{err}");
    fs::write(folder.path().join("boot.img"), vec![0; (128 << 20) + 1]).unwrap();
    let (code, _, err) = check("", &[]);
    assert_eq!((code, err.contains("File is too large. Max size 134217728")), (11, true), "{err}");
}
