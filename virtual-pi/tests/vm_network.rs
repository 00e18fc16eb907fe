//! Networks that the command line describes: a bond, a VLAN, IPv6 alone, on the kernel that a Pi runs.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod site;

use serde_json::json;
use site::{Server, kill_9, ssh_ok, wait, wait_console};
use virtual_pi::machine::Options;

/// A further network card, on a network of QEMU's.
fn card(options: &mut Options, name: &str, network: &str) {
    let mac = format!("02:00:00:00:00:{:02x}", options.qemu_arguments.len());
    let device = format!("virtio-net-pci,netdev={name},id={name}-card,mac={mac},romfile=");
    let words = ["-netdev", &format!("{network},id={name}"), "-device", &device].map(Into::into);
    options.qemu_arguments.extend(words);
}

#[test]
fn a_bond_works_with_one_of_its_links_dead() {
    let server = Server::start();
    let append = "bond=bond0:eth0,eth1:mode=active-backup,miimon=50,primary=eth1 ip=bond0:dhcp";
    let machine = server.power_on_with(append, |options| card(options, "second", "user"));
    machine.qmp("set_link", &json!({"name": "second-card", "up": false})).unwrap();
    wait(&machine, "rescue", |status| status.step == "rescue");
    let bond = ssh_ok(&machine, "cat /proc/net/bonding/bond0");
    for part in [
        "fault-tolerance (active-backup)",
        "Currently Active Slave: eth0",
        "Slave Interface: eth1",
        "Polling Interval (ms): 50",
    ] {
        assert!(bond.contains(part), "{part} in {bond}");
    }
    let status: serde_json::Value =
        serde_json::from_str(&ssh_ok(&machine, "cat /run/lifeboat/network.json")).unwrap();
    let of =
        |name: &str| status["interfaces"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
    assert!(of("bond0")["addresses"].to_string().contains("10.0.2.15/24"), "{status}");
    assert_eq!(of("eth0")["addresses"], json!([]), "{status}");
    // The child that made it dies: nothing of it is touched by the next.
    kill_9(&machine, "init network");
    wait_console(&machine, "network ended");
    let again = ssh_ok(&machine, "sleep 2; cat /proc/net/bonding/bond0");
    assert!(again.contains("Currently Active Slave: eth0"), "{again}");
}

#[test]
fn a_vlan_carries_its_own_address() {
    let server = Server::start();
    let append = "vlan=eth1.5:eth1 ip=eth0:dhcp ip=192.0.2.7:::24::eth1.5:none";
    let machine = server.power_on_with(append, |options| {
        card(options, "here", "hubport,hubid=7");
        card(options, "there", "hubport,hubid=7");
    });
    wait(&machine, "rescue", |status| status.step == "rescue");
    wait_console(&machine, "eth1.5: address 192.0.2.7/24");
    let config = ssh_ok(&machine, "cat /proc/net/vlan/config");
    assert!(
        config.lines().any(|line| line.split('|').map(str::trim).eq(["eth1.5", "5", "eth1"])),
        "{config}"
    );
    // The other end of the cable is a network of its own, and its packets have the same number.
    let other = "unshare --net sleep 1000 < /dev/null > /dev/null 2>&1 &
        until test \"$(readlink /proc/$!/ns/net)\" != \"$(readlink /proc/self/ns/net)\"; do sleep 0.1; done
        ip link set eth2 netns $!
        nsenter --target $! --net sh -c 'ip link set eth2 up; ip link add link eth2 name p5 type vlan id 5
        ip addr add 192.0.2.1/24 dev p5; ip link set p5 up; ping -c 3 -W 10 192.0.2.7'";
    let said = ssh_ok(&machine, other);
    assert!(said.contains(" 0% packet loss"), "{said}");
}

#[test]
fn ipv6_alone_is_enough() {
    let server = Server::start();
    let machine = server.power_on("ip=auto6");
    // QEMU's router announces fec0::/64 and the name server fec0::3. SSH comes by the host's IPv4 here.
    wait(&machine, "rescue", |status| status.step == "rescue");
    wait_console(&machine, "eth0: address fec0::");
    let console = machine.console();
    assert!(!console.contains("address 10.0.2."), "{console}");
}
