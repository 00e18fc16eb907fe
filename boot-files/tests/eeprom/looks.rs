//! `boot-files eeprom show` and `check`.

use crate::{IMAGE, data, refused, run, said};
use std::fs;

fn edited(name: &str, arguments: &[&str]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join(name).to_str().unwrap().to_owned();
    said(&[&["edit"], arguments, &["-o", &out, IMAGE]].concat());
    (folder, out)
}

#[test]
fn a_stock_image_is_shown() {
    let text = said(&["show", IMAGE]);
    for part in [
        "for:         BCM2711",
        "2026-05-17, version 224877da, built 2026-05-17T19:13:18Z, MFG_VER 1",
        "public key:  none",
        "certificate: none",
        "changed:     none",
        "0xf41 (by default): SD card or eMMC, USB disk, begin anew",
        "    NET_INSTALL_AT_POWER_ON=1",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_edited_image_is_shown_for_programs() {
    let arguments = [
        "-c",
        "http.conf",
        "-p",
        "public.pem",
        "--cacertder",
        "cacert.der",
        "-t",
        "1790000000",
        "-d",
        "http.conf.sig",
    ];
    let (_folder, image) = edited("out.bin", &arguments);
    let shown: serde_json::Value = serde_json::from_str(&said(&["show", "--json", &image])).unwrap();
    assert_eq!(shown["soc"], "BCM2711");
    assert_eq!(shown["release"]["date"], "2026-05-17");
    assert_eq!(shown["release"]["build_timestamp"], 1_779_045_198);
    assert_eq!(shown["update_timestamp"], 1_790_000_000);
    assert_eq!(shown["signature_timestamp"], 1_790_000_000);
    assert_eq!(shown["certificate"]["subject"], "CN=Lifeboat test CA");
    assert_eq!(shown["certificate"]["not_after"], "2126-10-28T12:51:07Z");
    assert_eq!(shown["boot_order"][0]["modes"][1], "HTTP");
    assert_eq!(shown["bootconf"], fs::read_to_string(data("http.conf")).unwrap());
    assert_eq!(shown["public_key"]["sha256"].as_str().unwrap().len(), 64);
    let text = said(&["show", &image]);
    assert!(text.contains("changed:     2026-09-21T14:13:20Z"), "{text}");
    assert!(text.contains("over the settings, of 2026-09-21T14:13:20Z"), "{text}");
}

#[test]
fn settings_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("boot.conf");
    let name = conf.to_str().unwrap();
    fs::write(&conf, "BOOTORDER=0xf1\nBOOT_ORDER=0xf31\n").unwrap();
    let output = run(&["check", name]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("warning: line 1: BOOTORDER is no setting that is known: is BOOT_ORDER meant?"),
        "{text}"
    );
    assert!(text.contains("error: line 2: BOOT_ORDER=0xf31: rpiboot (3) waits for ever"), "{text}");
    let json = run(&["check", "--json", name]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&report["errors"], &report["findings"][1]["line"]), (&1.into(), &2.into()));
    assert_eq!(report["findings"][0]["severity"], "warning");
    fs::write(&conf, "BOOT_ORDER=0xf17\nHTTP_HOST=x\n").unwrap();
    assert!(said(&["check", name]).contains("nothing was found"));
    fs::write(&conf, "# \u{e9}\n").unwrap();
    assert!(!run(&["check", name]).status.success());
    assert!(refused(&["check", name, "--key", "public.pem"]).contains("no image"));
    assert!(said(&["check", "tftp.conf", "--board", "cm4"]).contains("warning: line 5"));
}

#[test]
fn images_are_checked() {
    assert!(said(&["check", IMAGE]).contains("NET_INSTALL_AT_POWER_ON=1"));
    let (_folder, without_key) = edited("a.bin", &["-c", "http.conf"]);
    let output = run(&["check", &without_key]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("takes only what Raspberry Pi has signed"));
    let (_folder, with_key) = edited("b.bin", &["-c", "http.conf", "-p", "public.pem"]);
    let text = said(&["check", &with_key, "--key", "public.pem", "--board", "cm4"]);
    assert!(text.contains("eMMC of a CM4") && text.contains("FREEZE_VERSION=1"), "{text}");
    assert!(refused(&["check", IMAGE, "--key", "public.pem"]).contains("do not put it on a Pi"));
    assert!(refused(&["check", &with_key, "--board", "pi5"]).contains("1 error"));
}
