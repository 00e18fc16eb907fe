//! Encrypted disks: made in a guest by the rescue's own cryptsetup, unlocked over real SSH, and booted from.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::site::{LIMIT, Server, images, ssh_ok, ssh_options, wait, wait_console};
use serde_json::Value;
use virtual_pi::machine::Machine;

tests![
    luks_of_every_kind_opens_for_the_right_passphrase_only,
    a_debian_on_an_encrypted_disk_boots_once_it_is_unlocked,
    a_debian_on_an_encrypted_disk_boots_by_its_own_kernel,
];

const MIB: u64 = 1 << 20;

fn disks(folder: &Path, sizes_mib: &[u64]) -> Vec<PathBuf> {
    let disk = |(number, size): (usize, &u64)| {
        let path = folder.join(format!("disk{number}"));
        std::fs::File::create(&path).unwrap().set_len(size * MIB).unwrap();
        path
    };
    sizes_mib.iter().enumerate().map(disk).collect()
}

/// [`crate::site::ssh`] with something on standard input.
fn ssh_with_input(machine: &Machine, command: &str, input: &[u8]) -> Output {
    machine.ssh_banner(LIMIT).expect("an SSH banner");
    let mut child = client(machine, &[], command);
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn client(machine: &Machine, more: &[&str], command: &str) -> Child {
    Command::new("ssh")
        .args(ssh_options(machine))
        .args(more)
        .args(["root@127.0.0.1", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ssh (Debian package: openssh-client)")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads what a client on a pty shows until `wanted` is there.
fn read_until(from: &mut impl Read, wanted: &str) -> String {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !text(&seen).contains(wanted) {
        assert_eq!(from.read(&mut byte).unwrap(), 1, "{wanted:?} did not come; there is: {}", text(&seen));
        seen.extend(byte);
    }
    text(&seen)
}

/// Little work for each try, as QEMU computes slowly; the kinds are what counts.
const MAKE: &str = r#"set -e
format() { cryptsetup luksFormat --batch-mode "$@"; }
printf one > /root/one; printf two > /root/two
format --type luks1 --pbkdf-force-iterations 1000 /dev/vda /root/one
format --type luks2 --pbkdf argon2id --pbkdf-memory 32768 --pbkdf-force-iterations 4 --pbkdf-parallel 1 /dev/vdb /root/one
format --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vdc /root/two
format --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --header /root/header /dev/vdd /root/two
cryptsetup open --key-file /root/one /dev/vda a; mkfs.ext4 -q /dev/mapper/a; cryptsetup close a
cryptsetup open --key-file /root/one /dev/vdb b; mkfs.btrfs -q /dev/mapper/b; cryptsetup close b
cryptsetup open --key-file /root/two /dev/vdc c
lvm pvcreate -q /dev/mapper/c; lvm vgcreate -q vg0 /dev/mapper/c; lvm lvcreate -q -y -L 16M -n data vg0
mkfs.ext4 -q /dev/vg0/data; lvm vgchange -q -an vg0; cryptsetup close c
cryptsetup open --key-file /root/two --header /root/header /dev/vdd d; mkfs.ext4 -q /dev/mapper/d; cryptsetup close d
"#;

fn luks_of_every_kind_opens_for_the_right_passphrase_only() {
    let server = Server::start();
    let folder = tempfile::tempdir_in(images::folder()).unwrap();
    let disks = disks(folder.path(), &[64, 256, 64, 64, 64, 64, 64]);
    let machine = server.power_on_with("", |options| options.disks = disks);
    wait(&machine, "rescue", |status| status.step == "rescue");
    ssh_ok(&machine, MAKE);

    let wrong = ssh_with_input(&machine, "rescue unlock", b"three\n");
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    assert_eq!(text(&wrong.stderr), "rescue unlock: wrong passphrase for /dev/vda, /dev/vdb, /dev/vdc\n");
    let empty = ssh_with_input(&machine, "rescue unlock", b"");
    assert_eq!(empty.status.code(), Some(3), "{empty:?}");
    assert_eq!(ssh_ok(&machine, "ls /dev/mapper").trim(), "control", "nothing is open");

    // Somebody types, and the line drops: nothing stays behind.
    let mut dropped = client(&machine, &["-tt"], "rescue unlock");
    read_until(dropped.stdout.as_mut().unwrap(), "Passphrase for");
    dropped.stdin.as_mut().unwrap().write_all(b"on").unwrap();
    dropped.kill().unwrap();
    dropped.wait().unwrap();
    ssh_ok(&machine, "for i in $(seq 100); do pidof rescue | grep -q . && ps | grep -q '[r]escue unlock' || break; sleep 0.1; done
        ! ps | grep -q '[r]escue unlock' && test \"$(ls /dev/mapper)\" = control");

    // Wrong, then right, on a terminal: no echo, and what it does not fit is asked for again.
    let mut typed = client(&machine, &["-tt"], "rescue unlock");
    read_until(typed.stdout.as_mut().unwrap(), "Passphrase for /dev/vda, /dev/vdb, /dev/vdc: ");
    typed.stdin.as_mut().unwrap().write_all(b"three\n").unwrap();
    let seen = read_until(typed.stdout.as_mut().unwrap(), "Passphrase for");
    assert!(seen.contains("wrong passphrase") && !seen.contains("three"), "{seen}");
    typed.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    let seen = read_until(typed.stdout.as_mut().unwrap(), "Passphrase for /dev/vdc, or Enter to leave it: ");
    assert!(
        seen.contains("/dev/vda is open") && seen.contains("/dev/vdb is open") && !seen.contains("one\r"),
        "{seen}"
    );
    typed.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let ended = typed.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(4), "{}", text(&ended.stdout));
    assert!(text(&ended.stdout).contains("/dev/vdc is still locked"), "{}", text(&ended.stdout));

    // LVM comes up by itself, a detached header is taken, and what is open is refused.
    let lvm = ssh_with_input(&machine, "rescue unlock --json", b"two");
    assert!(lvm.status.success(), "{lvm:?}");
    let lvm: Value = serde_json::from_slice(&lvm.stdout).unwrap();
    assert_eq!(lvm["opened"][0]["device"], "/dev/vdc");
    assert_eq!(lvm["devices"][0], "/dev/vg0/data", "{lvm}");
    let detached =
        ssh_with_input(&machine, "rescue unlock --header /root/header --name d /dev/vdd", b"two\n");
    assert!(detached.status.success(), "{detached:?}");
    let again = ssh_with_input(&machine, "rescue unlock /dev/vda", b"one");
    assert_eq!(again.status.code(), Some(3), "{again:?}");
    // A key file is taken as it is.
    ssh_ok(&machine, "cryptsetup close d");
    let exact =
        ssh_with_input(&machine, "rescue unlock --key-file - --header /root/header /dev/vdd", b"two\n");
    assert_eq!(exact.status.code(), Some(1), "{exact:?}");
    for source in [
        "/dev/mapper/luks-$(cryptsetup luksUUID /dev/vda)",
        "/dev/mapper/luks-$(cryptsetup luksUUID /dev/vdb)",
        "/dev/vg0/data",
    ] {
        ssh_ok(&machine, &format!("rescue mount {source} /mnt/x && rescue umount /mnt/x"));
    }
    a_raid_comes_up_and_memory_is_looked_at(&machine);
}

/// A RAID of two encrypted disks, and one whose key slot takes more memory than there will be.
const MAKE_MORE: &str = r#"set -e
format() { cryptsetup luksFormat --batch-mode --type luks2 "$@"; }
printf raid > /root/raid; printf big > /root/big
format --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vde /root/raid
format --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vdf /root/raid
for disk in e f; do cryptsetup open --key-file /root/raid /dev/vd$disk $disk; done
mdadm --quiet --create /dev/md0 --run --assume-clean --level=1 --raid-devices=2 /dev/mapper/e /dev/mapper/f
mkfs.ext4 -q /dev/md0; mdadm --quiet --stop /dev/md0; cryptsetup close e; cryptsetup close f
format --pbkdf argon2id --pbkdf-memory 262144 --pbkdf-force-iterations 4 --pbkdf-parallel 1 /dev/vdg /root/big
"#;

/// Takes all memory but 200 MiB.
const FILL_MEMORY: &str = r#"mkdir -p /mnt/full && mount -t tmpfs -o size=95% none /mnt/full
free=$(awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
dd if=/dev/zero of=/mnt/full/zeroes bs=1M count=$((free - 200)) 2> /dev/null"#;

fn a_raid_comes_up_and_memory_is_looked_at(machine: &Machine) {
    ssh_ok(machine, MAKE_MORE);
    let raid = ssh_with_input(machine, "rescue unlock --json /dev/vde /dev/vdf", b"raid");
    assert!(raid.status.success(), "{raid:?}");
    let raid: Value = serde_json::from_slice(&raid.stdout).unwrap();
    let md = raid["devices"][0].as_str().unwrap();
    assert!(md.starts_with("/dev/md"), "{raid}");
    ssh_ok(machine, &format!("rescue mount {md} /mnt/x && rescue umount /mnt/x"));

    ssh_ok(machine, FILL_MEMORY);
    let refused = ssh_with_input(machine, "rescue unlock /dev/vdg", b"big");
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(3) && said.contains("takes 256.0 MiB of memory"), "{said}");
    ssh_ok(machine, "rm /mnt/full/zeroes");
    assert!(ssh_with_input(machine, "rescue unlock /dev/vdg", b"big").status.success());
}

/// Copies the OS that is served onto an encrypted disk, with the names that an installer would give. The first partition is
/// for `/boot`. `more` is run with the root on `/mnt/disk`.
fn install(url: &str, more: &str) -> String {
    format!(
        r#"set -e
printf 'over the wire' > /root/key
printf 'label: gpt\n,200M,L\n,,L\n' | sfdisk -q /dev/vda
mkfs.ext4 -q /dev/vda1
cryptsetup luksFormat --batch-mode --type luks2 --pbkdf argon2id --pbkdf-memory 32768 --pbkdf-force-iterations 4 \
  --pbkdf-parallel 1 /dev/vda2 /root/key
cryptsetup open --key-file /root/key /dev/vda2 x
mkfs.ext4 -q -L root /dev/mapper/x
mkdir -p /mnt/disk /mnt/image
mount /dev/mapper/x /mnt/disk
mkdir /mnt/disk/boot; mount /dev/vda1 /mnt/disk/boot
wget -q -O /root/image {url}
modprobe squashfs; mount -o loop,ro /root/image /mnt/image
cp -a /mnt/image/. /mnt/disk/
mkdir -p /mnt/disk/usr/lib/modules
echo "vda2_crypt UUID=$(cryptsetup luksUUID /dev/vda2) none luks" > /mnt/disk/etc/crypttab
echo "/dev/mapper/vda2_crypt / ext4 defaults 0 1" > /mnt/disk/etc/fstab
echo "UUID=$(blkid -o value -s UUID /dev/vda1) /boot ext4 defaults 0 2" >> /mnt/disk/etc/fstab
{more}
umount /mnt/disk/boot /mnt/disk /mnt/image; rm /root/image
cryptsetup close x
cryptsetup luksUUID /dev/vda2
"#
    )
}

/// Its own initramfs, as its packages make it, and a command line of its own.
const OWN_KERNEL: &str = r#"
echo "root=/dev/mapper/vda2_crypt ro console=ttyAMA0 own.kernel=yes" > /mnt/disk/etc/kernel/cmdline
printf 'MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\n' > /mnt/disk/etc/initramfs-tools/conf.d/test
printf 'virtio_pci\nvirtio_blk\next4\n' > /mnt/disk/etc/initramfs-tools/modules
for f in dev proc sys; do mount --rbind /$f /mnt/disk/$f; done
ln -sfn /dev/mapper/x /dev/mapper/vda2_crypt
chroot /mnt/disk update-initramfs -c -k all
rm /dev/mapper/vda2_crypt
for f in dev proc sys; do umount -l /mnt/disk/$f; done
ls -l /mnt/disk/boot >&2
"#;

fn a_debian_on_an_encrypted_disk_boots_once_it_is_unlocked() {
    let server = Server::start();
    server.put_os(&images::debian());
    let folder = tempfile::tempdir_in(images::folder()).unwrap();
    let disk = disks(folder.path(), &[1024]);
    let machine = server.power_on_with("", |options| options.disks.clone_from(&disk));
    wait(&machine, "rescue", |status| status.step == "rescue");
    let uuid = ssh_ok(&machine, &install(&server.url("debian.squashfs"), ""));
    ssh_ok(&machine, "sync");
    drop(machine);

    // The boot waits for its human, says so on the console, and goes on by itself.
    let append = format!("rd.luks.uuid={} root=LABEL=root", uuid.trim());
    let machine = server.power_on_with(&append, |options| options.disks.clone_from(&disk));
    let waiting =
        wait(&machine, "unlock", |status| status.step == "unlock" && status.next.contains("passphrase"));
    assert!(waiting.next.contains("rescue unlock"), "{}", waiting.next);
    wait_console(&machine, "waiting for the passphrase of LUKS");
    assert_eq!(ssh_with_input(&machine, "rescue unlock", b"guess").status.code(), Some(1));
    // Somebody is logged in, so that the boot does not go on yet: the passphrase is kept for a kexec, and not beyond.
    let mut stays = client(&machine, &[], "echo in; read line");
    read_until(stays.stdout.as_mut().unwrap(), "in");
    let unlocked = ssh_with_input(&machine, "rescue unlock", b"over the wire\n");
    assert!(unlocked.status.success(), "{unlocked:?}");
    stays.kill().unwrap();
    stays.wait().unwrap();
    runs_from_disk(&machine);
    assert_eq!(kept_passphrases(&machine), "");
    // Under our kernel, whose modules it sees.
    ssh_ok(
        &machine,
        "grep rd.luks.uuid /proc/cmdline && modprobe dm-crypt && test -e /lib/modules/$(uname -r)/modules.dep",
    );
}

fn a_debian_on_an_encrypted_disk_boots_by_its_own_kernel() {
    let server = Server::start();
    server.put_os(&images::debian_with_kernel());
    let folder = tempfile::tempdir_in(images::folder()).unwrap();
    let disk = disks(folder.path(), &[1536]);
    let machine = server.power_on_with("", |options| {
        options.disks.clone_from(&disk);
        options.time_limit = LIMIT * 4;
    });
    wait(&machine, "rescue", |status| status.step == "rescue");
    let uuid = ssh_ok(&machine, &install(&server.url("debian-with-kernel.squashfs"), OWN_KERNEL));
    let uuid = uuid.lines().last().unwrap().trim();

    // By hand: the passphrase is typed once, and the kernel forgets it where it is not needed.
    let locked = crate::site::ssh(&machine, "rescue boot --kexec --yes");
    assert_eq!(locked.status.code(), Some(3), "{locked:?}");
    assert!(text(&locked.stderr).contains("rescue unlock"), "{locked:?}");
    assert!(ssh_with_input(&machine, "rescue unlock --no-keep", b"over the wire").status.success());
    let unknown = crate::site::ssh(&machine, "rescue boot --kexec --yes");
    assert_eq!(unknown.status.code(), Some(3), "{unknown:?}");
    assert!(text(&unknown.stderr).contains("is not known any more"), "{unknown:?}");
    ssh_ok(
        &machine,
        "! grep /sysroot /proc/mounts && for name in /dev/mapper/luks-*; do cryptsetup close $name; done",
    );
    assert!(ssh_with_input(&machine, "rescue unlock", b"over the wire").status.success());
    assert!(kept_passphrases(&machine).contains("lifeboat"));
    let said = ssh_ok(&machine, "rescue boot --kexec --prepare");
    assert!(said.contains("loaded: /vmlinuz, /boot/initrd.img-6"), "{said}");
    assert!(said.contains("the passphrase of /dev/vda2 goes with it"), "{said}");
    // PID 1 may end the session before its last word.
    crate::site::ssh(&machine, "rescue boot --kexec --yes");
    runs_from_disk(&machine);
    runs_its_own_kernel(&machine);
    // Its host key among other things: without, the next start would be one after a power cut.
    ssh_ok(&machine, "sync");
    drop(machine);

    // By the command line, once somebody unlocks it.
    let append = format!("rd.luks.uuid={uuid} root=LABEL=root lifeboat.kexec");
    let machine = server.power_on_with(&append, |options| options.disks.clone_from(&disk));
    wait(&machine, "unlock", |status| status.step == "unlock" && status.next.contains("passphrase"));
    assert!(ssh_with_input(&machine, "rescue unlock", b"over the wire\n").status.success());
    runs_from_disk(&machine);
    runs_its_own_kernel(&machine);
}

fn runs_from_disk(machine: &Machine) {
    wait_console(machine, "Welcome to .*Debian");
    wait_console(machine, "debian-in-ram login:");
    let state = ssh_ok(machine, "systemctl is-system-running --wait || systemctl --failed");
    assert_eq!(state.trim(), "running");
    let root = ssh_ok(machine, "findmnt --noheadings --output SOURCE,FSTYPE,OPTIONS /");
    // By the name that the OS knows, and writable as its fstab says.
    assert!(root.starts_with("/dev/mapper/vda2_crypt ext4") && root.contains("rw,"), "{root}");
}

fn runs_its_own_kernel(machine: &Machine) {
    let line = ssh_ok(machine, "cat /proc/cmdline");
    assert!(line.contains("own.kernel=yes") && !line.contains("rd.luks.uuid"), "{line}");
    let kept = ssh_ok(machine, "ls /run/cryptsetup-keys.d /cryptroot 2>/dev/null || true");
    assert_eq!(kept, "", "no passphrase is left");
}

/// What the kernel keeps for a kexec.
fn kept_passphrases(machine: &Machine) -> String {
    ssh_ok(machine, "grep -o lifeboat:luks /proc/keys || true")
}
