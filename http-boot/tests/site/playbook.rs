//! The playbook, with the commands that docs/ansible.md has, against a machine: once to look, once to do, once more for nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{ADDRESS, Ended, Machine, made, repository};
use crate::package::{installed_version, version_of};

const UNIT: &str = "pi-lifeboat-http-boot.service";

/// What every run of the playbook needs in the folder that it is started in.
pub(crate) fn prepare(machine: &Machine, inventory: &str) {
    machine.here(&format!("ln -s {} ansible; mkdir site", repository().join("ansible").display())).unwrap();
    std::fs::write(machine.path("inventory.yml"), inventory).unwrap();
}

/// The environment of a person at the site: boot-files can be found, and SSH knows how to log in.
pub(crate) fn at_the_site(machine: &Machine, line: &str) -> Ended {
    let programs = Path::new(env!("CARGO_BIN_EXE_http-boot")).parent().unwrap().display().to_string();
    let ssh =
        format!("-F {} -o ControlMaster=auto -o ControlPersist=60", machine.path("ssh_config").display());
    let home = machine.folder.path().display();
    machine.here(&format!(
        "export HOME={home} PATH={programs}:$PATH ANSIBLE_SSH_ARGS='{ssh}' ANSIBLE_LOCALHOST_WARNING=0 ANSIBLE_PIPELINING=1 LC_ALL=C.UTF-8
        export ANSIBLE_SSH_CONTROL_PATH_DIR={home}/cp\n{line}"
    ))
}

/// The documentation's command that does it.
pub(crate) fn run() -> String {
    documented(false)
}

/// The documentation's command that only looks.
pub(crate) fn check() -> String {
    documented(true)
}

fn documented(is_check: bool) -> String {
    let text = std::fs::read_to_string(repository().join("docs/ansible.md")).unwrap();
    let fits =
        |line: &&str| line.starts_with("    ansible-playbook ") && line.contains("--check") == is_check;
    text.lines()
        .find(fits)
        .unwrap_or_else(|| panic!("docs/ansible.md has no such ansible-playbook"))
        .trim()
        .to_owned()
}

/// How many tasks changed something: the sum over all hosts of the recap.
pub(crate) fn changed(text: &str) -> u32 {
    let counts = text
        .lines()
        .filter_map(|line| line.split_once("changed="))
        .map(|(_, rest)| rest.split(' ').next().unwrap());
    let counts: Vec<u32> = counts.map(|count| count.parse().unwrap()).collect();
    assert!(!counts.is_empty(), "no recap: {text}");
    counts.iter().sum()
}

fn inventory(install: &str) -> String {
    format!(
        "all:
  children:
    boot_servers:
      hosts:
        boot:
          ansible_host: {ADDRESS}
          ansible_user: person
      vars:
        {install}
        boot_server_networks: [192.0.2.0/28]
        boot_server_fleet: site/fleet.toml
        boot_server_dhcp: --dhcp proxy --dhcp-interface host0
        boot_server_tls_certificate: site/tls/server.pem
        boot_server_tls_key: site/tls/server.key
        images_boot:
          - name: pi/rescue
            folder: site/out
            public_key: site/boot.pub.pem
            tftp: true
        images_os:
          - name: os/tiny-1
            source: site/tiny
            key: site/image.key
            public_key: site/image.pub
            arguments: [--no-init-check, --writer, backhand]
"
    )
}

const FLEET: &str = "format = 1

[images.tiny]
path = 'os/tiny-1.squashfs'

[defaults]
boot = 'ram'
image = 'tiny'
";

/// Keys, a folder as `boot-files build` leaves it, the source of an OS image, a fleet.
fn fill_site(machine: &Machine) {
    at_the_site(
        machine,
        "boot-files keygen --kind boot site/boot; boot-files keygen --kind image site/image
        mkdir -p site/out/tftp/overlays site/tiny/etc; echo overlay >site/out/tftp/overlays/one.dtbo; echo tiny >site/tiny/etc/hostname
        head -c 300000 /dev/urandom >site/out/boot.img; boot-files sign site/out/boot.img --key site/boot.pem
        echo arm_64bit=1 >site/out/tftp/config.txt
        http-boot ca site/tls --name 192.0.2.2 >/dev/null",
    )
    .unwrap();
    std::fs::write(machine.path("site/fleet.toml"), FLEET).unwrap();
}

#[test]
fn the_playbook_sets_up_a_site_and_then_changes_nothing() {
    let machine = Machine::boot();
    prepare(&machine, &inventory(&format!("boot_server_package: {}", made("deb-1").display())));
    fill_site(&machine);
    a_check_changes_nothing(&machine);
    let first = at_the_site(&machine, &self::run()).unwrap();
    assert!(changed(&first) > 5, "{first}");
    works(&machine);
    let second = at_the_site(&machine, &self::run()).unwrap();
    assert_eq!(changed(&second), 0, "{second}");
    refuses_a_broken_fleet(&machine);
    publishes_a_new_image(&machine);
    refuses_a_damaged_image(&machine);
    takes_what_is_no_longer_asked_for_away(&machine);
}

fn a_check_changes_nothing(machine: &Machine) {
    let state = "find / -xdev -newer /run/before -not -path '/proc/*' -not -path '/sys/*' -not -path '/run*' -not -path '/var/log/*' \
        -not -path '/home/person*' -not -path '/tmp/*' -not -path '/tmp' -not -path '/var/lib/systemd/*' -not -path '/var/cache/apt*' | sort";
    machine.on("touch /run/before").unwrap();
    let check = at_the_site(machine, &self::check()).unwrap();
    assert!(changed(&check) > 0, "{check}");
    assert_eq!(machine.on(state).unwrap(), "", "{check}");
    machine
        .on("test ! -e /etc/pi-lifeboat && test ! -e /srv/boot && test \"$(getent passwd http-boot)\" = ''")
        .unwrap();
}

fn works(machine: &Machine) {
    let curl = "curl --silent --show-error --fail --max-time 20";
    machine
        .here(&format!(
            "{curl} -o boot.img http://{ADDRESS}/pi/rescue/boot.img; cmp boot.img site/out/boot.img"
        ))
        .unwrap();
    assert_eq!(machine.here(&format!("{curl} tftp://{ADDRESS}/config.txt")).unwrap(), "arm_64bit=1\n");
    assert_eq!(machine.here(&format!("{curl} tftp://{ADDRESS}/overlays/one.dtbo")).unwrap(), "overlay\n");
    machine
        .here(&format!(
            "{curl} --cacert site/tls/ca.pem https://{ADDRESS}/pi/rescue/boot.sig | cmp - site/out/boot.sig"
        ))
        .unwrap();
    works_still(machine);
    // minisign itself takes the signature.
    machine
        .here(&format!(
            "{curl} -o m.json http://{ADDRESS}/os/tiny-1.json; {curl} -o m.json.minisig http://{ADDRESS}/os/tiny-1.json.minisig
            minisign -V -p site/image.pub -m m.json"
        ))
        .unwrap();
    let rights = rights(machine);
    // CAP_NET_BIND_SERVICE and CAP_NET_RAW: numbers 10 and 13.
    assert!(rights.contains("0000000000002400"), "{rights}");
    assert_eq!(
        machine.on(&format!("systemctl is-active {UNIT} pi-lifeboat-firewall")).unwrap(),
        "active\nactive\n"
    );
    // A stranger's address is out of the network that may ask.
    machine.here("link=$(ip -o link show type veth | cut -d: -f2 | cut -d@ -f1); ip address add 192.0.2.99/24 dev $link").unwrap();
    // 28: curl's word for "no answer in time".
    machine
        .here(&format!(
            "curl --silent --interface 192.0.2.99 --max-time 3 http://{ADDRESS}/pi/rescue/boot.sig && exit 1 || test $? = 28"
        ))
        .unwrap();
    assert!(
        machine.here(&format!("ssh -F ssh_config -b 192.0.2.99 {ADDRESS} true")).ok,
        "SSH is for others to close"
    );
}

fn refuses_a_broken_fleet(machine: &Machine) {
    let networks = "-e '{\"boot_server_networks\": [\"192.0.2.0/28\", \"198.51.100.0/24\"]}'";
    let rules = || machine.on("nft list table inet pi_lifeboat").unwrap();
    // Wrong by itself: nothing at all is changed.
    std::fs::write(machine.path("site/fleet.toml"), FLEET.replace("'tiny'", "'other'")).unwrap();
    for command in [check(), run()] {
        let ended = at_the_site(machine, &format!("{command} {networks}"));
        assert!(!ended.ok && ended.text.contains("other"), "{}", ended.text);
    }
    assert!(!rules().contains("198.51.100.0/24"));
    // An image that it names is not there. What was changed before the failure counts in spite of it: the next run would not
    // see that anything is left to do.
    std::fs::write(machine.path("site/fleet.toml"), FLEET.replace("tiny-1", "tiny-2")).unwrap();
    let ended = at_the_site(machine, &format!("{} {networks}", run()));
    assert!(!ended.ok && ended.text.contains("os/tiny-2.squashfs"), "{}", ended.text);
    assert_eq!(machine.on("cat /etc/pi-lifeboat/fleet.toml").unwrap(), FLEET);
    assert!(rules().contains("198.51.100.0/24"));
    works_still(machine);
    std::fs::write(machine.path("site/fleet.toml"), FLEET).unwrap();
}

fn works_still(machine: &Machine) {
    let plan = machine
        .here(&format!("curl --silent --fail --max-time 20 http://{ADDRESS}/v1/boot/10000000abcdef01"))
        .unwrap();
    assert!(plan.contains("os/tiny-1.squashfs"), "{plan}");
}

/// A new boot.img, whose signature comes with it.
fn publishes_a_new_image(machine: &Machine) {
    at_the_site(machine, "head -c 200000 /dev/urandom >site/out/boot.img; boot-files sign site/out/boot.img --key site/boot.pem").unwrap();
    // Files for TFTP get their names by a rename, beside what the site has there for one Pi.
    machine.here("echo arm_64bit=0 >site/out/tftp/config.txt").unwrap();
    machine
        .on("cd /srv/boot; ln tftp/config.txt before; mkdir tftp/9ffefdef; echo one >tftp/9ffefdef/config.txt")
        .unwrap();
    let run = at_the_site(machine, &self::run()).unwrap();
    assert!(changed(&run) > 0, "{run}");
    assert_eq!(
        machine.on("cd /srv/boot; cat before tftp/config.txt tftp/9ffefdef/config.txt; ls -A | grep incoming || true").unwrap(),
        "arm_64bit=1\narm_64bit=0\none\n"
    );
    let curl = "curl --silent --show-error --fail --max-time 20";
    machine
        .here(&format!(
            "for file in boot.img boot.sig; do {curl} -o $file http://{ADDRESS}/pi/rescue/$file; cmp $file site/out/$file; done"
        ))
        .unwrap();
    assert_eq!(machine.on("ls -A /srv/boot/pi/rescue").unwrap(), "boot.img\nboot.sig\n");
}

/// What its signature does not fit is not published.
fn refuses_a_damaged_image(machine: &Machine) {
    at_the_site(machine, "cp site/out/boot.img published; echo damaged >>site/out/boot.img").unwrap();
    let run = at_the_site(machine, &self::run());
    assert!(!run.ok && run.text.contains("boot.img"), "{}", run.text);
    machine
        .here(&format!("curl --silent --fail -o now http://{ADDRESS}/pi/rescue/boot.img; cmp now published"))
        .unwrap();
}

/// No networks, no firewall; and another commit's package, of the same version of Pi Lifeboat, is installed.
fn takes_what_is_no_longer_asked_for_away(machine: &Machine) {
    machine.here("cp published site/out/boot.img").unwrap();
    let later = format!(
        "{} -e '{{\"boot_server_networks\": []}}' -e boot_server_package={}",
        self::run(),
        made("deb-2").display()
    );
    let run = at_the_site(machine, &later).unwrap();
    assert_eq!(installed_version(machine), version_of("deb-2"), "{run}");
    machine
        .on("nft list tables | (! grep pi_lifeboat); test ! -e /etc/systemd/system/pi-lifeboat-firewall.service")
        .unwrap();
    let again = at_the_site(machine, &later).unwrap();
    assert_eq!(changed(&again), 0, "{again}");
    works_still(machine);
    // And back: the inventory has the package before, and networks.
    let back = at_the_site(machine, &self::run()).unwrap();
    assert_eq!(installed_version(machine), version_of("deb-1"), "{back}");
    machine.on("nft list table inet pi_lifeboat").unwrap();
}

/// DHCP by the fleet's file alone: the rights come with the table, and go with it, and each takes a new start.
fn does_dhcp_by_the_fleet(machine: &Machine) {
    let run = format!("{} -e boot_server_dhcp=", self::run());
    let table = "dhcp.mode = 'proxy'\ndhcp.interfaces = ['host0']\n";
    std::fs::write(machine.path("site/fleet.toml"), format!("{table}{FLEET}")).unwrap();
    let with = at_the_site(machine, &run).unwrap();
    assert!(rights(machine).contains("0000000000002400"), "{with}");
    machine.on("ss -Hlun sport = :4011 | grep 4011").unwrap();
    let again = at_the_site(machine, &run).unwrap();
    assert_eq!(changed(&again), 0, "{again}");
    refuses_flags_beside_a_wrong_file(machine);
    std::fs::write(machine.path("site/fleet.toml"), FLEET).unwrap();
    let without = at_the_site(machine, &run).unwrap();
    assert!(rights(machine).contains("0000000000000400"), "{without}");
    machine.on("test \"$(ss -Hlun sport = :4011)\" = ''").unwrap();
    works_still(machine);
}

/// DHCP goes from the file to flags, and the new file is wrong: the settings stay those that fit the file that is there.
fn refuses_flags_beside_a_wrong_file(machine: &Machine) {
    std::fs::write(machine.path("site/fleet.toml"), format!("nonsense = 1\n{FLEET}")).unwrap();
    let run = at_the_site(machine, &format!("{} -e 'boot_server_dhcp=\"--dhcp proxy\"'", self::run()));
    assert!(!run.ok && run.text.contains("nonsense"), "{}", run.text);
    machine.on("! grep -e '--dhcp' /etc/pi-lifeboat/http-boot.conf").unwrap();
    works_still(machine);
}

fn rights(machine: &Machine) -> String {
    machine
        .on(&format!("grep CapEff /proc/$(systemctl show --value --property=MainPID {UNIT})/status"))
        .unwrap()
}

#[test]
fn the_bare_program_is_set_up_as_well() {
    let machine = Machine::boot();
    at_the_site(&machine, &format!("dpkg-deb --extract {} package", made("deb-1").display())).unwrap();
    prepare(&machine, &inventory("boot_server_binary: package/usr/bin/http-boot"));
    fill_site(&machine);
    at_the_site(&machine, &self::check()).unwrap();
    at_the_site(&machine, &self::run()).unwrap();
    works(&machine);
    let second = at_the_site(&machine, &self::run()).unwrap();
    assert_eq!(changed(&second), 0, "{second}");
    does_dhcp_by_the_fleet(&machine);
    builds_what_is_described(&machine);
}

/// An image of an image.toml: built and signed at the site, published, and built anew only when its description is younger.
fn builds_what_is_described(machine: &Machine) {
    let image = "format = 1\nname = 'site'\n[boot]\ncmdline = ''\ncompression_level = 1\n[access]\nauthorized_keys = ['ssh.pub']\n\
        image_keys = ['image.pub']\n[sign]\nkey = 'boot.pem'\n";
    std::fs::write(machine.path("site/image.toml"), image).unwrap();
    std::fs::copy(made("key.pub"), machine.path("site/ssh.pub")).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_http-boot")).ancestors().nth(2).unwrap();
    let programs = programs.join("aarch64-unknown-linux-gnu/quick").display().to_string();
    // The machine's network has no way out, where packages are: they are in the cache then.
    let built = Command::new(Path::new(env!("CARGO_BIN_EXE_http-boot")).with_file_name("boot-files"))
        .args(["build", "site/image.toml", "--output", "site/fetched", "--device-binaries", &programs])
        .env("LIFEBOAT_CACHE", cache())
        .current_dir(machine.folder.path())
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    let run = format!(
        "export LIFEBOAT_CACHE={}\n{} -e boot_server_dhcp= -e '{{\"images_boot\": [{{\"name\": \"pi/built\", \"config\": \"site/image.toml\", \
         \"public_key\": \"site/boot.pub.pem\", \"tftp\": true, \"arguments\": [\"--device-binaries\", \"{programs}\"]}}]}}'",
        cache().display(),
        self::run()
    );
    let fetched = || {
        let curl = "curl --silent --show-error --fail --max-time 60 --remote-name";
        let line = format!(
            "rm -f boot.img boot.sig; for file in img sig; do {curl} http://{ADDRESS}/pi/built/boot.$file; done
            boot-files verify boot.img --key site/boot.pub.pem; curl --silent --fail tftp://{ADDRESS}/cmdline.txt"
        );
        at_the_site(machine, &line).unwrap()
    };
    let first = at_the_site(machine, &run).unwrap();
    assert!(changed(&first) > 0, "{first}");
    assert!(!fetched().contains("quiet"));
    let second = at_the_site(machine, &run).unwrap();
    assert_eq!(changed(&second), 0, "{second}");
    std::fs::write(machine.path("site/image.toml"), image.replace("''\ncomp", "'quiet'\ncomp")).unwrap();
    at_the_site(machine, &run).unwrap();
    assert!(fetched().contains("quiet"));
}

/// Where boot-files keeps packages, as its help says.
fn cache() -> PathBuf {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    path("LIFEBOAT_CACHE")
        .or_else(|| {
            Some(path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")))?.join("lifeboat"))
        })
        .expect("HOME is set")
}
