//! `rescue` as it is typed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::{Command, Output};

fn rescue(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rescue")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn an_unknown_verb_is_named_in_one_line() {
    for arguments in [["reboot-it"].as_slice(), &["help", "reboot-it"]] {
        let out = rescue(arguments);
        assert_eq!(out.status.code(), Some(2));
        let said = text(&out.stderr);
        assert!(
            said.contains("\"reboot-it\"") && said.contains("status") && said.lines().count() == 1,
            "{said}"
        );
    }
}

#[test]
fn help_names_every_verb_and_option() {
    for arguments in [[].as_slice(), &["help"], &["--help"]] {
        let out = rescue(arguments);
        assert!(
            out.status.success()
                && text(&out.stdout).contains("sshd")
                && text(&out.stdout).contains("status")
        );
        assert!(!text(&out.stdout).contains("sshd-session"));
    }
    for option in ["--listen", "--authorized-keys", "--host-key", "--shell", "--run-dir", "--kmsg"] {
        assert!(text(&rescue(&["sshd", "--help"]).stdout).contains(option), "{option}");
    }
    assert_eq!(rescue(&["help", "status"]).stdout, rescue(&["status", "-h"]).stdout);
    assert_eq!(text(&rescue(&["--version"]).stdout), format!("rescue {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_and_failure_differ() {
    let out = rescue(&["sshd", "--password"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("--password") && text(&out.stderr).lines().count() == 1);
    // An address that no machine has (RFC 5737).
    let out =
        rescue(&["sshd", "--listen", "192.0.2.1:1", "--kmsg", "/nowhere/kmsg", "--run-dir", "/nowhere"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("192.0.2.1:1") && text(&out.stderr).lines().count() == 1);
}

#[test]
fn the_status_is_plain_in_a_pipe_and_has_a_format() {
    let folder = tempfile::tempdir().unwrap();
    let boot = r#"{"goal":"rescue","step":"network","number":4,"total":6,"state":"waiting","uptime_ms":9,"next":"Plug in a cable."}"#;
    std::fs::write(folder.path().join("boot.json"), boot).unwrap();
    let run = folder.path().to_str().unwrap();
    let out = text(&rescue(&["status", "--run-dir", run]).stdout);
    assert!(out.contains("Step      4/6 network: waiting\n") && out.contains("Plug in a cable."), "{out}");
    assert!(!out.contains('\x1b'));
    let json: serde_json::Value =
        serde_json::from_slice(&rescue(&["status", "--json", "--run-dir", run]).stdout).unwrap();
    assert_eq!((&json["format"], &json["boot"]["step"]), (&1.into(), &"network".into()));
    assert!(json["disks"].is_array() && json["machine"]["memory"].as_u64().unwrap() > 0);
}

#[test]
fn verbs_for_disks_have_one_table_of_exit_codes() {
    for wrong in [
        ["fsck"].as_slice(),
        &["fsck", "--all", "/dev/sda"],
        &["fsck", "--type", "ntfs", "/dev/sda"],
        &["mount"],
        &["mount", "a", "b", "c"],
        &["umount"],
        &["umount", "--all", "/mnt"],
        &["disks", "--jsno"],
    ] {
        let out = rescue(wrong);
        assert_eq!(out.status.code(), Some(2), "{wrong:?}");
        assert_eq!(text(&out.stderr).lines().count(), 1, "{wrong:?}: {}", text(&out.stderr));
    }
    for refused in [
        ["fsck", "--yes", "/dev/no-such-disk"].as_slice(),
        &["mount", "/dev/no-such-disk"],
        &["umount", "LABEL=no-such-disk"],
        &["disks", "/etc/passwd"],
    ] {
        let out = rescue(refused);
        assert_eq!(out.status.code(), Some(3), "{refused:?}: {}", text(&out.stderr));
        assert_eq!(text(&out.stderr).lines().count(), 1, "{refused:?}: {}", text(&out.stderr));
    }
}

#[test]
fn the_disks_of_this_machine_are_an_object_with_a_format() {
    let out = rescue(&["disks", "--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(json["format"] == 1 && json["devices"].is_array() && json["volume_groups"].is_array());
}

#[test]
fn the_help_of_each_verb_fits_a_terminal() {
    for verb in ["status", "disks", "fsck", "mount", "umount", "sshd"] {
        let help = text(&rescue(&["help", verb]).stdout);
        assert!(help.contains("Usage:") && help.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
}
