//! The package, from its installation to its purge.

use std::process::Command;

use crate::machine::{ADDRESS, Ended, Machine, made, repository};

const UNIT: &str = "pi-lifeboat-http-boot.service";

fn fetch(machine: &Machine, url: &str) -> String {
    machine.here(&format!("curl --silent --show-error --fail --max-time 20 {url}")).unwrap()
}

fn serves(machine: &Machine) {
    assert_eq!(fetch(machine, &format!("http://{ADDRESS}/hello")), "over HTTP\n");
    assert_eq!(fetch(machine, &format!("tftp://{ADDRESS}/config.txt")), "over=TFTP\n");
}

fn install(machine: &Machine, number: u32) -> String {
    machine.put(&made(&format!("deb-{number}")), "/root/server.deb");
    machine.on("DEBIAN_FRONTEND=noninteractive apt-get install --yes /root/server.deb").unwrap()
}

/// The version of a package that `.ci/site` made.
pub(crate) fn version_of(package: &str) -> String {
    let output = Command::new("dpkg-deb").arg("--field").arg(made(package)).arg("Version").output().unwrap();
    Ended::new(&output).unwrap().trim().to_owned()
}

/// The version that is installed.
pub(crate) fn installed_version(machine: &Machine) -> String {
    machine.on("dpkg-query --show --showformat '${Version}' pi-lifeboat-http-boot").unwrap()
}

/// What apt installs over another is of a later version: two commits never make packages of the same.
#[test]
fn a_later_commit_makes_a_later_version() {
    let (this, later) = (version_of("deb-1"), version_of("deb-2"));
    let line = ["--compare-versions", &this, "lt", &later];
    assert!(Command::new("dpkg").args(line).status().unwrap().success(), "{this}, {later}");
    assert!(this.starts_with(concat!(env!("CARGO_PKG_VERSION"), "+git")), "{this}");
}

/// `.ci/site` makes the Debian anew when its list of packages has changed.
#[test]
fn the_debian_is_of_the_list_of_today() {
    let script = std::fs::read_to_string(repository().join(".ci/site")).unwrap();
    let list = script.lines().find_map(|line| line.strip_prefix("readonly PACKAGES=")).unwrap();
    let made = std::fs::read_to_string(made("debian").join("made")).unwrap();
    assert_eq!(made.lines().next(), Some(list), "run .ci/site");
}

#[test]
fn a_package_installs_the_server_and_starts_it() {
    let machine = Machine::boot();
    install(&machine, 1);
    assert_eq!(
        machine.on(&format!("systemctl is-active {UNIT}; systemctl is-enabled {UNIT}")).unwrap(),
        "active\nenabled\n"
    );
    machine.on("echo 'over HTTP' >/srv/boot/hello; echo over=TFTP >/srv/boot/tftp/config.txt").unwrap();
    serves(&machine);
    is_confined(&machine);
    survives(&machine);
    a_change_of_the_fleet_counts(&machine);
    an_upgrade_keeps_the_settings(&machine);
    leaves_nothing(&machine);
    comes_back_to_what_was_left(&machine);
}

/// The server has no right but one, and what it may not do fails.
fn is_confined(machine: &Machine) {
    let pid = format!("$(systemctl show --value --property=MainPID {UNIT})");
    let status = machine.on(&format!("cat /proc/{pid}/status; stat --format=owner:%U /proc/{pid}")).unwrap();
    assert!(status.contains("owner:http-boot"), "{status}");
    // CAP_NET_BIND_SERVICE is number 10.
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000400")), "{set}: {status}");
    }
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let score = machine.on(&format!("systemd-analyze security --no-pager {UNIT} | tail -n 1")).unwrap();
    println!("{score}");
    assert!(machine.on(&format!("systemd-analyze security --no-pager --threshold=25 {UNIT}")).ok, "{score}");
}

/// kill -9, a restart, and people who were added stay.
fn survives(machine: &Machine) {
    let add = "echo 'a long password' | runuser -u http-boot -- http-boot user add anna --role operate --state /var/lib/http-boot";
    machine.on(add).unwrap();
    let since = format!("systemctl show --value --property=NRestarts {UNIT}");
    machine.on(&format!("systemctl kill --signal=KILL {UNIT}; timeout 30 sh -c 'until [ $({since}) = 1 ]; do sleep 0.2; done'")).unwrap();
    machine.on(&format!("systemctl restart {UNIT}")).unwrap();
    serves(machine);
    let people =
        machine.on("runuser -u http-boot -- http-boot user list --state /var/lib/http-boot").unwrap();
    assert!(people.contains("anna"), "{people}");
}

fn a_change_of_the_fleet_counts(machine: &Machine) {
    let plan = format!("http://{ADDRESS}/v1/boot/10000000abcdef01");
    machine.on("printf 'format = 1\n[defaults]\nboot = \"rescue\"\n' >/etc/pi-lifeboat/.new; chmod 644 /etc/pi-lifeboat/.new; mv /etc/pi-lifeboat/.new /etc/pi-lifeboat/fleet.toml").unwrap();
    let answer = machine
        .here(&format!("timeout 20 sh -c 'until curl --silent --fail {plan}; do sleep 0.3; done'"))
        .unwrap();
    assert!(answer.contains("lifeboat.rescue"), "{answer}");
}

fn an_upgrade_keeps_the_settings(machine: &Machine) {
    machine
        .on("sed -i 's/^HTTP=.*/HTTP=--listen [::]:80 --listen [::]:8081/' /etc/pi-lifeboat/http-boot.conf")
        .unwrap();
    let said = install(machine, 2);
    assert!(!said.contains("does not start"), "{said}");
    assert_eq!(installed_version(machine), version_of("deb-2"));
    assert_eq!(fetch(machine, &format!("http://{ADDRESS}:8081/hello")), "over HTTP\n");
    serves(machine);
    let fleet = machine.on("cat /etc/pi-lifeboat/fleet.toml").unwrap();
    assert!(fleet.contains("boot = \"rescue\""), "{fleet}");
}

fn leaves_nothing(machine: &Machine) {
    machine.on("dpkg --remove pi-lifeboat-http-boot").unwrap();
    // 7: curl's word for "connection refused".
    machine
        .here(&format!("curl --silent --max-time 5 http://{ADDRESS}/hello && exit 1 || test $? = 7"))
        .unwrap();
    // `remove` keeps them.
    machine.on("ls /var/lib/http-boot/http-boot.sqlite /etc/pi-lifeboat/http-boot.conf").unwrap();
    machine.on("rm /srv/boot/tftp/config.txt; dpkg --purge pi-lifeboat-http-boot").unwrap();
    let left = machine.on("find / -xdev -not -path '/proc/*' -path '*http-boot*' -not -path '/var/log/journal/*'; find /etc/pi-lifeboat || true").unwrap();
    let left: Vec<_> = left.lines().filter(|line| !line.contains("No such file")).collect();
    assert!(left.is_empty(), "{left:#?}");
    // The site's own files stay; the folder that was empty went.
    machine.on("cat /srv/boot/hello && test ! -e /srv/boot/tftp").unwrap();
}

fn comes_back_to_what_was_left(machine: &Machine) {
    let said = install(machine, 1);
    assert!(!said.contains("does not start"), "{said}");
    machine.on("echo over=TFTP >/srv/boot/tftp/config.txt").unwrap();
    serves(machine);
}

#[test]
fn lintian_finds_nothing_in_the_package() {
    let lintian = Command::new("lintian")
        .args(["--fail-on", "error,warning", "--tag-display-limit", "0", "--allow-root"])
        .arg(made("deb-1"))
        .output()
        .expect("lintian (package lintian)");
    Ended::new(&lintian).unwrap();
}
