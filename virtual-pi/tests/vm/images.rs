//! Images of a boot into RAM that lie over each other, and what survives a reboot: the newest serial number that was
//! booted, and how many boots came to nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::site::images::{folder, program, run};
use crate::site::{Images, LIMIT, Server, layer, ssh_ok, wait, wait_console};

tests![
    an_overlay_that_is_missing_or_tampered_with_is_waited_for_and_wins,
    swap_in_compressed_ram_goes_along,
    an_image_that_is_older_than_the_one_booted_before_is_refused,
    boots_that_come_to_nothing_are_counted_and_then_one_stays,
];

const STATE: &str = "lifeboat.state=LABEL=state:/lifeboat.json";

/// A disk with an empty file system on it.
fn state_disk(folder: &Path) -> PathBuf {
    let disk = folder.join("disk");
    run(Command::new("/sbin/mke2fs").args(["-q", "-t", "ext4", "-L", "state"]).arg(&disk).arg("16M"));
    disk
}

/// The file on it. The machine is off: a journal that is full is played back, as the next boot would.
fn state_on(disk: &Path) -> serde_json::Value {
    let _ = Command::new("/sbin/e2fsck").args(["-f", "-p"]).arg(disk).output();
    let read = Command::new("/sbin/debugfs").args(["-R", "cat /lifeboat.json"]).arg(disk).output().unwrap();
    let text = String::from_utf8_lossy(&read.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// An OS and a site's overlay. The overlay comes late, then with a wrong byte, then as it was signed.
fn an_overlay_that_is_missing_or_tampered_with_is_waited_for_and_wins() {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    let folder = tempfile::tempdir_in(folder()).unwrap();
    let squashfs = layer::make(folder.path(), &Images::get().image_key);
    let (os, site) = (server.url("tiny.squashfs"), server.url("site.squashfs"));
    let machine = server.power_on(&format!("root=live:{os} lifeboat.layer={site}"));
    let status = wait(&machine, "404", |status| status.last_error.is_some());
    assert!(status.goal.contains(&format!("{os} + {site}")), "{}", status.goal);
    let error = status.last_error.unwrap();
    assert!(error.step == "manifest" && error.error.contains("site.json: the server says 404"), "{error:?}");

    let good = std::fs::read(&squashfs).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    for name in ["site.json", "site.json.minisig"] {
        server.put(name, &std::fs::read(folder.path().join(name)).unwrap());
    }
    server.put("site.squashfs", &bad);
    let refused = |status: &init::status::BootStatus| {
        let named = |error: &init::status::StepError| {
            error.step == "fetch" && error.error.contains("is not what was signed")
        };
        status.last_error.as_ref().is_some_and(named)
    };
    let error = wait(&machine, "a refusal", refused).last_error.unwrap().error;
    assert!(error.contains("site.squashfs"), "{error}");
    assert!(ssh_ok(&machine, "rescue status").contains("site.squashfs"));

    server.put("site.squashfs", &good);
    wait_console(&machine, "SITE-OS end");
    let console = machine.console();
    assert!(console.contains("lowerdir=/run/lifeboat/layers/1:/run/lifeboat/lower,"), "{console}");
    assert!(console.contains("SITE-OS noise gone"), "a file of the OS is taken away: {console}");
    // Not a byte of the OS was fetched again.
    assert!(console.contains("tiny.squashfs: fetched 0 B in"), "{console}");
}

fn swap_in_compressed_ram_goes_along() {
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    let folder = tempfile::tempdir_in(folder()).unwrap();
    server.put_os(&layer::make(folder.path(), &Images::get().image_key));
    let machine = server.power_on(&format!(
        "root=live:{} lifeboat.layer={} lifeboat.zram=64M lifeboat.overlay=128M rd.break",
        server.url("tiny.squashfs"),
        server.url("site.squashfs")
    ));
    wait(&machine, "the hold", |status| status.next.contains("held by rd.break"));
    let swaps = ssh_ok(&machine, "cat /proc/swaps");
    assert!(swaps.contains("/dev/zram0") && swaps.contains("65532"), "{swaps}");
    assert!(machine.console().contains("and zram lends 32.0 MiB"), "{}", machine.console());
    ssh_ok(&machine, "rescue continue");
    wait_console(&machine, "SITE-OS swaps .*/dev/zram0");
    wait_console(&machine, "SITE-OS end");
}

/// Invariant 5, across boots.
fn an_image_that_is_older_than_the_one_booted_before_is_refused() {
    let server = Server::start();
    let folder = tempfile::tempdir_in(folder()).unwrap();
    let disk = state_disk(folder.path());
    let serve = |serial: u64| {
        let manifest = std::fs::read(Images::get().tiny.with_extension("json")).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        manifest["serial"] = serial.into();
        let json = folder.path().join("tiny.json");
        std::fs::write(&json, manifest.to_string()).unwrap();
        let mut sign = Command::new(program("boot-files"));
        run(sign.arg("sign").arg(&json).arg("--key").arg(&Images::get().image_key));
        // The signature first: of two files none can be replaced with the other in one step, and a mismatch is only a try.
        for name in ["tiny.json.minisig", "tiny.json"] {
            server.put(name, &std::fs::read(folder.path().join(name)).unwrap());
        }
    };
    server.put("tiny.squashfs", &std::fs::read(&Images::get().tiny).unwrap());
    let power_on = || {
        let words = format!("root=live:{} {STATE}", server.url("tiny.squashfs"));
        server.power_on_with(&words, |options| options.disks.push(disk.clone()))
    };

    serve(7);
    let machine = power_on();
    wait_console(&machine, "TEST-OS end");
    assert!(machine.console().contains("lifeboat.json is not there yet"), "{}", machine.console());
    drop(machine);
    assert_eq!(state_on(&disk), serde_json::json!({"format": 1, "serials": {"tiny": 7}, "unfinished": 0}));

    serve(6);
    let machine = power_on();
    let status = wait(&machine, "a refusal", |status| status.last_error.is_some());
    let error = status.last_error.unwrap();
    assert!(
        error.step == "manifest" && error.error.contains("older than 7 that an earlier boot"),
        "{error:?}"
    );
    ssh_ok(&machine, "true");
    serve(8);
    wait_console(&machine, "TEST-OS end");
    drop(machine);
    assert_eq!(state_on(&disk)["serials"]["tiny"], 8);
}

/// Invariant 2, and its bound: what two reboots did not mend a third will not.
fn boots_that_come_to_nothing_are_counted_and_then_one_stays() {
    const REBOOT: &str = "neither progress nor a login for 15 s: rebooting";
    let server = Server::start();
    let folder = tempfile::tempdir_in(folder()).unwrap();
    let disk = state_disk(folder.path());
    let missing = server.url("missing.squashfs");
    let words = format!("root=live:{missing} {STATE} lifeboat.reboots=2 lifeboat.reboot_after=15");
    let machine = server.power_on_with(&words, |options| {
        options.disks.push(disk.clone());
        options.reboots = true;
        options.time_limit = LIMIT * 3;
    });
    for made in 0..2 {
        wait_console(&machine, &format!("reboots: {made} of 2 were made"));
    }
    machine.wait_for_console("reboots: none any more: 2 boots in a row came to nothing", LIMIT * 2).unwrap();
    let (mark, words) = (machine.mark(), "none any more");
    assert_eq!(machine.console().matches(REBOOT).count(), 2, "{}", machine.console());
    let is_used_up =
        |status: &init::status::BootStatus| status.reboots.as_ref().is_some_and(|r| r.starts_with(words));
    let began = wait(&machine, "the bound", is_used_up).uptime_ms;
    // Long past the time at which the others started anew, it still tries.
    let still_trying = |status: &init::status::BootStatus| {
        let late =
            |error: &init::status::StepError| error.step == "manifest" && error.uptime_ms > began + 45_000;
        is_used_up(status) && status.last_error.as_ref().is_some_and(late)
    };
    machine.wait_for_report_after(mark, still_trying, LIMIT).unwrap();
    assert_eq!(machine.console().matches(REBOOT).count(), 2, "{}", machine.console());
    // Who logs in ends the row.
    assert!(ssh_ok(&machine, "rescue status").contains("Reboots   none any more: 2 boots"));
    let look = "rescue state get LABEL=state:/lifeboat.json | grep -q unfinished.:0 && exit 0";
    ssh_ok(&machine, &format!("for n in $(seq 60); do {look}; sleep 1; done; exit 1"));
    drop(machine);
    assert_eq!(state_on(&disk)["unfinished"], 0);
}
