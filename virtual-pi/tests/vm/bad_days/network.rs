//! Networks that come late, are odd, or half dead.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use virtual_pi::machine::{Machine, Options};

use super::{Outcome, Row, day};
use crate::site::{Server, kill_9, ssh_ok, wait, wait_console};

pub(crate) const WAITING: &[Row] = &[
    ("a network card after 2 min", a_card_after_two_minutes),
    ("a cable after 3 min", a_cable_after_three_minutes),
    ("a DHCP server after 3 min", a_server_after_three_minutes),
];

pub(crate) const ROWS: &[Row] = &[
    ("no network card", no_card),
    ("two DHCP servers", two_servers),
    ("a fixed address alone", a_fixed_address),
    ("IPv6 alone", ipv6_alone),
    ("a VLAN", a_vlan),
    ("a bond, one link dead", a_bond),
];

/// A further network card, on a network of QEMU's.
fn card(options: &mut Options, name: &str, network: &str) {
    let mac = format!("02:00:00:00:00:{:02x}", options.qemu_arguments.len());
    let device = format!("virtio-net-pci,netdev={name},id={name}-card,mac={mac},romfile=");
    let words = ["-netdev", &format!("{network},id={name}"), "-device", &device].map(Into::into);
    options.qemu_arguments.extend(words);
}

/// The rescue is there, and is logged in to.
fn in_the_rescue(machine: &Machine) -> String {
    wait(machine, "rescue", |status| status.step == "rescue");
    assert_eq!(ssh_ok(machine, "echo $((6 * 7))").trim(), "42");
    "the rescue, logged in".into()
}

/// Time passes, and nothing happens: the machine must still be there.
fn nothing_for(machine: &Machine, time: Duration) {
    assert!(machine.wait_for_end(time).is_err(), "{}", machine.console());
}

fn no_card() -> Outcome {
    let server = Server::start();
    let machine = server.power_on_with("", |options| options.card = false);
    wait(&machine, "no card", |status| status.next.contains("waiting for a wired interface"));
    nothing_for(&machine, Duration::from_secs(30));
    let end = "says so on the console, and waits".into();
    Outcome { ssh: None, end }
}

fn a_card_after_two_minutes() -> Outcome {
    let server = Server::start();
    let machine = server.power_on_with("", |options| options.card = false);
    day(&machine, || {
        nothing_for(&machine, Duration::from_secs(120));
        machine.plug_card_in().unwrap();
        in_the_rescue(&machine)
    })
}

fn a_cable_after_three_minutes() -> Outcome {
    let server = Server::start();
    let machine = server.power_on("");
    machine.set_link(false).unwrap();
    day(&machine, || {
        wait(&machine, "no link", |status| status.next.contains("eth0: waiting for a link"));
        nothing_for(&machine, Duration::from_secs(180));
        machine.set_link(true).unwrap();
        in_the_rescue(&machine)
    })
}

fn a_server_after_three_minutes() -> Outcome {
    let server = Server::start();
    let machine = server.power_on_with("", |options| options.no_dhcp_for = Duration::from_secs(180));
    day(&machine, || {
        let status = wait(&machine, "no address", |status| status.next.contains("without an answer"));
        assert_eq!(status.step, "network");
        in_the_rescue(&machine)
    })
}

/// Both are on one wire and offer another address each; either will do.
fn two_servers() -> Outcome {
    let server = Server::start();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let machine = server.power_on_with("", |options| {
        options.card = false;
        let second = "user,id=second,host=10.0.2.102,dns=10.0.2.103,dhcpstart=10.0.2.50";
        let words = [
            "-netdev",
            "hubport,id=first-port,hubid=9,netdev=net",
            "-netdev",
            &format!("{second},hostfwd=tcp:127.0.0.1:{port}-10.0.2.50:22"),
            "-netdev",
            "hubport,id=second-port,hubid=9,netdev=second",
            "-netdev",
            "hubport,id=card,hubid=9",
            "-device",
            "virtio-net-pci,netdev=card,mac=02:00:00:00:00:01,romfile=",
        ];
        options.qemu_arguments.extend(words.map(Into::into));
    });
    wait(&machine, "rescue", |status| status.step == "rescue");
    wait_console(&machine, r"eth0: address 10\.0\.2\.(15|50)/24");
    let console = machine.console();
    let both = console.contains("address 10.0.2.15/24") && console.contains("address 10.0.2.50/24");
    assert!(!both, "one lease, not two: {console}");
    let of = if console.contains("10.0.2.15/24") { "first" } else { "second" };
    Outcome { ssh: None, end: format!("the rescue, with the address of the {of}") }
}

fn a_fixed_address() -> Outcome {
    let server = Server::start();
    // No DHCP server would answer, if it were asked.
    let machine = server.power_on("ip=10.0.2.15::10.0.2.2:24::eth0:none");
    day(&machine, || {
        let end = in_the_rescue(&machine);
        assert!(!machine.console().contains("DHCP: "), "{}", machine.console());
        end
    })
}

fn a_bond() -> Outcome {
    let server = Server::start();
    let append = "bond=bond0:eth0,eth1:mode=active-backup,miimon=50,primary=eth1 ip=bond0:dhcp";
    let machine = server.power_on_with(append, |options| card(options, "second", "user"));
    machine.qmp("set_link", &json!({"name": "second-card", "up": false})).unwrap();
    day(&machine, || bond_is_right(&machine))
}

fn bond_is_right(machine: &Machine) -> String {
    let end = in_the_rescue(machine);
    let bond = ssh_ok(machine, "cat /proc/net/bonding/bond0");
    for part in [
        "fault-tolerance (active-backup)",
        "Currently Active Slave: eth0",
        "Slave Interface: eth1",
        "Polling Interval (ms): 50",
    ] {
        assert!(bond.contains(part), "{part} in {bond}");
    }
    let status: serde_json::Value =
        serde_json::from_str(&ssh_ok(machine, "cat /run/lifeboat/network.json")).unwrap();
    let of =
        |name: &str| status["interfaces"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
    assert!(of("bond0")["addresses"].to_string().contains("10.0.2.15/24"), "{status}");
    assert_eq!(of("eth0")["addresses"], json!([]), "{status}");
    // The child that made it dies: nothing of it is touched by the next.
    kill_9(machine, "init network");
    wait_console(machine, "network ended");
    let again = ssh_ok(machine, "sleep 2; cat /proc/net/bonding/bond0");
    assert!(again.contains("Currently Active Slave: eth0"), "{again}");
    format!("{end}, by the other link")
}

fn a_vlan() -> Outcome {
    let server = Server::start();
    let append = "vlan=eth1.5:eth1 ip=eth0:dhcp ip=192.0.2.7:::24::eth1.5:none";
    let machine = server.power_on_with(append, |options| {
        card(options, "here", "hubport,hubid=7");
        card(options, "there", "hubport,hubid=7");
    });
    day(&machine, || vlan_is_right(&machine))
}

fn vlan_is_right(machine: &Machine) -> String {
    let end = in_the_rescue(machine);
    wait_console(machine, "eth1.5: address 192.0.2.7/24");
    let config = ssh_ok(machine, "cat /proc/net/vlan/config");
    assert!(
        config.lines().any(|line| line.split('|').map(str::trim).eq(["eth1.5", "5", "eth1"])),
        "{config}"
    );
    // The other end of the cable is a network of its own, and its packets have the same number.
    let said = on_the_other_end(
        machine,
        "ip link add link eth2 name p5 type vlan id 5; ip addr add 192.0.2.1/24 dev p5; ip link set p5 up; \
         ping -c 3 -W 10 192.0.2.7",
    );
    assert!(said.contains(" 0% packet loss"), "{said}");
    format!("{end}, pinged from the VLAN")
}

/// Runs a script of shell in a network namespace of the guest that has the other end of its second cable, eth2.
fn on_the_other_end(machine: &Machine, script: &str) -> String {
    let other = "unshare --net sleep 1000 < /dev/null > /dev/null 2>&1 &
        until test \"$(readlink /proc/$!/ns/net)\" != \"$(readlink /proc/self/ns/net)\"; do sleep 0.1; done
        ip link set eth2 netns $!";
    ssh_ok(machine, &format!("{other}\nnsenter --target $! --net sh -c 'ip link set eth2 up; {script}'"))
}

/// QEMU's router announces fec0::/64 on the first card, and passes no SSH on by IPv6: who comes by that is on the other end of the
/// second card, which has a link-local address and nothing else.
fn ipv6_alone() -> Outcome {
    let server = Server::start();
    let alone = server.power_on("ip=auto6");
    wait(&alone, "rescue", |status| status.step == "rescue");
    wait_console(&alone, "eth0: address fec0::");
    assert!(!alone.console().contains("address 10.0.2."), "{}", alone.console());
    drop(alone);
    let machine = server.power_on_with("ip=eth0:dhcp ip=eth1:link-local", |options| {
        card(options, "here", "hubport,hubid=7");
        card(options, "there", "hubport,hubid=7");
    });
    day(&machine, || {
        let end = in_the_rescue(&machine);
        let address = ssh_ok(
            &machine,
            "ip -6 addr show dev eth1 scope link | awk '/inet6/ { sub(\"/.*\", \"\", $2); print $2 }'",
        );
        let greeting = format!(
            "for n in $(seq 100); do nc -w 5 {}%eth2 22 < /dev/null | head -n 1 | grep SSH && break; sleep 0.2; done",
            address.trim()
        );
        let said = on_the_other_end(&machine, &greeting);
        assert!(said.starts_with("SSH-2.0-"), "{said}");
        format!("{end}; SSH greets on a link-local address")
    })
}
