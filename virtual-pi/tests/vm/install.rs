//! A disk image that a signed plan has written to a Pi's disk: an empty one at once, another only in the boot that the plan names.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::site::images::{folder, run, sign, tiny_root};
use crate::site::{Server, ssh_ok, wait, wait_console};

tests![
    an_empty_disk_is_installed_once,
    a_disk_with_something_on_it_takes_the_name_of_the_boot,
    what_somebody_did_after_a_try_that_failed_is_kept,
];

const OWN: &str = "plans/10000000abcdef01.json";
const OTHER_BOOT: &str = "lifeboat.install_boot=0d1c8a52-3f4e-4b6a-9c7d-0123456789ab";
/// Between the table and the partition: a second install would take it away.
const MARK: (&[u8], u64) = (b"written by somebody", 2 << 20);

/// `disk.img` with the test OS in its only partition, labelled `installed`, and its signature, on the server.
fn put_disk_image(server: &Server, here: &Path) {
    tiny_root(&here.join("root"));
    run(Command::new("bash").current_dir(here).args([
        "-ec",
        "truncate -s 12M ext4 && mke2fs -q -t ext4 -L installed -d root ext4
        truncate -s 16M disk.img && echo 'start=4MiB, type=83' | sfdisk -q disk.img
        dd if=ext4 of=disk.img bs=1M seek=4 conv=notrunc status=none",
    ]));
    sign(&here.join("disk.img"));
    for name in ["disk.img", "disk.img.minisig"] {
        server.put(name, &std::fs::read(here.join(name)).unwrap());
    }
}

/// A signed plan that installs it, with more words.
fn put_plan(server: &Server, here: &Path, more: &str) {
    let url = server.url("disk.img");
    let parameters =
        format!("lifeboat.install={url} lifeboat.install_to=/dev/vda root=LABEL=installed {more}");
    let plan = json!({"format": 1, "device": "10000000abcdef01", "parameters": parameters}).to_string();
    let file = here.join("plan.json");
    std::fs::write(&file, &plan).unwrap();
    sign(&file);
    std::fs::create_dir_all(server.root.path().join("plans")).unwrap();
    server.put(&format!("{OWN}.minisig"), &std::fs::read(here.join("plan.json.minisig")).unwrap());
    server.put(OWN, plan.as_bytes());
}

fn an_empty_disk_is_installed_once() {
    let here = tempfile::tempdir_in(folder()).unwrap();
    let server = Server::start();
    put_disk_image(&server, here.path());
    // Of another boot: whoever kept it does nothing with it, not even to an empty disk.
    put_plan(&server, here.path(), OTHER_BOOT);
    let disk = here.path().join("vda");
    std::fs::File::create(&disk).unwrap().set_len(40 << 20).unwrap();
    let power_on = || {
        server.power_on_with(&format!("lifeboat.server={}", server.url("")), |options| {
            options.disks = vec![disk.clone()];
        })
    };
    let machine = power_on();
    wait_console(&machine, "this is not the boot to overwrite it");
    wait_console(&machine, "no device has LABEL=installed");
    assert!(std::fs::read(&disk).unwrap().iter().all(|byte| *byte == 0), "nothing was written");
    put_plan(&server, here.path(), "");
    wait_console(&machine, "/dev/vda: 16.0 MiB written and right");
    wait_console(&machine, "TEST-OS root ext4");
    machine.kill();
    drop(machine);
    let disk_file = std::fs::File::options().read(true).write(true).open(&disk).unwrap();
    disk_file.write_all_at(MARK.0, MARK.1).unwrap();
    // The same plan in the next boot.
    let machine = power_on();
    wait_console(
        &machine,
        "/dev/vda is not empty, and this is not the boot to overwrite it: nothing is installed",
    );
    wait_console(&machine, "TEST-OS root ext4");
    let mut there = [0; MARK.0.len()];
    disk_file.read_exact_at(&mut there, MARK.1).unwrap();
    assert_eq!(there, MARK.0);
}

fn a_disk_with_something_on_it_takes_the_name_of_the_boot() {
    let here = tempfile::tempdir_in(folder()).unwrap();
    let server = Server::start();
    put_disk_image(&server, here.path());
    put_plan(&server, here.path(), OTHER_BOOT);
    let disk = here.path().join("vda");
    let old = vec![b'o'; 40 << 20];
    std::fs::write(&disk, &old).unwrap();
    let machine = server.power_on_with(&format!("lifeboat.server={}", server.url("")), |options| {
        options.disks = vec![disk.clone()];
    });
    wait(&machine, "no such disk", |status| {
        status.last_error.as_ref().is_some_and(|error| error.error.contains("LABEL=installed"))
    });
    assert!(std::fs::read(&disk).unwrap() == old, "nothing was written");
    let boot = ssh_ok(&machine, "cat /proc/sys/kernel/random/boot_id");
    put_plan(&server, here.path(), &format!("lifeboat.install_boot={}", boot.trim()));
    wait_console(&machine, "/dev/vda: 16.0 MiB written and right");
    wait_console(&machine, "TEST-OS root ext4");
}

/// The image's signature is missing at first; before it comes, somebody writes to the disk that was empty.
fn what_somebody_did_after_a_try_that_failed_is_kept() {
    let here = tempfile::tempdir_in(folder()).unwrap();
    let server = Server::start();
    put_disk_image(&server, here.path());
    std::fs::remove_file(server.root.path().join("disk.img.minisig")).unwrap();
    put_plan(&server, here.path(), "");
    let disk = here.path().join("vda");
    std::fs::File::create(&disk).unwrap().set_len(40 << 20).unwrap();
    let machine = server.power_on_with(&format!("lifeboat.server={}", server.url("")), |options| {
        options.disks = vec![disk.clone()];
    });
    wait(&machine, "a failure", |status| {
        status
            .last_error
            .as_ref()
            .is_some_and(|error| error.step == "install" && error.error.contains("minisig"))
    });
    ssh_ok(&machine, "echo 'a table, say' | dd of=/dev/vda conv=fsync");
    let signature = std::fs::read(here.path().join("disk.img.minisig")).unwrap();
    server.put("disk.img.minisig", &signature);
    wait_console(
        &machine,
        "/dev/vda is not empty, and this is not the boot to overwrite it: nothing is installed",
    );
    assert!(std::fs::read(&disk).unwrap().starts_with(b"a table, say"));
}
