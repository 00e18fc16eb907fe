//! IPv6 of the child `network`, against dnsmasq and radvd. Each test has namespaces of its own. Needs root.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![cfg(feature = "pid1")]

mod common;

use std::net::Ipv6Addr;
use std::time::Duration;

use common::cable::Weather;
use common::site::{MAC, Site, addresses, run};
use init::pid1::dhcp::chance::Chance;
use init::status::{InterfaceStatus, NetworkStatus};

/// dnsmasq as a DHCPv6 server, announcing routers or not.
fn serve(site: &mut Site, options: &[&str]) -> usize {
    let leases = site.path("leases6").display().to_string();
    let options = options.iter().map(|option| format!(" '{option}'")).collect::<String>();
    let script = format!(
        "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --bind-interfaces --interface=eth0 --user=root \
         --log-dhcp --pid-file= --dhcp-authoritative --dhcp-leasefile={leases}{options}"
    );
    site.start(&site.server(), &script)
}

fn announce(site: &mut Site, interface: &str) -> usize {
    let config = site.path("radvd.conf");
    std::fs::write(&config, format!("interface eth0 {{ AdvSendAdvert on; {interface} }};\n")).unwrap();
    let script = format!(
        "exec radvd --nodaemon --logmethod=stderr --config={} --pidfile={}",
        config.display(),
        site.path("radvd.pid").display()
    );
    site.start(&site.server(), &script)
}

/// The server's network, a router's: 2001:db8::1/64.
fn with_router(command_line: &str) -> Site {
    let site = Site::new(command_line);
    be_router(&site);
    site
}

fn be_router(site: &Site) {
    let server = site.server();
    run(&format!("ip -n {server} addr add 2001:db8::1/64 dev eth0 nodad"));
    run(&format!("ip netns exec {server} sysctl -qw net.ipv6.conf.all.forwarding=1"));
}

fn ipv6(status: &NetworkStatus, wanted: impl Fn(&InterfaceStatus) -> bool) -> bool {
    status.interfaces.iter().any(wanted)
}

fn state_has(status: &NetworkStatus, words: &str) -> bool {
    ipv6(status, |one| one.ipv6.state.contains(words))
}

/// Whether an address of the servers' range is there, as such addresses are.
fn is_leased(status: &NetworkStatus) -> bool {
    addresses(status).iter().any(|text| text.starts_with("2001:db8::5") && text.ends_with("/128"))
}

const RANGE: &str = "--dhcp-range=2001:db8::50,2001:db8::5f,64,2m";
const MORE: [&str; 3] = [
    "--dhcp-option=option6:dns-server,[2001:db8::53]",
    "--dhcp-option=option6:domain-search,site.example,a.example",
    "--dhcp-option=option6:ntp-server,[2001:db8::123]",
];

#[test]
fn a_router_that_manages_addresses_has_us_ask_for_one() {
    let mut site = with_router("ip=auto6");
    serve(&mut site, &[&[RANGE, "--enable-ra", "--ra-param=eth0,10"], &MORE[..]].concat());
    site.start_network();
    let status = site.wait(|status| status.online && is_leased(status) && !status.nameservers.is_empty());
    assert!(state_has(&status, "DHCPv6: leased 2001:db8::5"), "{status:?}");
    assert_eq!((status.nameservers, status.ntp), (vec!["2001:db8::53".into()], vec!["2001:db8::123".into()]));
    let resolv_conf = std::fs::read_to_string(site.path("etc/resolv.conf")).unwrap();
    assert_eq!(resolv_conf, "search site.example a.example\nnameserver 2001:db8::53\n");
    site.wait(|status| ipv6(status, |one| one.ipv6.routers.iter().any(|router| router.starts_with("fe80:"))));
    let kernel = site.output("ip -6 addr show dev eth0 scope global");
    assert!(kernel.contains("/128 scope global dynamic"), "{kernel}");
    assert!(!kernel.contains("valid_lft forever"), "it leaves with the lease: {kernel}");
    assert!(site.output("ping -6 -c1 -W5 2001:db8::1").contains("1 received"));
}

#[test]
fn a_router_without_addresses_to_manage_has_us_ask_for_the_rest() {
    let mut site = with_router("");
    serve(
        &mut site,
        &[&["--dhcp-range=2001:db8::,ra-stateless,64", "--ra-param=eth0,10"], &MORE[..]].concat(),
    );
    site.start_network();
    let status = site.wait(|status| state_has(status, "DHCPv6: informed") && status.online);
    assert_eq!((status.nameservers.len(), status.ntp.len()), (1, 1), "{status:?}");
    assert!(!addresses(&status).iter().any(|address| address.ends_with("/128")), "{status:?}");
}

#[test]
fn both_kinds_of_addresses_come_together() {
    let mut site = with_router("");
    serve(&mut site, &["--dhcp-range=2001:db8::50,2001:db8::5f,slaac,64,2m", "--ra-param=eth0,10"]);
    site.start_network();
    site.wait(|status| {
        is_leased(status)
            && addresses(status).iter().any(|one| one.ends_with("/64") && one.starts_with("2001:"))
    });
}

#[test]
fn a_server_is_asked_without_a_router_and_found_late() {
    let mut site = with_router("ip=eth0:dhcp6");
    site.start_network();
    site.wait(|status| state_has(status, "requests in") && state_has(status, "without an answer"));
    serve(&mut site, &[RANGE]);
    site.wait(|status| status.online && is_leased(status));
}

#[test]
fn either_way_is_taken() {
    let mut lonely = with_router("ip=either6");
    serve(&mut lonely, &[RANGE]);
    lonely.start_network();
    let mut routed = with_router("ip=either6");
    announce(&mut routed, "prefix 2001:db8::/64 { }; MaxRtrAdvInterval 4; MinRtrAdvInterval 3;");
    routed.start_network();
    let status = routed.wait(|status| status.online);
    assert!(ipv6(&status, |one| one.ipv6.state.is_empty()) && !is_leased(&status), "{status:?}");
    lonely.wait(is_leased);
    // A cable that was out for a moment.
    pull_and_plug(&lonely);
    lonely.wait(|status| state_has(status, "DHCPv6: leased"));
}

fn pull_and_plug(site: &Site) {
    let server = site.server();
    run(&format!("ip -n {server} link set eth0 down"));
    site.wait(|status| ipv6(status, |one| !one.carrier));
    run(&format!("ip -n {server} link set eth0 up"));
    // It went with the link.
    run(&format!("ip -n {server} addr replace 2001:db8::1/64 dev eth0 nodad"));
    site.wait(|status| ipv6(status, |one| one.carrier));
}

#[test]
fn a_cable_that_moves_to_a_network_without_dhcp_leaves_its_lease_behind() {
    let mut site = with_router("");
    let dnsmasq = serve(&mut site, &[RANGE, "--enable-ra", "--ra-param=eth0,10"]);
    site.start_network();
    site.wait(|status| is_leased(status) && status.online);
    site.stop(dnsmasq);
    pull_and_plug(&site);
    announce(&mut site, "prefix 2001:db8::/64 { }; MaxRtrAdvInterval 4; MinRtrAdvInterval 3;");
    let status = site.wait(|status| status.online && !is_leased(status));
    assert!(ipv6(&status, |one| one.ipv6.state.is_empty()), "{status:?}");
}

#[test]
fn what_a_router_said_ends_with_its_time() {
    let mut site = with_router("ip=auto6");
    let radvd = announce(
        &mut site,
        "MaxRtrAdvInterval 4; MinRtrAdvInterval 3; AdvDefaultLifetime 6; \
         prefix 2001:db8::/64 { AdvPreferredLifetime 6; AdvValidLifetime 25; }; \
         RDNSS 2001:db8::53 { AdvRDNSSLifetime 6; }; DNSSL site.example { AdvDNSSLLifetime 6; };",
    );
    site.start_network();
    let all = |status: &NetworkStatus| {
        let routed = ipv6(status, |one| !one.ipv6.routers.is_empty() && one.ipv6.deprecated.is_empty());
        status.online && status.nameservers == ["2001:db8::53"] && routed
    };
    site.wait(all);
    let path = site.path("etc/resolv.conf");
    let resolv_conf = || std::fs::read_to_string(&path).unwrap();
    let has_domain = || resolv_conf() == "search site.example\nnameserver 2001:db8::53\n";
    site.wait_output("true", |_| has_domain());
    // It dies without a word.
    site.stop(radvd);
    site.wait(|status| {
        ipv6(status, |one| one.ipv6.deprecated.iter().any(|text| text.starts_with("2001:db8:")))
    });
    site.wait(|status| !status.online && status.nameservers.is_empty());
    assert_eq!(resolv_conf(), "");
    // The kernel looks for routes whose time is over every half a minute.
    site.wait(|status| ipv6(status, |one| one.ipv6.routers.is_empty() && one.ipv6.deprecated.is_empty()));
}

#[test]
fn an_address_that_another_machine_has_is_given_back() {
    let mut site = with_router("ip=dhcp6");
    run(&format!("ip -n {} link set eth0 address 02:00:00:00:00:07", site.device()));
    run(&format!("ip -n {} addr add 2001:db8::50/64 dev eth0 nodad", site.server()));
    serve(&mut site, &[RANGE, "--dhcp-host=02:00:00:00:00:07,[2001:db8::50]"]);
    site.start_network();
    let taken = |one: &InterfaceStatus| one.ipv6.duplicates.contains(&"2001:db8::50".to_owned());
    site.wait(|status| ipv6(status, taken) && !status.online);
    let status = site.wait(is_leased);
    assert!(!addresses(&status).contains(&"2001:db8::50/128"), "{status:?}");
}

#[test]
fn an_address_of_the_command_line_that_another_machine_has_is_told() {
    let mut site = with_router("ip=[2001:db8::50]::[2001:db8::1]:64::eth0:none");
    run(&format!("ip -n {} addr add 2001:db8::50/64 dev eth0 nodad", site.server()));
    site.start_network();
    let taken = |one: &InterfaceStatus| one.ipv6.duplicates.contains(&"2001:db8::50".to_owned());
    let status = site.wait(|status| ipv6(status, taken));
    assert!(!status.online, "{status:?}");
}

#[test]
fn a_lossy_and_slow_wire_only_takes_longer() {
    let weather = Weather { loss: 100, duplicates: 50, reordered: 50, delay: Duration::from_millis(300) };
    let mut site = Site::with_cable("ip=dhcp,dhcp6", weather, 6);
    be_router(&site);
    serve(&mut site, &[RANGE, "--enable-ra", "--ra-param=eth0,10"]);
    site.start_network();
    site.wait(is_leased);
}

#[test]
fn a_lying_server_gets_nothing_into_the_kernel() {
    let mut site = Site::with_cable("ip=dhcp6", Weather::CLEAR, 7);
    be_router(&site);
    let mut chance = Chance::seeded(7);
    let liar = move |question: &[u8]| liar::answers(question, &mut chance);
    *site.cable.as_ref().unwrap().neighbour.lock().unwrap() = Some(Box::new(liar));
    let network = site.start_network();
    site.wait(|status| state_has(status, "4 requests"));
    let kernel = site.output("ip -6 -oneline addr show dev eth0");
    assert_eq!(kernel.lines().count(), 1, "the link-local one alone: {kernel}");
    serve(&mut site, &[RANGE]);
    let status = site.wait(is_leased);
    assert!(site.is_running(network) && status.nameservers.len() <= 4, "{status:?}");
}

/// The same frames do arrive when they tell the truth, by rapid commit: else the test before this one could not fail.
#[test]
fn an_honest_neighbour_is_believed() {
    let site = &mut Site::with_cable("ip=dhcp6", Weather::CLEAR, 8);
    *site.cable.as_ref().unwrap().neighbour.lock().unwrap() = Some(Box::new(liar::truth));
    site.start_network();
    site.wait(|status| addresses(status).contains(&"2001:db8::5/128"));
}

#[test]
fn a_bridge_has_the_address_and_its_ports_have_none() {
    let mut site = Site::new("bridge=br0:eth0,eth1 ip=br0:dhcp");
    let device = site.device();
    run(&format!("ip -n {device} link set eth0 address 02:00:00:00:00:07"));
    site.start_dnsmasq(&[]);
    site.start_network();
    let leased = |status: &NetworkStatus| {
        ipv6(status, |one| one.name == "br0" && one.addresses.iter().any(|text| text.starts_with("192.0.2.")))
    };
    let status = site.wait(leased);
    let port = status.interfaces.iter().find(|one| one.name == "eth0").unwrap();
    assert_eq!(port.state, "part of br0");
    assert!(port.addresses.iter().all(|text| text.starts_with("fe80:")), "{status:?}");
    // A port that comes later, with a lower MAC address, changes nothing of the bridge's.
    run(&format!("ip -n {device} link add eth1 address 02:00:00:00:00:01 type veth peer name far"));
    site.wait_output("ip link show master br0", |said| said.contains("eth1"));
    assert!(
        site.output("ip link show br0").contains("02:00:00:00:00:07"),
        "{}",
        site.output("ip link show br0")
    );
}

/// Somebody on the wire who answers each DHCPv6 message at once, and never the truth.
mod liar {
    use super::*;

    fn option(code: u16, value: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
    }

    /// A DHCPv6 message of the device's.
    struct Asked<'a> {
        question: &'a [u8],
        client: &'a [u8],
        iaid: [u8; 4],
        from: Ipv6Addr,
    }

    impl<'a> Asked<'a> {
        fn read(frame: &'a [u8]) -> Option<Self> {
            let is_ours = frame.get(12..14) == Some(&[0x86, 0xdd])
                && frame.get(20) == Some(&17)
                && frame.get(56..58) == Some(&547u16.to_be_bytes());
            let question = frame.get(62..).filter(|_| is_ours)?;
            let from = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[22..38]).unwrap());
            let client = &question[4..8 + usize::from(u16::from_be_bytes([question[6], question[7]]))];
            let iaid = question.windows(4).position(|bytes| bytes[..2] == [0, 3] && bytes[2..] == [0, 12]);
            let iaid = iaid.map_or([0; 4], |at| question[at + 4..at + 8].try_into().unwrap());
            Some(Asked { question, client, iaid, from })
        }
    }

    pub(super) fn truth(frame: &[u8]) -> Vec<Vec<u8>> {
        let Some(asked) = Asked::read(frame) else { return Vec::new() };
        vec![to_device(asked.from, &good(&asked, "2001:db8::5".parse().unwrap(), 60, 100))]
    }

    pub(super) fn answers(frame: &[u8], chance: &mut Chance) -> Vec<Vec<u8>> {
        let Some(asked) = Asked::read(frame) else { return Vec::new() };
        let mut all = Vec::new();
        for bad in ["::", "::1", "ff02::1", "fe80::66", "::ffff:192.0.2.66"] {
            all.push(good(&asked, bad.parse().unwrap(), 60, 100));
        }
        // For longer preferred than valid, and over already.
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0x66);
        all.push(good(&asked, address, 101, 100));
        all.push(good(&asked, address, 0, 0));
        let whole = good(&asked, address, 60, 100);
        // Cut anywhere before the end of its only address, and scribbled over where it says whom it is for.
        for _ in 0..20 {
            let mut cut = whole.clone();
            cut.truncate(chance.number() as usize % (whole.len() - 1));
            all.push(cut);
            let mut scribbled = whole.clone();
            scribbled[1 + chance.number() as usize % (3 + asked.client.len())] ^=
                1 + (chance.number() % 255) as u8;
            all.push(scribbled);
            all.push((0..chance.number() % 1200).map(|_| chance.number() as u8).collect());
        }
        all.iter().map(|message| to_device(asked.from, message)).collect()
    }

    fn good(asked: &Asked<'_>, address: Ipv6Addr, preferred: u32, valid: u32) -> Vec<u8> {
        let head = [7, asked.question[1], asked.question[2], asked.question[3]];
        let times = [preferred.to_be_bytes(), valid.to_be_bytes()].concat();
        let within = option(5, &[&address.octets()[..], &times].concat());
        let association = option(3, &[&asked.iaid[..], &[0; 8], &within].concat());
        let server = option(2, &[0, 3, 0, 1, 6, 6, 6, 6, 6, 6]);
        [&head[..], asked.client, &server, &option(14, &[]), &association].concat()
    }

    fn to_device(us: Ipv6Addr, message: &[u8]) -> Vec<u8> {
        let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x66);
        let length = (8 + message.len()) as u16;
        let mut udp = [547u16.to_be_bytes(), 546u16.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
        udp.extend(message);
        let pseudo =
            [&from.octets()[..], &us.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, 17], &udp]
                .concat();
        let sum = pseudo.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0)));
        let sum: u32 = sum.sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        let ethernet = [&MAC[..], &[2, 0, 0, 0, 0, 0x66, 0x86, 0xdd]].concat();
        let ip =
            [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[17, 64], &from.octets(), &us.octets()].concat();
        [ethernet, ip, udp].concat()
    }
}
