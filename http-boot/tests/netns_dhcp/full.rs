//! A server that gives addresses, and real clients.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use http_boot::dhcp::message::{Kind, Message, Reply, Sender, code};
use init::mac::Mac;

use super::bootloader::Pi;
use super::clients::{Client, address_of};
use super::site::{Site, Started, run, wait_for};
use super::wire::{Port, Weather, within};

const BAD: Weather = Weather { loss: 100, duplicates: 100, reordered: 100 };
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A site with our server on `boot`, and a host `pi` with that Pi's Ethernet address.
fn site(pi: Pi, flags: &str) -> (Site, Started) {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    site.add_host("pi", None);
    run(&format!("ip -n {} link set eth0 address {}", site.namespace("pi"), pi.mac));
    let server = serve(&mut site, flags);
    (site, server)
}

fn serve(site: &mut Site, flags: &str) -> Started {
    let leases = site.path("leases");
    site.serve(
        "boot",
        &format!("--dhcp full --dhcp-interface eth0 --dhcp-leases {} {flags}", leases.display()),
    )
}

const RANGE: &str = "--dhcp-range 192.0.2.50-192.0.2.60 --dhcp-router 192.0.2.254 --dhcp-dns 192.0.2.53";
const RANGE_ELSEWHERE: &str =
    "--dhcp-range 192.0.2.70-192.0.2.80 --dhcp-router 192.0.2.254 --dhcp-dns 192.0.2.3";
const ANYONE: &str = "--dhcp-range 192.0.2.70-192.0.2.80 --dhcp-router 192.0.2.254 --dhcp-dns 192.0.2.3 --dhcp-lease-time 60s --dhcp-anyone";

fn last(address: Ipv4Addr) -> u8 {
    let [net @ .., last] = address.octets();
    assert_eq!(net, [192, 0, 2]);
    last
}

#[test]
fn a_pi_boots_from_us_alone() {
    for pi in [Pi::number(1), Pi { reads_option_43: false, ..Pi::number(1) }] {
        let (site, _) = site(pi, RANGE_ELSEWHERE);
        let booted = pi.boot(&site.namespace("pi")).unwrap();
        assert!((70..=80).contains(&last(booted.address)));
        assert_eq!((booted.tftp, booted.router), (SERVER, Some(Ipv4Addr::new(192, 0, 2, 254))));
        assert_eq!(booted.mask, Some(Ipv4Addr::new(255, 255, 255, 0)));
    }
}

#[test]
fn a_range_that_holds_a_name_server_is_refused() {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    let line = format!(
        "exec {} serve --root /tmp --listen 127.0.0.1:0 --dhcp full --dhcp-interface eth0 {RANGE}",
        env!("CARGO_BIN_EXE_http-boot")
    );
    let started = site.start("boot", &line);
    assert!(!site.wait_end(started));
    site.wait_said(
        started,
        "the range 192.0.2.50-192.0.2.60 contains the address 192.0.2.53 of a name server",
    );
}

#[test]
fn every_client_gets_a_lease_renews_it_and_keeps_it() {
    // They wait for most of it.
    std::thread::scope(|scope| {
        for client in Client::ALL {
            scope.spawn(move || lease_renewal_and_restart(client));
        }
    });
}

fn lease_renewal_and_restart(client: Client) {
    let (mut site, server) = site(Pi::number(1), ANYONE);
    let started = client.start(&mut site, "pi");
    let address = wait_for(|| address_of(&site, "pi")).unwrap_or_else(|| panic!("{client:?}"));
    assert!((70..=80).contains(&last(address)), "{client:?}: {address}");
    let asked = |site: &Site| site.said(server).matches("DHCP Ack sent").count();
    let before = asked(&site);
    // After half of 60 s.
    wait_for(|| (asked(&site) > before).then_some(())).unwrap_or_else(|| panic!("{client:?} does not renew"));
    // A script may take the address away for a moment.
    wait_for(|| address_of(&site, "pi").filter(|now| *now == address))
        .unwrap_or_else(|| panic!("{client:?}"));
    site.kill(server);
    site.kill(started);
    run(&format!("ip -n {} addr flush dev eth0", site.namespace("pi")));
    serve(&mut site, ANYONE);
    client.forget(&site);
    client.start(&mut site, "pi");
    let again = wait_for(|| address_of(&site, "pi"));
    assert_eq!(again, Some(address), "{client:?}, of a server that was killed");
}

#[test]
fn a_server_that_is_killed_forgets_no_address_that_it_gave() {
    let (mut site, mut server) = site(Pi::number(1), RANGE_ELSEWHERE);
    let mut given = Vec::new();
    // All of the range: without its file, the server would give them in another order the second time.
    for number in 1..=11 {
        given.push((number, Pi::number(number).boot(&site.namespace("pi")).unwrap().address));
        site.kill(server);
        server = serve(&mut site, RANGE_ELSEWHERE);
    }
    site.kill(server);
    // A power cut in the middle of a line.
    let mut leases = std::fs::read(site.path("leases")).unwrap();
    leases.extend(b"{\"address\":\"192.0.2.7");
    std::fs::write(site.path("leases"), leases).unwrap();
    let server = serve(&mut site, RANGE_ELSEWHERE);
    site.wait_said(server, "1 lines of");
    for (number, address) in given.into_iter().rev() {
        let booted = Pi::number(number).boot(&site.namespace("pi")).unwrap();
        assert_eq!(booted.address, address, "Pi {number}");
    }
}

#[test]
fn a_pi_is_one_client_in_all_its_stages() {
    let pi = Pi::number(1);
    let (mut site, server) = site(pi, RANGE_ELSEWHERE);
    let booted = pi.boot(&site.namespace("pi")).unwrap();
    site.kill(server);
    serve(&mut site, RANGE_ELSEWHERE);
    // It says an identifier of its own, and is no Pi's by what it says.
    Client::Networkd.start(&mut site, "pi");
    assert_eq!(
        wait_for(|| address_of(&site, "pi")),
        Some(booted.address),
        "known by its lease, after a kill"
    );
}

#[test]
fn others_are_not_answered() {
    let pi = Pi::number(1);
    let (mut site, server) = site(pi, RANGE_ELSEWHERE);
    let stranger = Client::Udhcpc.start(&mut site, "pi");
    site.wait_said(stranger, "no lease, failing");
    assert!(!site.said(server).contains("sent"), "{}", site.said(server));
    assert_eq!(address_of(&site, "pi"), None);
}

#[test]
fn a_foreign_address_is_refused_and_another_one_given() {
    for client in [Client::Dhclient, Client::Udhcpc] {
        let pi = Pi::number(1);
        let (mut site, server) = site(pi, ANYONE);
        client.start_with(&mut site, "pi", Ipv4Addr::new(10, 0, 0, 7));
        let address = wait_for(|| address_of(&site, "pi")).unwrap();
        assert!((70..=80).contains(&last(address)));
        if client == Client::Dhclient {
            assert!(site.said(server).contains("DHCP Nak sent"), "{}", site.said(server));
        }
    }
}

#[test]
fn an_address_in_use_is_neither_offered_nor_kept() {
    let pi = Pi::number(1);
    let (mut site, server) = site(pi, "--dhcp-range 192.0.2.70-192.0.2.71");
    site.add_host("squatter", Some("192.0.2.70/24"));
    let booted = pi.boot(&site.namespace("pi")).unwrap();
    assert_eq!(last(booted.address), 71);
    let second = Pi::number(2);
    site.add_host("second", None);
    let none = Pi { timeout: Duration::from_secs(3), ..second };
    assert_eq!(none.boot(&site.namespace("second")), None);
    site.wait_said(server, "uses 192.0.2.70, which is ours to give");
    site.wait_said(server, "no address is left in 192.0.2.0/24");
}

#[test]
fn a_declined_address_is_given_to_nobody() {
    let (mut site, server) = site(Pi::number(1), ANYONE);
    let address = {
        let started = Client::Udhcpc.start(&mut site, "pi");
        let address = wait_for(|| address_of(&site, "pi")).unwrap();
        site.kill(started);
        run(&format!("ip -n {} addr flush dev eth0", site.namespace("pi")));
        address
    };
    // Somebody comes who does not ask; the client of the lease finds him by ARP when it asks again.
    site.add_host("squatter", Some(&format!("{address}/24")));
    let started = Client::Udhcpc.start_careful(&mut site, "pi");
    site.wait_said(server, &format!("another host uses {address}"));
    let other = wait_for(|| address_of(&site, "pi").filter(|other| *other != address));
    assert!(other.is_some(), "{}", site.said(started));
}

#[test]
fn a_bad_line_costs_time_and_no_more() {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    for number in 0..Client::ALL.len() {
        site.add_host_far_away(&format!("far{number}"), BAD, number as u64);
    }
    site.add_host_far_away("pi", BAD, 9);
    let server = serve(&mut site, ANYONE);
    for (number, client) in (0..).zip(Client::ALL) {
        client.start(&mut site, &format!("far{number}"));
    }
    let boot = |number| Pi::number(number).boot(&site.namespace("pi")).unwrap().address;
    let mut addresses: Vec<_> = (1..=8).map(boot).collect();
    for number in 0..Client::ALL.len() {
        addresses.push(wait_for(|| address_of(&site, &format!("far{number}"))).unwrap());
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 8 + Client::ALL.len(), "no two have one: {}", site.said(server));
}

#[test]
fn a_full_range_tells_and_lets_those_stay_who_have_one() {
    let (mut site, server) = site(Pi::number(1), "--dhcp-range 192.0.2.70-192.0.2.72");
    let first: Vec<_> =
        (1..=3).map(|number| Pi::number(number).boot(&site.namespace("pi")).unwrap()).collect();
    let fourth = Pi { timeout: Duration::from_secs(2), ..Pi::number(4) };
    assert_eq!(fourth.boot(&site.namespace("pi")), None);
    site.wait_said(server, "no address is left in 192.0.2.0/24");
    let again: Vec<_> =
        (1..=3).map(|number| Pi::number(number).boot(&site.namespace("pi")).unwrap()).collect();
    assert_eq!(first, again);
    site.kill(server);
    serve(&mut site, "--dhcp-range 192.0.2.70-192.0.2.72 --dhcp-reserve 5b150004=192.0.2.9");
    assert_eq!(last(Pi::number(4).boot(&site.namespace("pi")).unwrap().address), 9, "by its serial number");
}

#[test]
fn a_flood_of_made_up_pis_keeps_nobody_from_booting() {
    let (mut site, server) = site(Pi::number(1), "--dhcp-range 192.0.2.70-192.0.2.80");
    site.add_host("flood", None);
    let memory = |site: &Site| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", site.process(server))).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let (done, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let flood = {
        let (done, sent) = (Arc::clone(&done), Arc::clone(&sent));
        within(&site.namespace("flood"), move || flood(&done, &sent))
    };
    let wait_sent = |least| wait_for(|| (sent.load(Ordering::Relaxed) > least).then_some(())).unwrap();
    wait_sent(10_000);
    let before = memory(&site);
    for number in 1..=6 {
        assert!(Pi::number(number).boot(&site.namespace("pi")).is_some(), "{number}");
    }
    wait_sent(20_000);
    let after = memory(&site);
    done.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    assert!(after < before + 16 * 1024, "from {before} to {after} KiB");
}

/// Sends DISCOVERs of Pis that are not there, each under an Ethernet address of its own.
fn flood(done: &AtomicBool, sent: &AtomicU32) {
    let port = Port::open("eth0");
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    while !done.load(Ordering::Relaxed) {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let [_, a, b, c] = number.to_be_bytes();
        let pi = Pi { mac: Mac([2, 0, 9, a, b, c]), serial: number, ..Pi::number(0) };
        port.broadcast(pi.mac, from, to, &pi.question(Kind::Discover, number).done());
        if number.is_multiple_of(64) {
            // About 20,000 a second, where the machine makes that many.
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

#[test]
fn through_a_relay_of_others() {
    let (mut site, _) = site(Pi::number(9), "--dhcp-range 198.51.100.50-198.51.100.60/24");
    site.add_router("relay", "192.0.2.254/24", "198.51.100.1/24");
    site.add_host_behind("far");
    run(&format!("ip -n {} route add 198.51.100.0/24 via 192.0.2.254", site.namespace("boot")));
    site.start(
        "relay",
        "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --user=root --pid-file= --log-facility=- \
         --dhcp-relay=198.51.100.1,192.0.2.1 --dhcp-leasefile=/dev/null",
    );
    let booted = Pi::number(1).boot(&site.namespace("far")).unwrap();
    assert_eq!(booted.address.octets()[..3], [198, 51, 100]);
    assert_eq!((booted.router, booted.tftp), (Some(Ipv4Addr::new(198, 51, 100, 1)), SERVER));
}

#[test]
fn a_rival_is_told() {
    let (mut site, server) = site(Pi::number(1), RANGE_ELSEWHERE);
    site.add_host("rival", Some("192.0.2.2/24"));
    let pi = Pi::number(1);
    let rival = within(&site.namespace("rival"), move || {
        let port = Port::open("eth0");
        let discover = Message::parse(&pi.question(Kind::Discover, 7).done()).unwrap();
        assert_eq!(discover.sender, Sender::Client);
        let mut offer = Reply::to(&discover, Kind::Offer)
            .given(Ipv4Addr::new(192, 0, 2, 99))
            .with(code::SERVER, &[192, 0, 2, 2]);
        offer.set_broadcast(true);
        let from = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 67);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
        port.broadcast(pi.mac, from, to, &offer.done());
    });
    rival.join().unwrap();
    site.wait_said(server, "192.0.2.2 gives addresses as well");
}

#[test]
fn an_interface_may_go_and_come_back() {
    let (mut site, server) = site(Pi::number(1), RANGE_ELSEWHERE);
    let booted = Pi::number(1).boot(&site.namespace("pi"));
    assert!(booted.is_some());
    site.plug_again("boot", "192.0.2.1/24");
    site.wait_said(server, "eth0 is there again");
    assert_eq!(Pi::number(1).boot(&site.namespace("pi")), booted);
}

#[test]
fn each_interface_has_its_own_addresses() {
    let mut site = Site::new();
    site.add_router("boot", "192.0.2.1/24", "198.51.100.1/24");
    site.add_host("pi", None);
    site.add_host_behind("far");
    serve(
        &mut site,
        "--dhcp-interface eth1 --dhcp-range 192.0.2.70-192.0.2.80 --dhcp-range 198.51.100.70-198.51.100.80",
    );
    for (host, server) in [("pi", SERVER), ("far", Ipv4Addr::new(198, 51, 100, 1))] {
        let booted = Pi::number(1).boot(&site.namespace(host)).unwrap();
        assert_eq!(booted.tftp, server);
        assert_eq!(booted.address.octets()[..3], server.octets()[..3]);
    }
}

#[test]
fn what_cannot_be_kept_is_not_given() {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    site.add_host("pi", None);
    let (folder, root) = (site.path("state"), site.path("root"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir_all(&root).unwrap();
    let state = folder.display();
    let script = format!(
        "mount -t tmpfs -o size=64k tmpfs {state}; head -c 128k /dev/zero > {state}/full; \
         exec {} serve --root {} --listen 127.0.0.1:0 --dhcp full --dhcp-interface eth0 --dhcp-leases {state}/leases {}",
        env!("CARGO_BIN_EXE_http-boot"),
        root.display(),
        "--dhcp-range 192.0.2.70-192.0.2.80"
    );
    let server = site.start("boot", &script);
    site.wait_said(server, "listening on http");
    let impatient = Pi { timeout: Duration::from_secs(3), ..Pi::number(1) };
    assert_eq!(impatient.boot(&site.namespace("pi")), None);
    let said = site.wait_said(server, "no address is given until that works");
    assert!(said.contains("No space left") && !said.contains("DHCP Ack sent"), "{said}");
    run(&format!("nsenter --target {} --mount rm {state}/full", site.process(server)));
    assert!(Pi::number(1).boot(&site.namespace("pi")).is_some());
}
