//! Command lines, and the plans that they make.

use super::*;
use proptest::prelude::*;

fn plan(text: &str) -> Plan {
    Plan::parse(&CommandLine::parse(text))
}

#[test]
fn nothing_said_is_the_rescue() {
    let plan = plan("console=ttyAMA0 quiet");
    assert_eq!(plan.goal, Goal::Rescue);
    assert_eq!(plan.problems, []);
    assert_eq!(plan.watchdog, watchdog::Policy::On);
    assert!(plan.is_open);
    for (text, is_open) in [
        ("lifeboat.rescue", false),
        ("root=live:http://a/b.squashfs", false),
        ("lifeboat.typo", false),
        ("ip=off", true),
    ] {
        assert_eq!(self::plan(text).is_open, is_open, "{text}");
    }
}

#[test]
fn a_live_root_is_a_ram_boot() {
    let plan =
        plan("root=live:http://192.0.2.1/debian.squashfs lifeboat.overlay=50% rd.break init=/bin/sh -- -x");
    assert_eq!(plan.problems, []);
    let Goal::RamBoot(ram_boot) = plan.goal else { panic!("{:?}", plan.goal) };
    assert_eq!(ram_boot.trust, Trust::Signed);
    assert_eq!(ram_boot.overlay, Some(Size::Percent(50)));
    assert_eq!((ram_boot.init.as_str(), ram_boot.hold), ("/bin/sh", Some(Hold::BeforeHandOver)));
    assert_eq!(ram_boot.init_arguments, ["-x"]);
}

#[test]
fn the_last_source_counts_and_those_of_the_same_name_are_mirrors() {
    for (text, url, mirrors) in [
        ("root=live:http://a/x.squashfs root=live:https://b/x.squashfs", "https://b/x.squashfs", 1),
        ("root=live:http://a/x.squashfs root=live:http://a/x.squashfs", "http://a/x.squashfs", 0),
        ("root=live:http://a/old.squashfs root=live:http://a/new.squashfs", "http://a/new.squashfs", 0),
        ("root=PARTUUID=1-02 root=live:http://a/x.squashfs", "http://a/x.squashfs", 0),
    ] {
        let Goal::RamBoot(boot) = plan(text).goal else { panic!("{text}") };
        assert_eq!((boot.url.as_str(), boot.mirrors.len()), (url, mirrors), "{text}");
    }
    assert!(matches!(plan("root=live:http://a/x.squashfs root=LABEL=x").goal, Goal::DiskBoot(_)));
    let bad = plan("root=live:ftp://a/x.squashfs root=live:http://a/x.squashfs");
    assert_eq!(bad.problems[0].word, "root=live:ftp://a/x.squashfs");
}

#[test]
fn layers_lie_over_an_image_in_ram_and_over_nothing_else() {
    let hash = "ab".repeat(32);
    let words = format!("root=live:http://a/os lifeboat.sha256={hash} lifeboat.layer=http://a/site.squashfs");
    let Goal::RamBoot(boot) = plan(&words).goal else { panic!("{words}") };
    // The hash vouches for the image of root=live: alone.
    assert_eq!((boot.layers.len(), boot.layers[0].url.as_str()), (1, "http://a/site.squashfs"));
    let disk = plan("root=UUID=1 lifeboat.layer=http://a/site.squashfs");
    assert_eq!(disk.goal, Goal::Rescue);
    assert_eq!(disk.problems[0].word, "lifeboat.layer=http://a/site.squashfs");
    assert_eq!(
        plan("lifeboat.rescue root=live:http://a/x.squashfs lifeboat.layer=http://a/s.squashfs").problems,
        []
    );
}

#[test]
fn a_boot_is_held_where_dracut_would() {
    for (words, hold) in [
        ("quiet", None),
        ("lifeboat.hold", Some(Hold::BeforeHandOver)),
        ("rd.break=pre-pivot", Some(Hold::BeforeHandOver)),
        ("rd.break=pre-mount", Some(Hold::BeforeRoot)),
    ] {
        let plan = plan(&format!("root=live:http://a/b.squashfs {words}"));
        assert!(matches!(&plan.goal, Goal::RamBoot(boot) if boot.hold == hold), "{words}: {plan:?}");
    }
}

#[test]
fn a_disk_is_named_as_the_kernel_and_dracut_name_it() {
    for root in
        ["UUID=ab-12", "LABEL=x y", "PARTUUID=1-2", "PARTLABEL=root", "/dev/mapper/a", "/dev/vg0/root"]
    {
        let plan = plan(&format!("root=\"{root}\" rootflags=subvol=@ rd.luks.uuid=luks-AB12-cd ro"));
        assert_eq!(plan.problems, [], "{root}");
        let Goal::DiskBoot(disk) = plan.goal else { panic!("{root}: {:?}", plan.goal) };
        assert_eq!((disk.root.as_deref(), disk.flags.as_deref()), (Some(root), Some("subvol=@")));
        assert_eq!(
            (disk.luks.as_slice(), disk.init.as_str()),
            (["ab12cd".to_owned()].as_slice(), "/sbin/init")
        );
    }
    let found = plan("rd.luks.uuid=1 rd.luks.uuid=2");
    assert!(matches!(found.goal, Goal::DiskBoot(disk) if disk.root.is_none() && disk.luks == ["1", "2"]));
}

#[test]
fn the_kernel_of_a_disk_is_started_where_there_is_a_disk() {
    let disk = plan("root=UUID=1 lifeboat.kexec");
    assert!(matches!(disk.goal, Goal::DiskBoot(disk) if disk.kexec));
    let ram = plan("root=live:http://a/b.squashfs lifeboat.kexec");
    assert_eq!((ram.goal, ram.problems[0].word.as_str()), (Goal::Rescue, "lifeboat.kexec"));
}

#[test]
fn a_hash_stands_in_for_the_manifest() {
    let hash = "ab".repeat(32);
    let plan = plan(&format!("root=live:https://a.example/image lifeboat.sha256={hash}"));
    assert!(matches!(&plan.goal, Goal::RamBoot(boot) if matches!(boot.trust, Trust::Sha256(_))), "{plan:?}");
}

#[test]
fn what_is_not_understood_is_named_and_ends_in_the_rescue() {
    let live = "root=live:http://a/b.squashfs";
    for bad in [
        "lifeboat.ovrelay=1G",
        "lifeboat.overlay=lots",
        "lifeboat.sha256=12",
        "lifeboat.server=ftp://a",
        "lifeboat.reboot_after=soon",
        "lifeboat.watchdog=maybe",
        "rd.break=lunch",
        "lifeboat.console=root",
        "lifeboat.hostkey=disk",
        "lifeboat.state=disk",
        "lifeboat.reboots=0",
        "lifeboat.zram=lots",
        "lifeboat.fail=lunch",
        "lifeboat.fail=fetch:x",
        "systemd.hostname=a_b",
        "lifeboat.layer=http://a/site.img",
        "root=live:nfs://a/b.squashfs",
        "root=live:http://AΣ/b.squashfs",
        "root=live:http://a/b.img",
        "root=LABEL=",
        "root=sda1",
        "root=nfs:a",
        "rd.luks.uuid=x-y",
        "netroot=iscsi:@x",
        "lifeboat.mdns=maybe",
        "lifeboat.syslog=2001:db8::1",
        "netconsole=10.0.0.2",
        "init=sh",
        "ip=1.2.3.4",
    ] {
        let plan = plan(&format!("{live} {bad}"));
        assert_eq!(plan.goal, Goal::Rescue, "{bad}");
        assert_eq!(plan.problems.len(), 1, "{bad}: {:?}", plan.problems);
        assert_eq!(plan.problems[0].word, bad);
    }
}

#[test]
fn every_parameter_is_known() {
    for (name, ..) in parameters() {
        let plan = plan(&format!("{name}=?"));
        assert!(!plan.problems.iter().any(|problem| problem.reason.contains("no such parameter")), "{name}");
    }
}

proptest! {
    #[test]
    fn no_command_line_panics(text in ".{0,200}") {
        plan(&text);
    }

    #[test]
    fn no_value_panics(name in proptest::sample::select(parameters().map(|p| p.0).collect::<Vec<_>>()), value in "\\PC{0,40}") {
        plan(&format!("root=live:http://a/b.squashfs {name}={value}"));
    }
}
