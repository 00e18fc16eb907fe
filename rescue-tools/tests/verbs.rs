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
    for option in [
        "--listen",
        "--authorized-keys",
        "--host-key",
        "--shell",
        "--run-dir",
        "--kmsg",
        "--client-alive-interval",
    ] {
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
fn the_book_has_every_verb_as_it_is() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rescue-verbs.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let made = text(&rescue(&["help", "--markdown"]).stdout);
    let differs = page.lines().zip(made.lines()).find(|(old, new)| old != new);
    assert!(
        page == made,
        "docs/rescue-verbs.md is stale ({differs:?}): make it anew with\n  \
         cargo run -q -p rescue-tools -- help --markdown > docs/rescue-verbs.md"
    );
}

#[test]
fn help_is_as_wide_as_a_terminal_and_tells_the_exit_codes() {
    let list = text(&rescue(&["help"]).stdout);
    let verbs: Vec<&str> = list
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|verb| *verb != "help")
        .collect();
    assert!(verbs.len() > 8, "{list}");
    for verb in verbs {
        let help = text(&rescue(&["help", verb]).stdout);
        assert!(help.starts_with(&format!("rescue {verb}: ")) && help.contains("Usage: rescue "), "{help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{verb}: {line:?}");
        }
    }
}

#[test]
fn the_log_comes_as_text_as_json_and_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let kmsg = folder.path().join("kmsg");
    let records = "6,0,0,-;Linux version 6.12\n4,1,5140900,-;sda: bad sector\n DEVICE=b8:0\n13,2,6000000,-;lifeboat: 1/6 console: done, 3 ms\n";
    std::fs::write(&kmsg, records).unwrap();
    let log = |options: &[&str]| {
        let out = rescue(&[&["log", "--kmsg", kmsg.to_str().unwrap()], options].concat());
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    assert_eq!(log(&[]).lines().count(), 3);
    assert_eq!(log(&["--boot"]), "     6.000 notice lifeboat: 1/6 console: done, 3 ms\n");
    assert_eq!(log(&["--kernel", "-l", "warn"]), "     5.140 warn   sda: bad sector\n");
    let lines: Vec<serde_json::Value> =
        log(&["--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[1]["format"], &lines[1]["device"]), (&1.into(), &"b8:0".into()));
    assert_eq!((&lines[2]["program"], &lines[2]["time_us"]), (&"lifeboat".into(), &6_000_000.into()));
    let file = folder.path().join("log");
    assert_eq!(log(&["-o", file.to_str().unwrap()]), "");
    assert_eq!(std::fs::read_to_string(file).unwrap(), log(&[]));
    for wrong in [["--boot", "--kernel"].as_slice(), &["-l", "loud"], &["-f", "-o", "x"]] {
        assert_eq!(rescue(&[&["log"], wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
    let missing = rescue(&["log", "--kmsg", "/nowhere/kmsg"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("/nowhere/kmsg"));
}

#[test]
fn a_hold_is_a_mark_that_continue_takes_away() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().to_str().unwrap();
    let json = |arguments: &[&str]| -> serde_json::Value {
        let out = rescue(&[arguments, &["--json", "--run-dir", run]].concat());
        assert!(out.status.success(), "{}", text(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    };
    assert_eq!(json(&["hold"])["held"], true);
    let mark = folder.path().join("sessions/hold");
    assert!(mark.exists());
    assert_eq!(json(&["continue", "--dry-run"])["was_held"], true);
    assert!(mark.exists(), "--dry-run changes nothing");
    assert_eq!(json(&["continue"])["was_held"], true);
    assert!(!mark.exists() && folder.path().join("continue").exists());
    // Someone else's work is not cut off without a word, and there is no terminal here to say it on.
    for session in ["4194301", "4194302"] {
        std::fs::write(folder.path().join("sessions").join(session), "").unwrap();
    }
    assert_eq!(json(&["continue"])["waits_for"].as_array().unwrap().len(), 2);
    let out = rescue_alone(&["continue", "--now", "--run-dir", run]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    assert!(json(&["continue", "--now", "--yes"])["waits_for"].as_array().unwrap().is_empty());
    assert_eq!(std::fs::read_to_string(folder.path().join("continue")).unwrap(), "4194301\n4194302\n");
}

/// In a session of its own, so that there is no terminal to ask on.
fn rescue_alone(arguments: &[&str]) -> Output {
    Command::new("setsid").arg("-w").arg(env!("CARGO_BIN_EXE_rescue")).args(arguments).output().unwrap()
}

#[test]
fn an_end_is_refused_before_anything_is_told() {
    for (arguments, code, says) in [
        (["reboot", "--into", "disk"].as_slice(), 3, "not possible here"),
        (&["reboot", "--into", "usb"], 2, "is not rescue, disk, tryboot"),
        (&["poweroff", "--into", "2"], 2, "--into"),
        // This test's PID 1 is not our init: it gets no signal, whatever is said.
        (&["reboot", "--yes"], 1, "PID 1"),
        (&["poweroff", "--yes"], 1, "PID 1"),
    ] {
        let out = rescue_alone(arguments);
        assert_eq!(out.status.code(), Some(code), "{arguments:?}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains(says), "{}", text(&out.stderr));
    }
    let out = rescue_alone(&["poweroff", "--dry-run", "--json"]);
    let plan: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&plan["format"], &plan["told"]), (&1.into(), &false.into()));
    assert!(plan["in_the_way"].is_array());
}

#[test]
fn a_watch_in_a_pipe_is_lines_and_ends_with_its_reader() {
    let out = text(&rescue(&["watch", "--count", "2", "-n", "1"]).stdout);
    assert!(out.lines().count() == 2 && out.contains("; load ") && !out.contains('\x1b'), "{out}");
    let out = text(&rescue(&["watch", "--json", "--count", "1"]).stdout);
    let look: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(look["format"] == 1 && look["memory"]["total"].as_u64().unwrap() > 0, "{out}");
    let piped = format!("{} watch -n 1 | head -n 1", env!("CARGO_BIN_EXE_rescue"));
    let out =
        Command::new("bash").args(["-c", &format!("{piped}; exit ${{PIPESTATUS[0]}}")]).output().unwrap();
    assert_eq!(out.status.code(), Some(0));
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
