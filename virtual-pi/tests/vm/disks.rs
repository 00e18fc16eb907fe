//! Disks in the rescue: shown, checked, repaired and mounted, over the system's own `ssh`. Each file system is made by
//! its own mkfs in the guest, filled, and damaged by writing over its metadata.

use std::path::PathBuf;
use std::process::Command;

use crate::site::{Server, images, ssh, ssh_ok, wait};
use serde_json::Value;
use virtual_pi::machine::Machine;

tests![
    damaged_file_systems_are_shown_and_repaired,
    what_is_in_use_is_refused_and_not_changed,
    a_journal_is_played_back_only_when_told,
];

const GUEST: &str = include_str!("disks/guest.sh");
const MIB: u64 = 1 << 20;

/// A file system on a disk of its own.
struct Case {
    disk: char,
    kind: &'static str,
    mkfs: &'static str,
    mib: u64,
    /// What loses its first block, which says what it is.
    behead: &'static str,
    /// What damages it elsewhere.
    damage: &'static str,
    /// What `rescue fsck` says of that.
    finding: &'static str,
}

const CASES: [Case; 8] = [
    Case {
        disk: 'a',
        kind: "ext4",
        mkfs: "mkfs.ext4 -q -F",
        mib: 64,
        behead: "zero a 1024 1 2",
        damage: "damage_ext_inodes a; lose_ext_bitmaps a",
        finding: "a file's count of names is wrong",
    },
    Case {
        disk: 'b',
        kind: "ext3",
        mkfs: "mkfs.ext3 -q -F",
        mib: 64,
        behead: "zero b 1024 0 3",
        damage: "lose_ext_bitmaps b",
        finding: "the map of used blocks is wrong",
    },
    Case {
        disk: 'c',
        kind: "ext2",
        mkfs: "mkfs.ext2 -q -F",
        mib: 64,
        behead: "zero c 1024 1 1",
        damage: "lose_ext_groups c",
        finding: "descriptors are damaged; a backup of them is used",
    },
    Case {
        disk: 'd',
        kind: "vfat",
        mkfs: "mkfs.vfat -F 32",
        mib: 64,
        behead: "zero d 512 0 1",
        damage: "lose_fat d",
        finding: "two copies of the file allocation table differ",
    },
    Case {
        disk: 'e',
        kind: "exfat",
        mkfs: "mkfs.exfat -q",
        mib: 64,
        behead: "zero e 512 0 2",
        damage: "lose_exfat_bitmap e",
        finding: "the map of used clusters is wrong",
    },
    Case {
        disk: 'f',
        kind: "btrfs",
        mkfs: "mkfs.btrfs -q -f",
        mib: 160,
        behead: "zero f 4096 16 1",
        damage: "lose_btrfs_copies f",
        finding: "each damaged block has a good copy",
    },
    Case {
        disk: 'g',
        kind: "xfs",
        mkfs: "mkfs.xfs -q -f",
        mib: 320,
        behead: "zero g 512 0 1",
        damage: "lose_xfs_group g",
        finding: "a group's map of free space is damaged",
    },
    Case {
        disk: 'h',
        kind: "f2fs",
        mkfs: "mkfs.f2fs -q -f",
        mib: 64,
        behead: "zero h 4096 0 1",
        damage: "lose_f2fs_checkpoint h",
        finding: "a checkpoint is damaged",
    },
];

/// A Pi with disks, and the files that they are.
struct Pi {
    machine: Machine,
    disks: Vec<PathBuf>,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Pi {
    /// Boots with empty disks of so many MiB: `/dev/vda`, `/dev/vdb`, ...
    fn boot(mib: &[u64]) -> Self {
        let folder = tempfile::tempdir_in(images::folder()).unwrap();
        let disks: Vec<PathBuf> =
            (0..mib.len()).map(|number| folder.path().join(format!("{number}.img"))).collect();
        for (path, mib) in disks.iter().zip(mib) {
            std::fs::File::create(path).unwrap().set_len(mib * MIB).unwrap();
        }
        let server = Server::start();
        let machine = server.power_on_with("", |options| options.disks = disks.clone());
        wait(&machine, "rescue", |status| status.step == "rescue");
        ssh_ok(&machine, &format!("cat > /tmp/guest.sh <<'END OF FILE'\n{GUEST}\nEND OF FILE"));
        Pi { machine, disks, _server: server, _folder: folder }
    }

    /// Runs shell words that know the functions of `guest.sh`.
    fn guest(&self, words: &str) -> String {
        ssh_ok(&self.machine, &format!(". /tmp/guest.sh; {words}"))
    }

    /// The exit code of `rescue` and what it says as JSON.
    fn rescue(&self, words: &str) -> (i32, Value) {
        let output = ssh(&self.machine, &format!("rescue {words}"));
        let text = String::from_utf8_lossy(&output.stdout);
        let json = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("rescue {words}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
        });
        (output.status.code().unwrap(), json)
    }

    /// The exit code of `rescue` and all that it says.
    fn refused(&self, words: &str) -> String {
        let output = ssh(&self.machine, &format!("rescue {words}"));
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "rescue {words}: {text}");
        // Where it is wrapped is not the point.
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The hash of a disk's bytes, from outside, after the guest has written what it had to.
    fn hash(&self, disk: char) -> String {
        ssh_ok(&self.machine, "sync");
        let path = &self.disks[disk as usize - 'a' as usize];
        let output = Command::new("sha256sum").arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The object of a device in what `rescue` says.
fn of_device(json: &Value, disk: char) -> &Value {
    let path = format!("/dev/vd{disk}");
    let devices = json["devices"].as_array().unwrap();
    let found = devices.iter().find(|device| device["path"] == *path || device["device"] == *path);
    found.unwrap_or_else(|| panic!("no {path} in {json}"))
}

/// Makes all file systems and damages each; the hashes of the disks.
fn damaged(pi: &Pi, damage: impl Fn(&Case) -> &'static str) -> Vec<String> {
    for case in &CASES {
        pi.guest(&format!("make {} {} && {}", case.disk, case.mkfs, damage(case)));
    }
    CASES.iter().map(|case| pi.hash(case.disk)).collect()
}

/// Says what is wrong with them all, repairs them all, and finds the files as before.
fn repaired(pi: &Pi, before: &[String], finding: impl Fn(&Case) -> &'static str) {
    let (code, json) = pi.rescue("fsck --all --dry-run --json");
    assert_eq!((code, &json["format"]), (4, &1.into()), "{json}");
    for case in &CASES {
        let device = of_device(&json, case.disk);
        assert_eq!(
            (&device["result"], &device["file_system"]),
            (&"damaged".into(), &case.kind.into()),
            "{json}"
        );
        let findings = device["findings"].to_string();
        assert!(findings.contains(finding(case)), "{}: {findings}", case.kind);
    }
    // Without a yes, the same, and 3.
    let all = CASES.map(|case| format!(" /dev/vd{}", case.disk)).concat();
    pi.refused(&format!("fsck {all} < /dev/null"));
    let after: Vec<String> = CASES.iter().map(|case| pi.hash(case.disk)).collect();
    assert_eq!(before, after, "looking changed a disk");
    let (code, json) = pi.rescue(&format!("fsck --yes --json {all}"));
    assert_eq!(code, 0, "{json}");
    for case in &CASES {
        assert_eq!(of_device(&json, case.disk)["result"], "repaired", "{json}");
        pi.guest(&format!("same {}", case.disk));
    }
    let (code, json) = pi.rescue("fsck --all --json");
    assert_eq!(code, 0, "{json}");
    assert!(CASES.iter().all(|case| of_device(&json, case.disk)["result"] == "clean"), "{json}");
}

fn damaged_file_systems_are_shown_and_repaired() {
    let pi = Pi::boot(&CASES.map(|case| case.mib));
    // The first block is lost: nothing recognises them, and what was there is found all the same.
    let before = damaged(&pi, |case| case.behead);
    let (code, json) = pi.rescue("disks --json");
    assert_eq!((code, &json["format"]), (0, &1.into()));
    for case in &CASES {
        let device = of_device(&json, case.disk);
        assert_eq!((&device["content"], &device["trace"]), (&Value::Null, &case.kind.into()), "{json}");
        assert_eq!(device["size"], case.mib * MIB);
    }
    // Nobody named them: a copy of a superblock alone is no reason to write.
    let (code, json) = pi.rescue("fsck --all --yes --json");
    assert_eq!((code, &of_device(&json, 'a')["result"]), (4, &"damaged".into()), "{json}");
    repaired(&pi, &before, |case| if case.disk == 'e' { "boot region" } else { "" });
    // Other metadata.
    let before = damaged(&pi, |case| case.damage);
    let (_, json) = pi.rescue("disks --json");
    for case in &CASES {
        assert_eq!(of_device(&json, case.disk)["content"]["kind"], case.kind, "{json}");
    }
    repaired(&pi, &before, |case| case.finding);
}

/// What each kind of use is, and what `rescue` says to do about it.
const USED: &[(char, &str, &str)] = &[
    (
        'a',
        "make a mkfs.ext4 -q -F && mkdir -p /tmp/used && mount -o ro /dev/vda /tmp/used",
        "rescue umount /dev/vda",
    ),
    ('b', "mkswap /dev/vdb && swapon /dev/vdb", "swapoff /dev/vdb"),
    (
        'c',
        "echo -n key | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/vdc - && \
         echo -n key | cryptsetup open /dev/vdc home - && mkfs.ext4 -q /dev/mapper/home",
        "cryptsetup close home",
    ),
    (
        'd',
        "pvcreate -q /dev/vdd && vgcreate -q vg /dev/vdd && lvcreate -q -y -L 16M -n lv vg \
         --config 'activation/udev_sync=0 activation/udev_rules=0'",
        "lvm lvchange --activate n /dev/mapper/vg-lv",
    ),
    (
        'e',
        "mdadm --create /dev/md0 --run --level=1 --raid-devices=2 /dev/vde /dev/vdf",
        "mdadm --stop /dev/md0",
    ),
    ('g', "make g mkfs.ext4 -q -F && losetup /dev/loop3 /dev/vdg", "losetup --detach /dev/loop3"),
];

fn what_is_in_use_is_refused_and_not_changed() {
    let pi = Pi::boot(&[32, 32, 64, 64, 32, 32, 32]);
    for (_, use_it, _) in USED {
        pi.guest(&format!("({use_it}) > /dev/null 2>&1"));
    }
    let disks = || USED.iter().map(|(disk, _, _)| pi.hash(*disk)).collect::<Vec<_>>();
    let before = disks();
    for (disk, _, advice) in USED {
        let said = pi.refused(&format!("fsck --yes --type ext4 /dev/vd{disk}"));
        assert!(said.contains(advice), "{disk}: {said}");
    }
    for (words, advice) in [
        ("mount /dev/vda", "mounted on /tmp/used already"),
        ("mount /dev/vdc", "/dev/mapper/home; mount that"),
        ("fsck /dev/vdf", "part of a RAID"),
        ("fsck /dev/nowhere", "there is no /dev/nowhere"),
        ("mount LABEL=nobody", "no device has LABEL=nobody"),
        ("umount /dev/vdg", "is not mounted"),
    ] {
        let said = pi.refused(words);
        assert!(said.contains(advice), "{words}: {said}");
    }
    let (code, json) = pi.rescue("fsck --yes --json /dev/vda");
    assert_eq!((code, &of_device(&json, 'a')["result"]), (3, &"refused".into()), "{json}");
    assert_eq!(before, disks(), "a refusal changed a disk");
    shown(&pi);
    // What is inside is no part of what is used: an open LUKS device is checked like any other.
    assert_eq!(pi.rescue("fsck --json /dev/mapper/home").0, 0);
}

/// `rescue disks` knows what uses what.
fn shown(pi: &Pi) {
    pi.guest("echo '<3>I/O error, dev vdg, sector 8 op 0x0:(READ) flags 0x0 phys_seg 1' > /dev/kmsg");
    let (code, json) = pi.rescue("disks --json");
    assert_eq!(code, 0);
    assert_eq!(of_device(&json, 'a')["mounts"][0], "/tmp/used");
    assert_eq!(of_device(&json, 'a')["system"]["name"], "Test Linux on x");
    assert_eq!(of_device(&json, 'b')["swap"], true);
    let luks = of_device(&json, 'c');
    assert_eq!((&luks["content"]["kind"], &luks["content"]["version"]), (&"crypto_LUKS".into(), &"2".into()));
    assert_eq!((&luks["locked"], &luks["children"][0]["content"]["kind"]), (&false.into(), &"ext4".into()));
    let group = &json["volume_groups"][0];
    assert_eq!((&group["name"], &group["volumes"][0]["name"]), (&"vg".into(), &"lv".into()));
    assert_eq!(group["volumes"][0]["active"], true);
    let raid = of_device(&json, 'e');
    assert_eq!((&raid["raid"]["level"], &raid["raid"]["devices"]), (&"raid1".into(), &2.into()));
    assert_eq!(raid["children"][0]["kind"], "raid1");
    assert_eq!(of_device(&json, 'g')["errors"]["read"], 1);
    let page = ssh_ok(&pi.machine, "rescue disks");
    for part in ["LUKS2", "LVM volume group vg", "in use as swap", "Linux root: Test Linux", "1 read errors"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(page.lines().all(|line| line.chars().count() <= 60), "{page}");
}

/// Invariant 4, for journals: after a power cut, looking and mounting leave every byte; repairing plays them back.
fn a_journal_is_played_back_only_when_told() {
    let kinds = [
        ('a', 'b', "mkfs.ext4 -q -F"),
        ('c', 'd', "mkfs.xfs -q -f"),
        ('e', 'f', "mkfs.btrfs -q -f"),
        ('g', 'h', "mkfs.f2fs -q -f"),
    ];
    let pi = Pi::boot(&[64, 64, 320, 320, 160, 160, 64, 64]);
    for (original, copy, mkfs) in kinds {
        pi.guest(&format!("pulled {original} {copy} {mkfs}"));
        // Two of the same UUID at a time are asking for trouble.
        pi.guest(&format!("wipefs -a -q /dev/vd{original}"));
        let before = pi.hash(copy);
        let (_, json) = pi.rescue("disks --json");
        assert_eq!(of_device(&json, copy)["system"]["name"], "Test Linux on x", "{mkfs}: {json}");
        pi.rescue(&format!("fsck --dry-run --json /dev/vd{copy}"));
        pi.guest(&format!(
            "rescue mount vd{copy} && ls /mnt/vd{copy}/home > /dev/null && rescue umount --all"
        ));
        assert_eq!(before, pi.hash(copy), "{mkfs}: looking changed the disk");
        let (code, json) = pi.rescue(&format!("fsck --yes --json vd{copy}"));
        assert_eq!(code, 0, "{mkfs}: {json}");
        let found = pi.guest(&format!(
            "rescue mount --rw vd{copy} /tmp/rw > /dev/null && cat /tmp/rw/new; rescue umount --all"
        ));
        assert!(found.starts_with("new\n"), "{mkfs}: {found}");
    }
}
