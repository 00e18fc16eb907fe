//! proxyDHCP beside a real dnsmasq that gives addresses and nothing else.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use http_boot::dhcp::boot_options::VENDOR_OPTIONS;
use http_boot::dhcp::message::{Kind, Message, code};

use super::bootloader::Pi;
use super::site::{LIMIT, Site, Started};
use super::wire::{Weather, within};

const BAD: Weather = Weather { loss: 100, duplicates: 100, reordered: 100 };

/// The site's own server: addresses, a router, and no word of boot files.
fn start_dnsmasq(site: &mut Site) -> Started {
    site.add_host("dhcp", Some("192.0.2.2/24"));
    let leases = site.path("dnsmasq-leases");
    let started = site.start(
        "dhcp",
        &format!(
            "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --bind-interfaces --interface=eth0 --user=root \
             --log-dhcp --log-facility=- --pid-file= --dhcp-authoritative --no-ping --dhcp-option=3,192.0.2.254 \
             --dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,2m --dhcp-leasefile={}",
            leases.display()
        ),
    );
    site.wait_said(started, "IP range 192.0.2.50");
    started
}

fn booted_beside_dnsmasq(site: &Site, pi: Pi) {
    let booted = pi.boot(&site.namespace("pi")).expect("both offers within the timeout");
    assert_eq!(booted.tftp, Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(booted.router, Some(Ipv4Addr::new(192, 0, 2, 254)), "dnsmasq gave the address");
    let [.., last] = booted.address.octets();
    assert!((50..=60).contains(&last), "{booted:?}");
}

#[test]
fn a_pi_boots_from_us_with_an_address_of_dnsmasq() {
    let mut site = Site::new();
    start_dnsmasq(&mut site);
    site.add_host("boot", Some("192.0.2.1/24"));
    site.add_host("pi", None);
    let impatient = Pi { timeout: Duration::from_secs(3), ..Pi::number(1) };
    assert_eq!(impatient.boot(&site.namespace("pi")), None, "dnsmasq alone does not boot it");
    let ours = site.serve("boot", "--dhcp proxy --dhcp-interface eth0");
    for reads_option_43 in [true, false] {
        booted_beside_dnsmasq(&site, Pi { reads_option_43, ..Pi::number(1) });
    }
    let said = site.said(ours);
    assert!(said.contains("proxyDHCP on eth0 as 192.0.2.1"), "{said}");
    assert!(!said.contains("Ack"), "what is dnsmasq's to confirm is left to it: {said}");
}

#[test]
fn files_may_lie_on_another_machine() {
    let mut site = Site::new();
    start_dnsmasq(&mut site);
    site.add_host("boot", Some("192.0.2.1/24"));
    site.add_host("pi", None);
    site.serve("boot", "--dhcp proxy --dhcp-interface eth0 --dhcp-server 198.51.100.9");
    let booted = Pi::number(1).boot(&site.namespace("pi")).unwrap();
    assert_eq!(booted.tftp, Ipv4Addr::new(198, 51, 100, 9));
}

#[test]
fn a_pi_boots_over_a_cable_that_loses_a_tenth() {
    let mut site = Site::new();
    start_dnsmasq(&mut site);
    site.add_host("boot", Some("192.0.2.1/24"));
    site.add_host_far_away("pi", BAD, 7);
    site.serve("boot", "--dhcp proxy --dhcp-interface eth0");
    for number in 1..=8 {
        booted_beside_dnsmasq(&site, Pi::number(number));
    }
}

#[test]
fn two_capabilities_are_enough() {
    let mut site = Site::new();
    start_dnsmasq(&mut site);
    site.add_host("boot", Some("192.0.2.1/24"));
    site.add_host("pi", None);
    // nobody, in a folder that nobody may enter.
    std::fs::set_permissions(site.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let (binary, root) = (site.path("http-boot"), site.path("root"));
    std::fs::copy(env!("CARGO_BIN_EXE_http-boot"), &binary).unwrap();
    std::fs::create_dir_all(&root).unwrap();
    let serve = |capabilities: &str| {
        format!(
            "exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,{capabilities} \
             --ambient-caps=-all,{capabilities} --bounding-set=-all,{capabilities} {} serve --root {} --listen 127.0.0.1:0 \
             --dhcp proxy --dhcp-interface eth0",
            binary.display(),
            root.display()
        )
    };
    let with_one = site.start("boot", &serve("+net_bind_service"));
    assert!(!site.wait_end(with_one));
    site.wait_said(with_one, "it takes root or CAP_NET_RAW");
    let with_both = site.start("boot", &serve("+net_bind_service,+net_raw"));
    site.wait_said(with_both, "listening on http");
    booted_beside_dnsmasq(&site, Pi::number(1));
    let again = site.start("boot", &serve("+net_bind_service,+net_raw"));
    assert!(!site.wait_end(again));
    site.wait_said(again, "another DHCP server runs on this machine");
}

#[test]
fn what_keeps_pis_from_booting_is_told() {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    site.add_host("pi", None);
    let ours = site.serve("boot", "--dhcp proxy --dhcp-interface eth0");
    let impatient = Pi { timeout: Duration::from_secs(4), ..Pi::number(1) };
    assert_eq!(impatient.boot(&site.namespace("pi")), None, "a proxy gives no address");
    site.wait_said(ours, "no DHCP server was heard to offer it an address");
    let other = Pi { serial: 7, timeout: Duration::from_millis(100), ..Pi::number(1) };
    other.boot(&site.namespace("pi"));
    site.wait_said(ours, "two Pis ask under the Ethernet address dc:a6:32:00:00:01: 5b150001 and 00000007");
    site.add_host("rival", Some("192.0.2.3/24"));
    site.serve("rival", "--dhcp proxy --dhcp-interface eth0");
    Pi { timeout: Duration::from_secs(1), ..Pi::number(2) }.boot(&site.namespace("pi"));
    site.wait_said(ours, "192.0.2.3 tells Pis to boot from it as well");
}

#[test]
fn a_boot_rom_may_ask_on_port_4011() {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    site.add_host("pi", Some("192.0.2.77/24"));
    site.serve("boot", "--dhcp proxy --dhcp-interface eth0");
    let answer = within(&site.namespace("pi"), || {
        let socket = UdpSocket::bind("0.0.0.0:68").unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let question = Pi::number(1).question(Kind::Request, 7).in_use(Ipv4Addr::new(192, 0, 2, 77));
        socket.send_to(&question.done(), "192.0.2.1:4011").unwrap();
        let mut buffer = [0; 1500];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        Message::parse(&buffer[..length]).unwrap()
    });
    let answer = answer.join().unwrap();
    assert_eq!((answer.kind, answer.id), (Kind::Ack, 7));
    assert_eq!(answer.option(code::VENDOR_OPTIONS), Some(&VENDOR_OPTIONS[..]));
}
