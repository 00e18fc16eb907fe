//! The child `network` in a network namespace, against dnsmasq. Each test has its own network, mount and host name
//! namespaces, so nothing of the host's is touched. Needs root.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![cfg(feature = "pid1")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::site::{Site, addresses, run};
use init::status::NetworkStatus;

#[test]
fn dhcp_gives_address_route_name_servers_and_host_name() {
    let mut site = Site::new("quiet nameserver=192.0.2.99");
    site.start_dnsmasq(&[
        "--dhcp-option=option:router,192.0.2.254",
        "--dhcp-option=option:dns-server,192.0.2.53",
        "--dhcp-option=option:domain-name,site.example",
        "--dhcp-option-force=12,cm4-7",
    ]);
    site.start_network();
    let status = site.wait(|status| status.online && status.hostname.is_some());
    // dnsmasq gives one of 192.0.2.50 to 192.0.2.59.
    assert!(addresses(&status).iter().any(|address| address.starts_with("192.0.2.5")), "{status:?}");
    assert_eq!(status.nameservers, ["192.0.2.99", "192.0.2.53"]);
    assert_eq!(status.hostname.as_deref(), Some("cm4-7"));
    let resolv_conf = std::fs::read_to_string(site.path("etc/resolv.conf")).unwrap();
    assert_eq!(resolv_conf, "search site.example\nnameserver 192.0.2.99\nnameserver 192.0.2.53\n");
    let routed = |status: &NetworkStatus| status.interfaces.iter().any(|one| one.gateway.is_some());
    site.wait(routed);
    assert!(
        site.output("ip route").contains("default via 192.0.2.254 dev eth0"),
        "{}",
        site.output("ip route")
    );
}

#[test]
fn a_server_that_comes_late_is_found() {
    let mut site = Site::new("ip=dhcp");
    site.start_network();
    let waiting =
        |status: &NetworkStatus| status.interfaces.iter().any(|one| one.state.contains("without an answer"));
    let status = site.wait(waiting);
    assert!(!status.online);
    site.start_dnsmasq(&[]);
    site.wait(|status| status.online);
}

#[test]
fn a_fixed_address_needs_no_server() {
    let mut site = Site::new("ip=192.0.2.7::192.0.2.1:255.255.255.0:fixed:eth0:off:192.0.2.1");
    site.start_network();
    let status = site.wait(|status| status.online);
    assert!(addresses(&status).contains(&"192.0.2.7/24"), "{status:?}");
    assert_eq!(status.hostname.as_deref(), Some("fixed"));
    site.wait(|status| status.interfaces.iter().any(|one| one.gateway.is_some()));
    assert!(site.output("ping -c1 -W5 192.0.2.1").contains("1 received"));
}

#[test]
fn a_cable_pulled_and_plugged_asks_again() {
    let mut site = Site::new("");
    site.start_dnsmasq(&[]);
    site.start_network();
    site.wait(|status| status.online);
    run(&format!("ip -n {} link set eth0 down", site.server()));
    let unplugged = |status: &NetworkStatus| status.interfaces.iter().all(|one| !one.carrier);
    let status = site.wait(|status| unplugged(status) && !status.online);
    assert!(status.interfaces.iter().any(|one| one.state.contains("waiting for a link")), "{status:?}");
    run(&format!("ip -n {} link set eth0 up", site.server()));
    site.wait(|status| status.online && status.interfaces.iter().any(|one| one.state.contains("leased")));
}

#[test]
fn an_interface_without_ipv4_is_up_for_ipv6() {
    let mut site = Site::new("ip=off");
    site.start_network();
    let status = site.wait(|status| addresses(status).iter().any(|address| address.starts_with("fe80:")));
    assert!(!status.online);
    assert_eq!(site.output("ip -4 addr show eth0"), "");
    assert!(Path::new(&site.path("etc/resolv.conf")).exists());
}

#[test]
fn routers_announce_addresses_and_name_servers() {
    let mut site = Site::new("ip=auto6");
    run(&format!("ip -n {} addr add 2001:db8::1/64 dev eth0 nodad", site.server()));
    site.start_dnsmasq(&[
        "--enable-ra",
        "--dhcp-range=2001:db8::,ra-only,64",
        "--ra-param=eth0,10",
        "--dhcp-option=option6:dns-server,[2001:db8::53]",
    ]);
    site.start_network();
    let status = site.wait(|status| status.online && !status.nameservers.is_empty());
    let all = addresses(&status);
    assert!(all.iter().any(|address| address.starts_with("2001:db8::")), "{status:?}");
    assert!(!all.iter().any(|address| address.contains('.')), "{status:?}");
    assert_eq!(status.nameservers, ["2001:db8::53"]);
    let resolv_conf = std::fs::read_to_string(site.path("etc/resolv.conf")).unwrap();
    assert_eq!(resolv_conf, "nameserver 2001:db8::53\n");
    assert!(site.output("ip -6 route").contains("default via fe80:"), "{}", site.output("ip -6 route"));
}

#[test]
fn an_interface_has_the_name_the_addresses_and_the_routes_of_the_command_line() {
    let mut site = Site::new(
        "ifname=lan:02:00:00:00:00:07 ip=[2001:db8::7]::[2001:db8::1]:64::lan:none:1400 ip=192.0.2.7:::24::lan:none \
         rd.route=10.0.0.0/8:192.0.2.1 rd.route=[2001:db8:1::]/48:[2001:db8::2]:lan",
    );
    run(&format!("ip -n {} link set eth0 address 02:00:00:00:00:07", site.device()));
    site.start_network();
    let there = ["2001:db8::7/64", "192.0.2.7/24"];
    let status = site.wait(|status| there.iter().all(|wanted| addresses(status).contains(wanted)));
    assert!(status.online && status.interfaces[0].name == "lan", "{status:?}");
    site.wait(|status| status.interfaces.iter().any(|one| one.gateway.is_some()));
    assert!(site.output("ip link show lan").contains("mtu 1400"), "{}", site.output("ip link show lan"));
    let routes = || site.output("ip route") + &site.output("ip -6 route");
    let wanted = [
        "10.0.0.0/8 via 192.0.2.1 dev lan",
        "2001:db8:1::/48 via 2001:db8::2 dev lan",
        "default via 2001:db8::1 dev lan",
    ];
    for _ in 0..50 {
        if wanted.iter().all(|route| routes().contains(route)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{}", routes());
}

#[test]
fn routes_and_search_domains_come_from_the_server() {
    let mut site = Site::new("");
    site.start_dnsmasq(&[
        "--dhcp-option=option:router,192.0.2.254",
        "--dhcp-option=121,10.0.0.0/8,192.0.2.9,0.0.0.0/0,192.0.2.8",
        "--dhcp-option=option:domain-name,own.example",
        "--dhcp-option=option:domain-search,a.example,b.a.example",
    ]);
    site.start_network();
    site.wait(|status| status.interfaces.iter().any(|one| one.gateway.as_deref() == Some("192.0.2.8")));
    for _ in 0..50 {
        let routes = site.output("ip route");
        let resolv_conf = std::fs::read_to_string(site.path("etc/resolv.conf")).unwrap();
        if routes.contains("10.0.0.0/8 via 192.0.2.9 dev eth0")
            && resolv_conf.starts_with("search own.example a.example b.a.example\n")
        {
            assert!(!routes.contains("192.0.2.254"), "{routes}");
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{}", site.output("ip route"));
}
