//! Files that are right, and what comes of them; files that are wrong, and what is said.

use proptest::prelude::*;

use super::assignment::Answer;
use super::*;
use crate::boot_tree::rendering::{Rendering, Text};
use crate::pi::Revision;

const SITE: &str = r#"
format = 1

[defaults]
boot = "rescue"
parameters = "lifeboat.reboot_after=600"

[images.debian]
path = "os/debian.squashfs"

[images.kiosk]
path = "os/debian.squashfs"
layers = ["os/kiosk.squashfs"]

[[group]]
name = "doors"
tags = ["door"]
[group.orders]
boot = "ram"
image = "debian"
cmdline = "systemd.hostname={name}"

[[group]]
name = "kiosks"
[group.orders]
image = "kiosk"
parameters = "lifeboat.overlay=50%"
config = "dtparam=audio=on"

[[device]]
serial = "10000000abcdef01"
name = "front-door"
tags = ["door"]
groups = ["kiosks"]

[[device]]
mac = "dc:a6:32:01:36:c2"
orders.boot = "local"

[[device]]
serial = "00000003"
orders = { boot = "plan", files = "pi/three" }
"#;

fn who(serial: u32) -> Identity {
    Identity { serial: Some(PiSerial(serial)), ..Identity::default() }
}

fn plan(fleet: &Fleet, who: Identity) -> String {
    match fleet.assignment(who).answer("http://192.0.2.9") {
        Ok(Answer::Plan(plan)) => plan.parameters,
        other => panic!("{other:?}"),
    }
}

/// What is wrong with `SITE` where `old` is `new`.
fn findings(old: &str, new: &str) -> String {
    assert!(SITE.contains(old), "{old}");
    Fleet::parse(&SITE.replacen(old, new, 1), None).unwrap_err().to_string()
}

#[test]
fn later_words_beat_earlier_ones_and_parameters_add_up() {
    let fleet = Fleet::parse(SITE, None).unwrap();
    assert_eq!(plan(&fleet, who(7)), "lifeboat.rescue lifeboat.reboot_after=600");
    assert_eq!(
        plan(&fleet, who(0xabcd_ef01)),
        "root=live:http://192.0.2.9/os/debian.squashfs lifeboat.layer=http://192.0.2.9/os/kiosk.squashfs \
         lifeboat.reboot_after=600 lifeboat.overlay=50%"
    );
    let three = fleet.assignment(who(3));
    assert_eq!(three.answer("http://192.0.2.9"), Ok(Answer::Files));
    assert_eq!(three.files, Some("pi/three"));
}

#[test]
fn a_serial_number_counts_for_more_than_an_ethernet_address() {
    let fleet = Fleet::parse(SITE, None).unwrap();
    let mac = "dc:a6:32:01:36:c2".parse().ok();
    let boot = |who| fleet.assignment(who).boot;
    assert_eq!(boot(Identity { mac, ..Identity::default() }), Some(file::Boot::Local));
    assert_eq!(
        boot(Identity { serial: Some(PiSerial(9)), mac, ..Identity::default() }),
        Some(file::Boot::Local)
    );
    assert_eq!(
        boot(Identity { serial: Some(PiSerial(3)), mac, ..Identity::default() }),
        Some(file::Boot::Plan)
    );
}

#[test]
fn files_of_the_firmware_get_their_words() {
    let fleet = Fleet::parse(SITE, None).unwrap();
    let door = fleet.assignment(who(0xabcd_ef01));
    assert_eq!(door.cmdline("console=serial0\n").unwrap(), "console=serial0 systemd.hostname=front-door\n");
    assert_eq!(
        door.config("[pi4]\nkernel=kernel8.img").unwrap(),
        "[pi4]\nkernel=kernel8.img\n[all]\ndtparam=audio=on\n"
    );
    let other = fleet.assignment(who(3));
    assert_eq!(other.config("kernel=kernel8.img").unwrap(), "kernel=kernel8.img");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (old, new, said) in [
        ("format = 1", "format = 2", "format is 2, this server knows 1"),
        ("format = 1", "", "missing field `format`"),
        ("[defaults]", "[default]", "unknown field `default`"),
        ("boot = \"rescue\"", "boot = \"resuce\"", "unknown variant `resuce`"),
        ("image = \"debian\"", "image = \"debain\"", "group \"doors\": there is no image \"debain\""),
        (
            "groups = [\"kiosks\"]",
            "groups = [\"kiosk\"]",
            "device \"front-door\": there is no group \"kiosk\"",
        ),
        ("name = \"kiosks\"", "name = \"doors\"", "group \"doors\": it is there twice"),
        ("10000000abcdef01", "10000000abcdefg1", "serial \"10000000abcdefg1\": not a Pi's serial number"),
        ("serial = \"00000003\"", "serial = \"20000000abcdef01\"", "two of them have the serial abcdef01"),
        ("dc:a6:32:01:36:c2", "dc:a6:32:01:36", "no MAC address of an interface"),
        ("mac = \"dc:a6:32:01:36:c2\"\n", "", "a device: it has neither serial nor mac"),
        ("front-door", "Front Door", "is no host name"),
        ("os/kiosk.squashfs", "../kiosk.squashfs", "is no path below the root"),
        ("pi/three", "/srv/three", "is no path below the root"),
        ("lifeboat.overlay=50%", "quiet", "quiet: a plan of the boot server cannot say so"),
        ("lifeboat.overlay=50%", "root=/dev/sda1", "only a signed plan may say so"),
        ("lifeboat.overlay=50%", "lifeboat.overlay=lots", "lifeboat.overlay=lots"),
        ("lifeboat.overlay=50%", "{disk}", "{disk}: there are {serial}"),
        ("name = \"front-door\"\n", "", "{name}, which this Pi does not have"),
        ("dtparam=audio=on", "dtparam=\u{e4}", "has to be ASCII"),
        ("boot = \"rescue\"", "boot = \"plan\"", "a signed plan is for one Pi"),
        ("boot = \"rescue\"", "boot = \"ram\"", "no image is named"),
    ] {
        let all = findings(old, new);
        assert!(all.contains(said), "{old} → {new}: {all}");
    }
    let long = format!("config = \"#{}\"", "x".repeat(98));
    assert!(findings("config = \"dtparam=audio=on\"", &long).contains("98 in a line"));
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let text = SITE.replace("00000003", "3").replace("front-door", "x_y");
    let findings = Fleet::parse(&text, None).unwrap_err();
    assert_eq!(findings.0.len(), 2, "{findings}");
}

#[test]
fn files_have_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let root = crate::http::files::Root::open(folder.path()).unwrap();
    let all = Fleet::parse(SITE, Some(&root)).unwrap_err().to_string();
    for name in ["os/debian.squashfs", "os/debian.json", "os/debian.json.minisig", "os/kiosk.json.minisig"] {
        assert!(all.contains(&format!("there is no {name} below the root")), "{name}: {all}");
    }
    std::fs::create_dir(folder.path().join("plans")).unwrap();
    let plan = r#"{"format": 1, "device": "1000000000000003", "parameters": "root=LABEL=x"}"#;
    std::fs::write(folder.path().join("plans/1000000000000003.json"), plan).unwrap();
    std::fs::write(folder.path().join("plans/1000000000000003.json.minisig"), "").unwrap();
    std::fs::create_dir(folder.path().join("os")).unwrap();
    for name in ["debian", "kiosk"] {
        for ending in ["squashfs", "json.minisig"] {
            std::fs::write(folder.path().join(format!("os/{name}.{ending}")), "").unwrap();
        }
        let manifest = r#"{"format":1,"name":"x","version":"12.1","architecture":"arm64","kernel_releases":[],"size":1,
            "chunk_size":1048576,"blake3":["0000000000000000000000000000000000000000000000000000000000000000"],"serial":1}"#;
        std::fs::write(folder.path().join(format!("os/{name}.json")), manifest).unwrap();
    }
    Fleet::parse(SITE, Some(&root)).unwrap();
    let pinned =
        |version: &str| SITE.replace("[images.debian]", &format!("[images.debian]\nversion = \"{version}\""));
    Fleet::parse(&pinned("12.1"), Some(&root)).unwrap();
    let all = Fleet::parse(&pinned("13"), Some(&root)).unwrap_err().to_string();
    assert!(all.contains("version \"13\" is wanted, and os/debian.json says \"12.1\""), "{all}");
}

#[test]
fn a_wrong_change_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = std::sync::Arc::new(crate::http::files::Root::open(folder.path()).unwrap());
    let path = folder.path().join("fleet.toml");
    let put = |text: &str| {
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
    };
    put("format = 1\n[defaults]\nboot = \"rescue\"");
    let watched = watch::Watched::open(&path, root).unwrap();
    let boot = || watched.fleet().assignment(who(1)).boot;
    assert_eq!(boot(), Some(file::Boot::Rescue));
    put("format = 1\n[defaults]\nboot = \"rescue\"\nbot = 1");
    watched.refresh();
    assert_eq!(boot(), Some(file::Boot::Rescue));
    assert!(watched.findings().unwrap().to_string().contains("unknown field `bot`"));
    put("format = 1\n[defaults]\nboot = \"local\"");
    watched.refresh();
    assert_eq!((boot(), watched.findings()), (Some(file::Boot::Local), None));
    std::fs::remove_file(&path).unwrap();
    watched.refresh();
    assert_eq!(boot(), Some(file::Boot::Local));
}

#[test]
fn a_board_is_enough_to_belong_to_a_group() {
    let boards = "[[group]]\nname = \"modules\"\nboards = [\"cm4\"]\norders.boot = \"local\"\n";
    let fleet = Fleet::parse(&format!("format = 1\n{boards}"), None).unwrap();
    let boot = |revision| {
        let board = Revision(revision).board();
        fleet.assignment(Identity { board, ..Identity::default() }).boot
    };
    assert_eq!((boot(0xd0_3140), boot(0xd0_3114)), (Some(file::Boot::Local), None));
    let wrong = Fleet::parse(&format!("format = 1\n{}", boards.replace("cm4", "cm9")), None).unwrap_err();
    assert!(wrong.to_string().contains("there is no board \"cm9\": it is one of"), "{wrong}");
}

#[test]
fn the_servers_url_can_be_fixed() {
    let site = |server: &str| {
        let cmdline = "cmdline = \"lifeboat.server={server}\"\n[images.debian]";
        format!("server = \"{server}\"\n{}", SITE.replacen("[images.debian]", cmdline, 1))
    };
    let fleet = Fleet::parse(&site("https://boot.example/"), None).unwrap();
    assert!(plan(&fleet, who(0xabcd_ef01)).starts_with("root=live:https://boot.example/os/debian.squashfs "));
    assert_eq!(fleet.assignment(who(3)).cmdline("").unwrap(), "lifeboat.server=https://boot.example\n");
    for wrong in ["", "boot.example", "ftp://a", "http://a/b"] {
        let all = Fleet::parse(&site(wrong), None).unwrap_err().to_string();
        assert!(all.contains("is no URL like"), "{wrong}: {all}");
    }
    let without = site("http://a").replace("server = \"http://a\"\n", "");
    assert!(Fleet::parse(&without, None).unwrap_err().to_string().contains("{server}, which"));
}

#[test]
fn a_table_for_people() {
    let fleet = Fleet::parse(SITE, None).unwrap();
    let table = report::table(&report::lines(&fleet));
    for part in [
        "front-door               ram      kiosk            root=live:{server}/os/debian.squashfs",
        "plans/SERIAL.json",
        "*  ",
    ] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}", old in 0..SITE.len(), new in "[ -~\\n]{0,6}") {
        let _ = Fleet::parse(&text, None);
        let changed = SITE.get(..old).zip(SITE.get(old..)).map(|(before, after)| format!("{before}{new}{after}"));
        if let Ok(fleet) = Fleet::parse(&changed.unwrap_or_default(), None) {
            let _ = fleet.assignment(who(0xabcd_ef01)).answer("http://a");
        }
    }
}

const DHCP: &str = r#"
format = 1
[dhcp]
mode = "full"
interfaces = ["eth0"]
ranges = ["192.0.2.50-192.0.2.60"]
lease-time = "1h"
[[device]]
serial = "10000000abcdef01"
mac = "dc:a6:32:01:36:c2"
address = "192.0.2.7"
[[device]]
mac = "dc:a6:32:01:36:c3"
address = "192.0.2.8"
"#;

#[test]
fn a_table_and_addresses_say_what_flags_say() {
    use crate::dhcp::interface::Interface;
    use crate::dhcp::settings::{Mode, ReservedFor, Settings};
    let fleet = Fleet::parse(DHCP, None).unwrap();
    let settings = fleet.dhcp(None).unwrap().unwrap();
    assert_eq!((settings.mode, settings.reserve.len()), (Mode::Full, 2));
    let eth0 = Interface {
        name: "eth0".into(),
        index: 2,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        addresses: vec![(Ipv4Addr::new(192, 0, 2, 1), 24)],
    };
    let config = settings.check(&[eth0]).unwrap();
    let of = |who| config.reserved.get(&who).map(|address| address.octets()[3]);
    assert_eq!(of(ReservedFor::Serial(PiSerial(0xabcd_ef01))), Some(7));
    assert_eq!(of(ReservedFor::Mac("dc:a6:32:01:36:c2".parse().unwrap())), Some(7));
    assert_eq!(of(ReservedFor::Mac("dc:a6:32:01:36:c3".parse().unwrap())), Some(8));

    let flags = r#"{"mode": "full", "interfaces": ["eth0"], "dns": ["192.0.2.3"]}"#;
    let flags: Settings = serde_json::from_str(flags).unwrap();
    let error = fleet.dhcp(Some(&flags)).unwrap_err();
    assert!(error.contains("--dhcp, --dhcp-interface, --dhcp-dns on the command line"), "{error}");
    let without_table =
        DHCP.split("[dhcp]").next().unwrap().to_owned() + &DHCP[DHCP.find("[[device]]").unwrap()..];
    let fleet = Fleet::parse(&without_table, None).unwrap();
    assert_eq!(fleet.dhcp(None), Ok(None));
    assert_eq!(fleet.dhcp(Some(&flags)).unwrap().unwrap().reserve.len(), 2);
    let proxy = Settings { mode: Mode::Proxy, ..flags };
    assert!(fleet.dhcp(Some(&proxy)).unwrap().unwrap().reserve.is_empty());
}

#[test]
fn what_is_wrong_with_the_table_is_said_in_its_own_words() {
    for (from, to, said) in [
        ("full", "half", "unknown variant `half`"),
        ("interfaces = [\"eth0\"]\n", "", "dhcp: no dhcp.interfaces is given"),
        ("ranges = [\"192.0.2.50-192.0.2.60\"]", "ranges = [\"7\"]", "'7' is not FIRST-LAST"),
        ("1h", "1s", "dhcp: dhcp.lease-time 1s is not between a minute and a year"),
        ("lease-time", "lease", "unknown field `lease`"),
        (
            "full",
            "proxy",
            "dhcp: dhcp.reserve or an address of a device is for dhcp.mode = \"full\": with proxy",
        ),
        ("192.0.2.8", "192.0.2.7", "devices: two of them have the address 192.0.2.7"),
        ("192.0.2.8", "192.0.2", "invalid IPv4 address"),
    ] {
        let text = DHCP.replace(from, to);
        assert_ne!(text, DHCP);
        let error = Fleet::parse(&text, None).unwrap_err().to_string();
        assert!(error.contains(said), "{to}: {error}");
    }
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Jq8k1v0m8yq5dXyvF0lV2m7n1h6T4wq2r8s9t0u1v anna";

#[test]
fn keys_go_into_the_command_line() {
    let keys = format!("orders = {{ boot = \"plan\", keys = [\"{KEY}\"], files");
    let text = SITE.replacen("orders = { boot = \"plan\", files", &keys, 1);
    let fleet = Fleet::parse(&text, None).unwrap();
    let line = fleet.assignment(who(3)).cmdline("quiet").unwrap();
    assert_eq!(line, format!("quiet lifeboat.authorized_key=\"{KEY}\"\n"));
    let before_dashes = fleet.assignment(who(3)).cmdline("quiet -- -s").unwrap();
    assert_eq!(before_dashes, format!("quiet lifeboat.authorized_key=\"{KEY}\" -- -s\n"));
    // Through what serves TFTP: keys alone are enough for a command line of its own.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.toml");
    std::fs::write(&file, format!("format = 1\n[defaults]\nkeys = [{KEY:?}]\n")).unwrap();
    let root = std::sync::Arc::new(crate::http::files::Root::open(folder.path()).unwrap());
    let watched = watch::Watched::open(&file, root).unwrap();
    let served = watched.render(who(9), Text::CommandLine, b"quiet").unwrap();
    assert!(String::from_utf8(served).unwrap().contains("lifeboat.authorized_key="));
    let many = vec![format!("{KEY:?}"); 20].join(", ");
    let said = findings("boot = \"plan\", files", &format!("boot = \"plan\", keys = [{many}], files"));
    assert!(said.contains("a kernel cuts the line"), "{said}");
    let read = init::plan::Plan::parse(&init::cmdline::CommandLine::parse(&line));
    assert_eq!((read.authorized_keys, read.problems), (vec![KEY.to_owned()], Vec::new()));
    for bad in [
        "no key",
        "command=\\\"x\\\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Jq8k1v0m8yq5dXyvF0lV2m7n1",
        "a\\nb",
    ] {
        let said = findings("boot = \"plan\", files", &format!("boot = \"plan\", keys = [\"{bad}\"], files"));
        assert!(said.contains("keys: "), "{bad}: {said}");
    }
}

#[test]
fn a_signed_plan_has_to_lead_where_the_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let root = crate::http::files::Root::open(folder.path()).unwrap();
    std::fs::create_dir(folder.path().join("plans")).unwrap();
    let check = |boot: &str, parameters: Option<&str>| {
        for ending in ["json", "json.minisig"] {
            let path = folder.path().join(format!("plans/1000000000000003.{ending}"));
            let _there_or_not = std::fs::remove_file(&path);
            if let Some(parameters) = parameters {
                let device = "1000000000000003";
                let plan = serde_json::json!({"format": 1, "device": device, "parameters": parameters});
                std::fs::write(&path, plan.to_string()).unwrap();
            }
        }
        let text = format!("format = 1\n[[device]]\nserial = \"00000003\"\norders.boot = {boot:?}\n");
        Fleet::parse(&text, Some(&root)).map(drop).map_err(|findings| findings.to_string())
    };
    let install = "lifeboat.install=http://192.0.2.1/a.img lifeboat.install_to=/dev/mmcblk0 root=LABEL=x";
    for (boot, parameters) in
        [("disk", "root=LABEL=x"), ("install", install), ("plan", install), ("plan", "lifeboat.rescue")]
    {
        assert_eq!(check(boot, Some(parameters)), Ok(()), "{boot} {parameters}");
    }
    for (boot, parameters, said) in [
        ("disk", Some(install), "does not boot a disk"),
        ("install", Some("root=LABEL=x"), "does not install"),
        ("disk", Some("root=live:http://192.0.2.1/x.squashfs"), "does not boot a disk"),
        ("plan", Some("quiet"), "quiet"),
        ("install", Some("lifeboat.install=http://192.0.2.1/a.img root=LABEL=x"), "lifeboat.install_to="),
        ("disk", None, "there is no plans/1000000000000003.json"),
    ] {
        let findings = check(boot, parameters).unwrap_err();
        assert!(findings.contains(said), "{boot} {parameters:?}: {findings}");
    }
    let all = Fleet::parse("format = 1\n[defaults]\nboot = \"install\"\n", None).unwrap_err();
    assert!(all.to_string().contains("for one Pi"), "{all}");
}
