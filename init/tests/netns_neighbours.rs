//! What the network child tells its neighbours and hears from them, in network namespaces: Avahi looks for it, lldpd and
//! the kernel's own bridge are its switch. Needs root.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![cfg(feature = "pid1")]

mod host;

use host::{Host, pair, wait_until};
use init::status::{InterfaceStatus, NetworkStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const FIXED: &str = "systemd.hostname=cm4-7 ip=192.0.2.7:::24::eth0:none";

fn eth0(status: &NetworkStatus) -> &InterfaceStatus {
    status.interfaces.iter().find(|one| one.name == "eth0").unwrap()
}

#[test]
fn a_pi_and_its_ssh_are_found_by_name_until_it_goes() {
    let (mut pi, mut peer) = pair();
    peer.start_avahi("desk");
    pi.start_network(FIXED);
    pi.wait(|status| status.mdns_name.as_deref() == Some("cm4-7.local"));
    peer.wait_for_output("avahi-resolve -4 -n cm4-7.local", |text| text == "cm4-7.local\t192.0.2.7\n");
    peer.wait_for_output("avahi-resolve -6 -n CM4-7.local", |text| text.contains("\tfe80:"));
    let found = peer.wait_for_output("avahi-browse --resolve --terminate --parsable _ssh._tcp", |text| {
        text.lines().any(|line| line.starts_with("=;eth0;IPv4;cm4-7;"))
    });
    assert!(found.contains(";cm4-7.local;192.0.2.7;22;\"u=root\""), "{found}");
    // The kinds of service that there are.
    peer.wait_for_output("avahi-browse --all --terminate --parsable", |text| {
        text.contains("SSH Remote Terminal")
    });
    // It moves, and the old address is taken back.
    pi.ip("addr del 192.0.2.7/24 dev eth0");
    pi.ip("addr add 192.0.2.8/24 dev eth0");
    peer.wait_for_output("avahi-resolve -4 -n cm4-7.local", |text| text == "cm4-7.local\t192.0.2.8\n");
    // It ends, as at a hand-over: who has just learnt the name forgets it.
    let network = pi.children.pop().unwrap();
    kill(Pid::from_raw(network.id() as i32), Signal::SIGTERM).unwrap();
    let status = { network }.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGTERM as i32));
    peer.wait_for_output("avahi-resolve -4 -n cm4-7.local", |text| text.contains("Timeout reached"));
}

#[test]
fn a_name_that_another_host_has_gets_a_number() {
    let (mut pi, mut peer) = pair();
    peer.start_avahi("cm4-7");
    pi.start_network(FIXED);
    pi.wait(|status| status.mdns_name.as_deref() == Some("cm4-7-2.local"));
    peer.wait_for_output("avahi-resolve -4 -n cm4-7-2.local", |text| text == "cm4-7-2.local\t192.0.2.7\n");
    peer.wait_for_output("avahi-resolve -4 -n cm4-7.local", |text| text == "cm4-7.local\t192.0.2.1\n");
}

#[test]
fn of_two_that_start_at_once_each_has_its_own_name() {
    let (mut first, mut second, switch) = (Host::new(), Host::new(), Host::new());
    switch.ip("link add br0 type bridge");
    for (port, host) in [("p1", &first), ("p2", &second)] {
        switch.plug(port, host, "eth0");
        switch.ip(&format!("link set {port} master br0 up"));
    }
    switch.ip("link set br0 up");
    first.start_network("ip=192.0.2.7:::24::eth0:none");
    second.start_network("ip=192.0.2.8:::24::eth0:none");
    let settled = |host: &Host| host.wait(|status| status.mdns_name.is_some()).mdns_name.unwrap();
    // Which of them has to give way is found out within the probes, or by the first words after them.
    let names = wait_until("each has a name", || {
        let mut names = [settled(&first), settled(&second)];
        names.sort();
        (names[0] != names[1]).then_some(names)
    });
    assert_eq!(names, ["lifeboat-2.local", "lifeboat.local"]);
}

#[test]
fn a_pi_says_nothing_where_it_shall_not() {
    let (mut pi, mut peer) = pair();
    peer.start_avahi("desk");
    pi.start_network(&format!("{FIXED} lifeboat.mdns=off"));
    pi.wait(|status| status.online && eth0(status).addresses.iter().any(|one| one.starts_with("fe80:")));
    let said = peer.output("avahi-resolve -4 -n cm4-7.local");
    assert!(said.contains("Timeout reached"), "{said}");
    assert_eq!(pi.wait(|_| true).mdns_name, None);
}

#[test]
fn a_switch_is_told_by_its_name_and_port_until_it_goes() {
    let (mut pi, mut peer) = pair();
    pi.start_network(FIXED);
    pi.wait(|status| status.online);
    peer.start("hostname sw1 && exec lldpd -d -u /run/lldpd.socket -I eth0 -S 'a switch'");
    let status = pi.wait(|status| eth0(status).switch.is_some());
    let switch = eth0(&status).switch.clone().unwrap();
    assert_eq!(switch.description.as_deref(), Some("eth0"), "{switch:?}");
    assert!(eth0(&status).heard()[0].starts_with("switch "), "{status:?}");
    // Another cable, another switch.
    peer.ip("link set eth0 down");
    pi.wait(|status| eth0(status).switch.is_none());
}

#[test]
fn a_port_that_blocks_is_told_and_waited_for() {
    let (mut pi, mut switch) = (Host::new(), Host::new());
    // The kernel's own spanning tree (802.1D): 6 s of listening, 6 s of learning, nothing carried meanwhile.
    switch.ip("link add br0 type bridge stp_state 1 forward_delay 600 hello_time 100");
    switch.ip("addr add 192.0.2.1/24 dev br0");
    switch.plug("eth0", &pi, "eth0");
    switch.ip("link set eth0 master br0");
    switch.ip("link set br0 up");
    switch.start(
        "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --bind-interfaces --interface=br0 --user=root \
         --dhcp-leasefile=/run/leases --pid-file= --dhcp-range=192.0.2.50,192.0.2.59,255.255.255.0,2m --dhcp-authoritative",
    );
    pi.start_network("ip=dhcp");
    switch.ip("link set eth0 up");
    let status = pi.wait(|status| {
        eth0(status).spanning_tree.as_ref().is_some_and(|tree| tree.may_block)
            && eth0(status).state.contains("without an answer")
    });
    let tree = eth0(&status).spanning_tree.clone().unwrap();
    assert_eq!((tree.protocol.as_str(), tree.forward_delay, tree.port), ("STP", 6, 1), "{tree:?}");
    assert_eq!(tree.root, tree.bridge);
    let heard = eth0(&status).heard().join("");
    assert!(heard.contains("may still be blocking, up to 12 s after each link-up"), "{heard}");
    // It waits it out, and then there is nothing to advise.
    let status = pi.wait(|status| status.online);
    assert!(eth0(&status).state.contains("leased by 192.0.2.1"), "{status:?}");
    assert_eq!(eth0(&status).heard(), [tree.to_string()]);
}
