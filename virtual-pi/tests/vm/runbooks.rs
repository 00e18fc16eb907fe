//! The runbooks of docs/: each of their commands, as written, against a virtual Pi.

use std::path::Path;
use std::process::Command;

use crate::site::desk::{Desk, commands};
use crate::site::images::{folder, run, tiny_root};
use crate::site::{HOST, Images, LIMIT, Server, ssh_ok, wait, wait_console};
use serde_json::json;
use virtual_pi::machine::{Machine, Options};

tests![re_image_a_disk, repair_a_disk, unlock_a_pi_from_far_away,];

fn bash(here: &Path, script: &str) {
    run(Command::new("bash").current_dir(here).args(["-ec", script]));
}

/// A USB disk that can be plugged in, or is.
fn usb_disk(options: &mut Options, here: &Path, name: &str, plugged_in: bool) {
    if options.qemu_arguments.is_empty() {
        options.qemu_arguments = ["-device", "qemu-xhci"].map(Into::into).into();
    }
    let drive = format!("if=none,id={name},format=raw,file={}", here.join(name).display());
    options.qemu_arguments.extend(["-drive", &drive].map(Into::into));
    if plugged_in {
        let device = format!("usb-storage,drive={name}");
        options.qemu_arguments.extend(["-device", &device].map(Into::into));
    }
}

fn re_image_a_disk() {
    let commands = commands("reimage.md", "# ", "");
    assert!(commands.len() > 10, "{commands:?}");
    let here = tempfile::tempdir_in(folder()).unwrap();
    make_disks(here.path());
    let server = Server::start();
    let machine = server.power_on_with("", |options| {
        for name in ["sda", "sdb"] {
            usb_disk(options, here.path(), name, false);
        }
    });
    wait(&machine, "rescue", |status| status.step == "rescue");
    // One after the other: the kernel numbers disks in the order in which they answer.
    for (name, node) in [("sda", "/dev/sda"), ("sdb", "/dev/sdb1")] {
        machine.qmp("device_add", &json!({"driver": "usb-storage", "drive": name})).expect("plugging in");
        ssh_ok(&machine, &format!("timeout 120 sh -c 'until test -b {node}; do sleep 0.2; done'"));
    }
    let desk = Desk::new(here.path(), &machine);
    for command in &commands {
        let line = as_here(command, here.path(), &server);
        match command.as_str() {
            "ssh pi reboot" => {
                // Whatever came before, the disk is that of the image, and its file system fills it.
                let parts = ssh_ok(&machine, "cat /sys/block/sda/sda1/size");
                assert_eq!(parts.trim(), ((40 - 4) * 2048).to_string());
                // The connection of a machine that reboots may break.
                desk.run(&line);
            }
            asks if asks.contains("ssh -t") => {
                let said = desk.answer(&line, &[("[y/N]", "y\n")]).ok(&line);
                assert!(said.contains("written in"), "{said}");
            }
            _ => {
                let said = desk.run(&line).ok(&line);
                let writes = command.contains("rescue write") && !command.contains("--dry-run");
                assert!(!writes || said.contains("written in"), "{said}");
            }
        }
        if command.contains("> card.img.zst") {
            bash(here.path(), "zstd -dqc card.img.zst | cmp - sda");
        }
    }
    machine.wait_for_end(LIMIT).unwrap();
    drop(machine);

    // What was written boots.
    let machine =
        server.power_on_with("root=/dev/sda1", |options| usb_disk(options, here.path(), "sda", true));
    wait_console(&machine, "TEST-OS root ext4");
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

/// An old disk, a USB disk with a file system, a new image, and the key that signs it.
fn make_disks(here: &Path) {
    tiny_root(&here.join("root"));
    bash(
        here,
        "truncate -s 12M ext4 && mke2fs -q -t ext4 -d root ext4
        truncate -s 16M disk.img && echo 'start=4MiB, type=83' | sfdisk -q disk.img
        dd if=ext4 of=disk.img bs=1M seek=4 conv=notrunc status=none
        xz -1k disk.img
        head -c 40M /dev/zero | tr '\\0' 'o' > sda
        truncate -s 60M usb && mke2fs -q -t ext4 usb
        truncate -s 64M sdb && echo 'start=4MiB, type=83' | sfdisk -q sdb
        dd if=usb of=sdb bs=1M seek=4 conv=notrunc,sparse status=none",
    );
    std::fs::copy(&Images::get().image_key, here.join("image.key")).unwrap();
}

fn hash(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().into()
}

fn repair_a_disk() {
    let commands = commands("rescue-disks.md", "## Repair a disk", "## rescue disks");
    assert!(commands.len() > 10, "{commands:?}");
    let here = tempfile::tempdir_in(folder()).unwrap();
    make_damaged_disk(here.path());
    let server = Server::start();
    let machine = server.power_on_with("", |options| options.disks = vec![here.path().join("vda")]);
    wait(&machine, "rescue", |status| status.step == "rescue");
    let desk = Desk::new(here.path(), &machine);
    let mut checks = 0;
    for command in &commands {
        match command.as_str() {
            "ssh pi rescue fsck --dry-run --all" => {
                let said = desk.run(command);
                assert!(said.status.code() == Some(4) && said.text.contains("/dev/vda2"), "{}", said.text);
            }
            "ssh -t pi rescue fsck /dev/vda2" => {
                let said = desk.answer(command, &[("[y/N]", "y\n")]).ok(command);
                assert!(said.contains("repaired"), "{said}");
                checks += 1;
            }
            "ssh pi rescue fsck /dev/vda2" => {
                desk.run(command).ok(command);
                checks += 1;
            }
            "ssh -t pi chroot /mnt/root" => {
                let answers = [("#", "echo fixed > /etc/mended; echo do''ne\n"), ("done", "exit\n")];
                desk.answer(command, &answers).ok(command);
            }
            _ => drop(desk.run(command).ok(command)),
        }
    }
    assert_eq!(checks, 2, "{commands:?}");
    // What was rescued before the repair, and what was changed after it.
    let rescued = std::fs::read_to_string(here.path().join("rescued-etc/fstab")).unwrap();
    assert!(rescued.contains("/boot/firmware"), "{rescued}");
    ssh_ok(&machine, "sync");
    drop(machine);
    bash(
        here.path(),
        "dd if=vda of=after bs=1M skip=36 status=none && e2fsck -fn after && debugfs -R 'cat /etc/mended' after | grep fixed",
    );
}

/// A disk of a Pi whose root counts its blocks wrongly.
fn make_damaged_disk(here: &Path) {
    tiny_root(&here.join("root"));
    bash(
        here,
        "mkdir -p root/etc root/boot/firmware && ln -s busybox root/bin/sh
        printf 'LABEL=rootfs / ext4 defaults 0 1\\nLABEL=bootfs /boot/firmware vfat defaults 0 2\\n' > root/etc/fstab
        printf 'NAME=test\\nPRETTY_NAME=\"A test\"\\n' > root/etc/os-release
        truncate -s 32M boot && mkfs.vfat -n bootfs boot > boot.log
        truncate -s 48M ext4 && mke2fs -q -t ext4 -L rootfs -d root ext4
        debugfs -w -R 'set_bg 0 free_blocks_count 1' ext4 && debugfs -w -R 'sif /etc/fstab links_count 7' ext4
        debugfs -w -R 'ssv state 2' ext4
        truncate -s 84M vda && printf 'start=4MiB, size=32MiB, type=c\\nstart=36MiB, type=83\\n' | sfdisk -q vda
        dd if=boot of=vda bs=1M seek=4 conv=notrunc,sparse status=none
        dd if=ext4 of=vda bs=1M seek=36 conv=notrunc,sparse status=none",
    );
}

fn unlock_a_pi_from_far_away() {
    let at_boot = commands("unlock.md", "## 2.", "## 3.");
    assert_eq!(at_boot, ["ssh -t pi rescue unlock", "ssh pi rescue unlock < passphrase-file"]);
    let by_hand = commands("unlock.md", "## 3.", "## Whose kernel");
    assert_eq!(by_hand, ["ssh -t pi rescue unlock", "ssh -t pi rescue boot"]);
    let here = tempfile::tempdir_in(folder()).unwrap();
    std::fs::write(here.path().join("passphrase-file"), "over the wire\n").unwrap();
    std::fs::File::create(here.path().join("sda")).unwrap().set_len(96 << 20).unwrap();
    let server = Server::start();
    server.put_os(&Images::get().tiny);
    let power_on =
        |words: &str| server.power_on_with(words, |options| usb_disk(options, here.path(), "sda", true));
    let typed = [("Passphrase for", "over the wire\n")];

    let machine = power_on("");
    make_encrypted_disk(&machine, &server);
    let mut uuid = String::new();
    for command in commands("unlock.md", "## 1.", "## 2.") {
        uuid = Desk::new(here.path(), &machine).run(&command).ok(&command).trim().to_owned();
    }
    drop(machine);

    // The words of the book's own example.
    let book = std::fs::read_to_string(crate::site::workspace().join("docs/unlock.md")).unwrap();
    let words = "rd.luks.uuid=UUID root=LABEL=root";
    assert_eq!(book.matches(words).count(), 2, "in image.toml, and for init --explain");
    let words = words.replace("UUID", &uuid);
    for command in &at_boot {
        let machine = power_on(&words);
        wait(&machine, "unlock", |status| status.step == "unlock" && status.next.contains("passphrase"));
        let answers: &[_] = if command.contains("ssh -t") { &typed } else { &[] };
        Desk::new(here.path(), &machine).answer(command, answers).ok(command);
        wait_console(&machine, "TEST-OS root ext4");
    }
    let machine = power_on("");
    ssh_ok(&machine, "timeout 120 sh -c 'until test -b /dev/sda2; do sleep 0.2; done'");
    let desk = Desk::new(here.path(), &machine);
    desk.answer(&by_hand[0], &typed).ok(&by_hand[0]);
    // The connection of a machine that goes on to its OS may break.
    desk.answer(&by_hand[1], &[("[y/N]", "y\n")]);
    wait_console(&machine, "TEST-OS root ext4");
}

fn make_encrypted_disk(machine: &Machine, server: &Server) {
    let script = r#"set -e
until test -b /dev/sda; do sleep 0.2; done
printf 'label: gpt\n,8M,L\n,,L\n' | sfdisk -q /dev/sda
printf 'over the wire' > /root/key
cryptsetup luksFormat --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/sda2 /root/key
cryptsetup open --key-file /root/key /dev/sda2 x
lvm pvcreate -q /dev/mapper/x; lvm vgcreate -q vg /dev/mapper/x; lvm lvcreate -q -y -l 100%FREE -n root vg
mkfs.ext4 -q -L root /dev/vg/root
mkdir -p /mnt/disk /mnt/image; mount /dev/vg/root /mnt/disk
wget -q -O /root/image URL
modprobe squashfs; mount -o loop,ro /root/image /mnt/image
cp -a /mnt/image/. /mnt/disk/
echo 'PRETTY_NAME="A test"' > /mnt/disk/etc/os-release
umount /mnt/disk /mnt/image; rm /root/image; lvm vgchange -q -an vg; cryptsetup close x; sync
"#;
    ssh_ok(machine, &script.replace("URL", &server.url("tiny.squashfs")));
}
