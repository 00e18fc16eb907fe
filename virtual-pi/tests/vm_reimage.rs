//! The runbook "Re-image a disk": each of its commands, as written, against a virtual Pi with USB disks.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod site;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use site::images::{folder, program, run};
use site::{HOST, Images, LIMIT, Server, ssh, ssh_ok, ssh_options};
use virtual_pi::machine::Machine;

#[test]
fn every_command_of_the_runbook_does_what_it_says() {
    let book = std::fs::read_to_string(site::workspace().join("docs/reimage.md")).unwrap();
    let commands = commands(&book);
    assert!(commands.len() > 10, "{commands:?}");
    let here = tempfile::tempdir_in(folder()).unwrap();
    make_disks(here.path());
    let server = Server::start();
    let machine = server.power_on_with("", |options| {
        options.qemu_arguments = ["-device", "qemu-xhci"].map(Into::into).into();
        for name in ["sda", "sdb"] {
            let drive = format!("if=none,id={name},format=raw,file={}", here.path().join(name).display());
            options.qemu_arguments.extend(["-drive", &drive].map(Into::into));
        }
    });
    // One after the other: the kernel numbers disks in the order in which they answer.
    for (name, node) in [("sda", "/dev/sda"), ("sdb", "/dev/sdb1")] {
        machine.qmp("device_add", &json!({"driver": "usb-storage", "drive": name})).expect("plugging in");
        ssh_ok(&machine, &format!("timeout 120 sh -c 'until test -b {node}; do sleep 0.2; done'"));
    }
    let path = path(here.path(), &machine);
    for command in &commands {
        if command == "ssh pi reboot" {
            // Whatever came before, the disk is that of the image, and its file system fills it.
            ssh_ok(
                &machine,
                "mkdir -p /mnt/new && mount -o ro /dev/sda1 /mnt/new && grep -q text /mnt/new/text && umount /mnt/new",
            );
            let parts = ssh_ok(&machine, "cat /sys/block/sda/sda1/size");
            assert_eq!(parts.trim(), ((40 - 4) * 2048).to_string());
        }
        let said = shell(here.path(), &path, &as_here(command, here.path(), &server), command);
        if command.contains("rescue write") && !command.contains("--grow") && !command.contains("--dry-run") {
            assert!(said.contains("written in"), "{said}");
        }
        if command.contains("> card.img.zst") {
            run(Command::new("bash")
                .current_dir(here.path())
                .args(["-c", "zstd -dqc card.img.zst | cmp - sda"]));
        }
    }
    machine.wait_for_end(LIMIT).unwrap();
}

/// The lines of the fenced blocks.
fn commands(book: &str) -> Vec<String> {
    let blocks = book.split("```").skip(1).step_by(2);
    blocks.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect()
}

/// What stands for something in the book: addresses, hashes, the server's folder.
fn as_here(command: &str, here: &Path, server: &Server) -> String {
    let file = if command.contains("card.img.zst") { "card.img.zst" } else { "disk.img.xz" };
    let hex = if command.contains("HEX") { hash(&here.join(file)) } else { String::new() };
    command
        .replace("192.0.2.10", &format!("{HOST}:{}", server.port))
        .replace("HEX", &hex)
        .replace("/srv/boot/", &format!("{}/", server.root.path().display()))
}

/// Runs a line as a person does: on a terminal where it asks for one, with "y" typed.
fn shell(here: &Path, path: &str, line: &str, written: &str) -> String {
    let mut command = Command::new(if written.contains("ssh -t") { "script" } else { "bash" });
    if written.contains("ssh -t") {
        command.args(["--quiet", "--return", "--command", line, "/dev/null"]);
    } else {
        command.args(["-o", "pipefail", "-ec", line]);
    }
    let mut child = command
        .current_dir(here)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script (Debian package: bsdutils)");
    let mut keyboard = child.stdin.take().unwrap();
    let _ = keyboard.write_all(b"y\n");
    if !written.contains("ssh -t") {
        drop(keyboard);
    }
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // The connection of a machine that reboots may break.
    assert!(output.status.success() || written == "ssh pi reboot", "{written}: {said}");
    said
}

/// A PATH where `ssh` has the configuration that the book asks for, and `boot-files` is ours.
fn path(here: &Path, machine: &Machine) -> String {
    let bin = here.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let options: Vec<String> = ssh_options(machine).into_iter().map(|word| format!("'{word}'")).collect();
    let wrapper = format!(
        "#!/bin/sh\nexec /usr/bin/ssh {} -o HostName=127.0.0.1 -o User=root \"$@\"\n",
        options.join(" ")
    );
    std::fs::write(bin.join("ssh"), wrapper).unwrap();
    std::fs::set_permissions(bin.join("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(ssh(machine, "true").status.success());
    let ours = program("boot-files").parent().unwrap().display().to_string();
    format!("{}:{ours}:{}", bin.display(), std::env::var("PATH").unwrap())
}

/// An old disk, a USB disk with a file system, a new image, and the key that signs it.
fn make_disks(here: &Path) {
    let script = "mkdir root && yes 'some text' | head -n 20000 > root/text
        truncate -s 12M ext4 && mke2fs -q -t ext4 -d root ext4
        truncate -s 16M disk.img && echo 'start=4MiB, type=83' | sfdisk -q disk.img
        dd if=ext4 of=disk.img bs=1M seek=4 conv=notrunc status=none
        xz -1k disk.img
        head -c 40M /dev/zero | tr '\\0' 'o' > sda
        truncate -s 60M usb && mke2fs -q -t ext4 usb
        truncate -s 64M sdb && echo 'start=4MiB, type=83' | sfdisk -q sdb
        dd if=usb of=sdb bs=1M seek=4 conv=notrunc,sparse status=none";
    run(Command::new("bash").args(["-ec", script]).current_dir(here));
    std::fs::copy(&Images::get().image_key, here.join("image.key")).unwrap();
}

fn hash(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().into()
}
