//! DHCP as the fleet's file has it: which Pis are left alone, and settings that change while the server runs.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::bootloader::Pi;
use super::site::{Site, Started, run, wait_for};

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

/// A server at 192.0.2.1, and a host for Pis.
fn site() -> Site {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    site.add_host("pi", None);
    site
}

fn write(site: &Site, fleet: &str) {
    let (new, file) = (site.path("fleet.new"), site.path("fleet.toml"));
    std::fs::write(&new, format!("format = 1\n{fleet}")).unwrap();
    std::fs::rename(new, file).unwrap();
}

fn serve(site: &mut Site, flags: &str) -> Started {
    let fleet = site.path("fleet.toml");
    site.serve("boot", &format!("--fleet {} {flags}", fleet.display()))
}

fn boot(site: &Site, number: u16) -> Option<Ipv4Addr> {
    let pi = Pi { timeout: Duration::from_secs(3), ..Pi::number(number) };
    run(&format!("ip -n {} link set eth0 address {}", site.namespace("pi"), pi.mac));
    pi.boot(&site.namespace("pi")).map(|booted| booted.address)
}

/// Pi 1 is to boot its own disk.
const LOCAL: &str = "[[device]]\nserial = \"5b150001\"\norders.boot = \"local\"\n";

#[test]
fn a_proxy_says_nothing_to_a_pi_that_boots_from_itself() {
    let mut site = site();
    site.add_host("dhcp", Some("192.0.2.2/24"));
    let line = format!(
        "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --bind-interfaces --interface=eth0 --user=root \
         --log-facility=- --pid-file= --dhcp-authoritative --no-ping --dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,2m \
         --dhcp-leasefile={}",
        site.path("dnsmasq-leases").display()
    );
    let dnsmasq = site.start("dhcp", &line);
    site.wait_said(dnsmasq, "IP range");
    write(&site, LOCAL);
    let server = serve(&mut site, "--dhcp proxy --dhcp-interface eth0");
    assert_eq!(boot(&site, 1), None, "it finds no server, and goes on in its BOOT_ORDER");
    assert!(boot(&site, 2).is_some());
    assert!(!site.said(server).contains("asks again and again"), "{}", site.said(server));
    write(&site, "");
    site.wait_said(server, "has changed and is right");
    assert!(boot(&site, 1).is_some());
}

#[test]
fn a_whole_server_gives_it_an_address_and_no_more() {
    let mut site = site();
    write(&site, LOCAL);
    let leases = site.path("leases");
    let range = "--dhcp full --dhcp-interface eth0 --dhcp-range 192.0.2.50-192.0.2.60 --dhcp-leases";
    let server = serve(&mut site, &format!("{range} {}", leases.display()));
    assert_eq!(boot(&site, 1), None);
    site.wait_said(server, "DHCP Offer sent");
    assert!(boot(&site, 2).is_some());
}

fn table(site: &Site, more: &str, address: u8) -> String {
    format!(
        "[dhcp]\nmode = \"full\"\ninterfaces = [\"eth0\"]\nleases = \"{}\"\n{more}\n\
         [[device]]\nserial = \"5b150001\"\naddress = \"192.0.2.{address}\"\n",
        site.path("leases").display()
    )
}

#[test]
fn settings_change_as_a_whole_or_not_at_all() {
    let mut site = site();
    let fleet = table(&site, "ranges = [\"192.0.2.50-192.0.2.50\"]", 7);
    write(&site, &fleet);
    let server = serve(&mut site, "");
    assert_eq!((boot(&site, 1), boot(&site, 2)), (Some(ip(7)), Some(ip(50))));
    assert_eq!(boot(&site, 3), None, "there is one address");

    let fleet = table(&site, "ranges = [\"192.0.2.50-192.0.2.51\"]\nrouter = \"192.0.2.254\"", 8);
    write(&site, &fleet);
    site.wait_said(server, "DHCP: the settings have changed");
    assert_eq!((boot(&site, 1), boot(&site, 2), boot(&site, 3)), (Some(ip(8)), Some(ip(50)), Some(ip(51))));

    // Right anywhere, and wrong on this machine.
    for (more, address, said) in [
        (
            "ranges = [\"192.0.2.50-192.0.2.51\"]",
            1,
            "192.0.2.1, reserved for 5b150001, is the address of this server",
        ),
        ("ranges = [\"198.51.100.5-198.51.100.9\"]", 9, "is not in the interface's own network"),
    ] {
        let fleet = table(&site, more, address) + "orders.boot = \"local\"\n";
        write(&site, &fleet);
        site.wait_said(server, said);
        wait_for(|| site.said(server).contains(said).then_some(())).unwrap();
        assert_eq!(boot(&site, 1), Some(ip(8)), "nor does the rest of the file count");
    }
    // What takes a new start is named.
    let other = table(&site, "ranges = [\"192.0.2.50-192.0.2.51\"]", 8).replace("\"full\"", "\"proxy\"");
    let other = other.replace("ranges = [\"192.0.2.50-192.0.2.51\"]\n", "").replace("address", "#");
    let other = other.replace(&format!("leases = \"{}\"\n", site.path("leases").display()), "");
    write(&site, &other);
    site.wait_said(server, "dhcp.mode has changed: that takes a new start of the server");
    site.wait_said(server, "dhcp.leases has changed: that takes a new start of the server");
    write(&site, "");
    site.wait_said(server, "[dhcp] is gone: that takes a new start of the server");
    assert_eq!(boot(&site, 1), Some(ip(8)));
}

#[test]
fn flags_and_a_table_do_not_go_together() {
    let mut site = site();
    let fleet = table(&site, "ranges = [\"192.0.2.50-192.0.2.51\"]", 7);
    write(&site, &fleet);
    let line = format!(
        "exec {} serve --root /tmp --listen 127.0.0.1:0 --fleet {} --dhcp proxy --dhcp-interface eth0",
        env!("CARGO_BIN_EXE_http-boot"),
        site.path("fleet.toml").display()
    );
    let started = site.start("boot", &line);
    assert!(!site.wait_end(started));
    site.wait_said(started, "[dhcp] is in the file, and --dhcp, --dhcp-interface on the command line");
}
