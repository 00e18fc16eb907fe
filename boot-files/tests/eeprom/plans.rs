//! `boot-files eeprom plan`: every way in gets the same image, and no plan is written that would not work.

use crate::{IMAGE, data, refused_in_a_line, run, said};
use std::fs;
use std::path::Path;
use std::process::Command;

const KEY: [&str; 2] = ["-p", "public.pem"];

fn plan(board: &str, more: &[&str], out: &Path) -> String {
    let arguments = ["plan", "--image", IMAGE, "--board", board, "--http-host", "boot.example.net"];
    said(&[&arguments, &KEY[..], more, &["-o", out.to_str().unwrap()]].concat())
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn shellcheck(path: &Path) {
    let output = Command::new("sh").arg("-n").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_way_in_has_the_same_image() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("plan");
    let more = ["--http-path", "pi/rescue", "--http-port", "8443", "--cacertder", "cacert.der"];
    assert!(plan("cm4", &more, &out).contains("README.txt"));
    let image = fs::read(out.join("rpiboot/pieeprom.bin")).unwrap();
    for other in ["recovery-on-sd/pieeprom.upd", "flashrom/pieeprom.bin", "ansible/pieeprom.bin"] {
        assert!(fs::read(out.join(other)).unwrap() == image, "{other}");
    }
    let conf = "[all]\nBOOT_UART=0\nWAKE_ON_GPIO=1\nPOWER_OFF_ON_HALT=0\n[all]\nBOOT_ORDER=0xf617\n\
        HTTP_HOST=boot.example.net\nHTTP_PORT=8443\nHTTP_PATH=pi/rescue\nHTTP_CACERT_HASH=\
        547a520ab819b8ff04f25b2e08789c66d0514f087ef278093c678b41542585f7\n\
        NET_INSTALL_AT_POWER_ON=0\nNET_INSTALL_ENABLED=0\nENABLE_SELF_UPDATE=0\nFREEZE_VERSION=1\n";
    assert_eq!(text(&out.join("boot.conf")), conf);
    assert_eq!(text(&out.join("rpiboot/boot.conf")), conf);
    let check = [
        "check",
        "--board",
        "cm4",
        "--key",
        "public.pem",
        out.join("rpiboot/pieeprom.bin").to_str().unwrap(),
    ]
    .map(str::to_owned);
    assert!(said(&check.each_ref().map(String::as_str)).contains("nothing was found"));
    // The signature file is the reference's: hash and time.
    let sig = text(&out.join("rpiboot/pieeprom.sig"));
    let own = folder.path().join("own.sig");
    said(&["digest", "-i", out.join("rpiboot/pieeprom.bin").to_str().unwrap(), "-o", own.to_str().unwrap()]);
    assert_eq!(sig, text(&own));
    assert_eq!(sig, text(&out.join("recovery-on-sd/pieeprom.sig")));
    let sha256 = &sig[..64];
    let readme = text(&out.join("README.txt"));
    for part in [
        sha256,
        "https://boot.example.net:8443/pi/rescue/boot.sig",
        "0xf617",
        "recovery/bootcode4.bin",
        "package rpi-eeprom",
        "HOW TO GO BACK",
        "LOSES the public key",
        "not atomic",
        "NET_INSTALL_AT_POWER_ON=1",
        "NOT SAFE AGAINST A POWER CUT",
        "never reached while its eMMC has boot files",
    ] {
        assert!(readme.contains(part), "{part}: {readme}");
    }
    let yaml = text(&out.join("ansible/pi_eeprom.yml"));
    assert!(yaml.contains(&format!("pi_eeprom_image_sha256: {sha256}\n")), "{yaml}");
    assert!(yaml.contains("pi_eeprom_bootconf: |2\n  [all]\n  BOOT_UART=0\n"), "{yaml}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 2, "no draft stays behind");
}

#[test]
fn the_script_refuses_another_machine_and_has_the_right_lines() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("plan");
    plan("pi4", &[], &out);
    let script = text(&out.join("flashrom/flash.sh"));
    for part in [
        "DEVICE=/dev/spidev0.0",
        "SOC=bcm2711",
        "FAST=16000",
        "SLOW=8000",
        "TRIES=5",
        "-w \"$image\"",
        "-v \"$image\"",
        "dtoverlay=spi-gpio40-45",
    ] {
        assert!(script.contains(part), "{part}");
    }
    assert!(!script.contains('@'), "a word was not filled in");
    shellcheck(&out.join("flashrom/flash.sh"));
}

/// With a flashrom and a device tree that are not there: runs the script to its end and back.
#[test]
fn the_script_saves_writes_compares_and_tries_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let out = path.join("plan");
    plan("cm4", &[], &out);
    let tree = path.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("compatible"), b"raspberrypi,4-compute-module\0brcm,bcm2711\0").unwrap();
    fs::write(tree.join("serial-number"), b"100000005b154510\0").unwrap();
    let chip = path.join("chip");
    fs::copy(data(IMAGE), &chip).unwrap();
    let bin = path.join("bin");
    fs::create_dir(&bin).unwrap();
    // Fails to write at the fast speed, as boards do.
    let flashrom = format!(
        "#!/bin/sh\necho \"$*\" >>{0}/calls\ncase \"$*\" in\n*16000*-w*) exit 1 ;;\n*-r*) cp {0}/chip \"$4\" ;;\n*-w*) cp \"$4\" {0}/chip ;;\n*-v*) cmp -s \"$4\" {0}/chip ;;\nesac\n",
        path.display()
    );
    for (name, body) in [("flashrom", flashrom.as_str()), ("id", "#!/bin/sh\necho 0\n")] {
        fs::write(bin.join(name), body).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(bin.join(name), mode).unwrap();
    }
    let script = text(&out.join("flashrom/flash.sh"))
        .replace("/proc/device-tree", tree.to_str().unwrap())
        .replace("/dev/spidev0.0", chip.to_str().unwrap());
    fs::write(out.join("flashrom/flash.sh"), script).unwrap();
    let flash = |arguments: &[&str]| {
        let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let output = Command::new("sh")
            .arg(out.join("flashrom/flash.sh"))
            .args(arguments)
            .env("PATH", search)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (good, words) = flash(&[]);
    assert!(good && words.contains("try 2 of 5") && words.contains("written and compared"), "{words}");
    assert!(fs::read(&chip).unwrap() == fs::read(out.join("flashrom/pieeprom.bin")).unwrap());
    let backup = out.join("flashrom/backup-100000005b154510.bin");
    assert!(fs::read(&backup).unwrap() == fs::read(data(IMAGE)).unwrap());
    // Back again: the backup is not overwritten.
    let (good, words) = flash(&[backup.to_str().unwrap()]);
    assert!(good, "{words}");
    assert!(fs::read(&chip).unwrap() == fs::read(data(IMAGE)).unwrap());
    // A damaged image, and another machine.
    fs::write(out.join("flashrom/pieeprom.bin"), b"x").unwrap();
    let (good, words) = flash(&[]);
    assert!(!good && words.contains("copy it anew"), "{words}");
    fs::write(tree.join("compatible"), b"qemu\0").unwrap();
    let (good, words) = flash(&[]);
    assert!(!good && words.contains("nothing was done"), "{words}");
    assert!(fs::read(&chip).unwrap() == fs::read(data(IMAGE)).unwrap());
}

#[test]
fn recovery_bin_is_taken_along() {
    let folder = tempfile::tempdir().unwrap();
    let (out, recovery) = (folder.path().join("plan"), folder.path().join("recovery.bin"));
    fs::write(&recovery, b"code").unwrap();
    fs::create_dir(&out).unwrap();
    plan("pi4", &["--recovery", recovery.to_str().unwrap(), "--boot-order", "0xf71"], &out);
    assert_eq!(text(&out.join("recovery-on-sd/recovery.bin")), "code");
    assert!(!text(&out.join("README.txt")).contains("is missing there"));
    assert!(text(&out.join("boot.conf")).contains("BOOT_ORDER=0xf71\n"));
}

#[test]
fn a_plan_that_would_not_work_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("plan");
    let name = out.to_str().unwrap();
    let base = ["plan", "--image", IMAGE, "-o", name];
    for (more, part) in [
        (&["--board", "cm4", "--http-host", "x"][..], "takes only what Raspberry Pi has signed"),
        (&["--board", "cm5", "--http-host", "x", "-p", "public.pem"], "not for a CM5"),
        (&["--board", "cm4", "--http-host", "http://x", "-p", "public.pem"], "lower case"),
        (&["--board", "cm4", "--http-host", "x", "--http-path", "/pi", "-p", "public.pem"], "leading slash"),
        (&["--board", "cm4", "--http-host", "x\u{e9}", "-p", "public.pem"], "plain ASCII"),
        (&["--board", "cm4", "--http-host", "x\nBOOT_ORDER=0xf31", "-p", "public.pem"], "rpiboot"),
        (&["--board", "cm4", "--http-host", "x", "--boot-order", "0x7f", "-p", "public.pem"], "never boots"),
    ] {
        let line = refused_in_a_line(&[&base[..], more].concat());
        assert!(line.contains(part), "{more:?}: {line}");
        assert!(!out.exists());
    }
    plan("cm4", &[], &out);
    let again = ["--board", "cm4", "--http-host", "x", "-p", "public.pem"];
    assert!(refused_in_a_line(&[&base[..], &again].concat()).contains("is there already"));
    assert!(!run(&[&base[..], &again, &["--boot-order", "f1"]].concat()).status.success());
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}
