//! Our DHCP client against servers of others, on good cables and bad ones, beside a systemd-networkd that asks as well, and
//! beside somebody who lies. Needs root.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![cfg(feature = "pid1")]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::cable::Weather;
use common::evil;
use common::site::{self, MAC, Site, addresses};
use init::identity::{ClientId, MachineId};
use init::pid1::dhcp::chance::Chance;
use init::pid1::dhcp::identifier;
use init::status::NetworkStatus;

const MACHINE_ID: &str = "0102030405060708090a0b0c0d0e0f10";
const COMMAND_LINE: &str = "systemd.machine_id=0102030405060708090a0b0c0d0e0f10";
const GOOD: std::ops::RangeInclusive<u8> = 50..=60;

const ONE_PERCENT: Weather = Weather { loss: 10, ..Weather::CLEAR };
const TEN_PERCENT: Weather = Weather { loss: 100, ..Weather::CLEAR };
const SLOW: Weather = Weather { loss: 0, duplicates: 200, reordered: 200, delay: Duration::from_millis(600) };

fn is_leased(status: &NetworkStatus) -> bool {
    status.online && status.interfaces.iter().any(|one| one.state.contains("leased by"))
}

/// Waits for a lease of the good server.
fn leased(site: &Site) -> Ipv4Addr {
    site.wait(is_leased);
    site.wait_output("ip -4 -oneline addr show eth0", |said| site::address(said).is_some());
    let address = site.address().unwrap();
    let [network @ .., host] = address.octets();
    assert!(network == [192, 0, 2] && GOOD.contains(&host), "{address}");
    address
}

/// Runs each part of a test at the same time: they wait for most of it.
fn at_once(parts: Vec<Box<dyn FnOnce() + Send>>) {
    std::thread::scope(|scope| {
        let running: Vec<_> = parts.into_iter().map(|part| scope.spawn(part)).collect();
        running
            .into_iter()
            .for_each(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    });
}

type Start = fn(&mut Site) -> usize;
const SERVERS: [(&str, Start); 3] = [
    ("dnsmasq", |site| {
        site.start_dnsmasq(&["--dhcp-option=option:dns-server,192.0.2.53", "--dhcp-option=42,192.0.2.123"])
    }),
    ("Kea", Site::start_kea),
    ("networkd", Site::start_networkd_server),
];

#[test]
fn every_server_gives_a_lease_in_every_weather() {
    let mut parts: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for (name, start) in SERVERS {
        for (seed, weather) in (1..).zip([Weather::CLEAR, ONE_PERCENT, TEN_PERCENT, SLOW]) {
            parts.push(Box::new(move || {
                let mut site = Site::with_cable(COMMAND_LINE, weather, seed);
                start(&mut site);
                site.start_network();
                leased(&site);
                let status = site.wait(|status| !status.ntp.is_empty());
                assert_eq!(status.nameservers, ["192.0.2.53"], "{name}, {weather:?}");
                assert_eq!(status.ntp, ["192.0.2.123"], "{name}, {weather:?}");
            }));
        }
    }
    at_once(parts);
}

#[test]
fn networkd_says_the_same_and_gets_the_same_address() {
    let parts = SERVERS.into_iter().take(2).map(|(name, start)| -> Box<dyn FnOnce() + Send> {
        Box::new(move || {
            let mut site = Site::with_cable(COMMAND_LINE, Weather::CLEAR, 1);
            start(&mut site);
            let ours = site.start_network();
            let address = leased(&site);
            site.stop(ours);
            let cable = site.cable.as_ref().unwrap();
            let said = cable.dhcp_options(61);
            assert_eq!((said.len(), said[0][0]), (1, 255), "{said:?}");
            cable.sent.lock().unwrap().clear();
            site::run(&format!("ip -n {} addr flush dev eth0", site.device()));
            site.start_networkd_client(MACHINE_ID, None);
            let there = |said: &str| site::address(said).is_some();
            let theirs = site.wait_output("ip -4 -oneline addr show eth0", there);
            assert_eq!(site.cable.as_ref().unwrap().dhcp_options(61), said, "{name}");
            assert_eq!(site::address(&theirs), Some(address), "{name}");
        })
    });
    let mut parts: Vec<_> = parts.collect();
    // A Pi's own interface has a name, which is not our namespace's to give: what networkd says of it is what we would.
    parts.push(Box::new(|| {
        let mut site = Site::with_cable("", Weather::CLEAR, 1);
        site.start_dnsmasq(&[]);
        site.start_networkd_client(MACHINE_ID, Some("end0"));
        site.wait_output("ip -4 -oneline addr show eth0", |said| site::address(said).is_some());
        let machine = MachineId::parse(MACHINE_ID).unwrap();
        let wanted = identifier::client_id(ClientId::Duid, Some(machine), Some("end0"), MAC);
        assert_eq!(site.cable.as_ref().unwrap().dhcp_options(61), [wanted]);
    }));
    at_once(parts);
}

#[test]
fn servers_may_know_us_by_our_mac_address() {
    let mut site = Site::with_cable("lifeboat.client_id=mac", Weather::CLEAR, 1);
    site.start_dnsmasq(&[]);
    site.start_network();
    leased(&site);
    assert_eq!(site.cable.as_ref().unwrap().dhcp_options(61), [[&[1][..], &MAC].concat()]);
}

#[test]
fn a_child_that_was_killed_asks_for_the_same_address_which_stays() {
    let mut site = Site::with_cable(COMMAND_LINE, Weather::CLEAR, 1);
    site.start_dnsmasq(&[]);
    let first = site.start_network();
    let address = leased(&site);
    site.stop(first);
    assert_eq!(site.address(), Some(address), "it is kept while nobody renews it");
    let cable = site.cable.as_ref().unwrap();
    cable.sent.lock().unwrap().clear();
    std::fs::remove_file(site.path("run/lifeboat/network.json")).unwrap();
    site.start_network();
    assert_eq!(leased(&site), address);
    assert_eq!(site.cable.as_ref().unwrap().dhcp_options(53), [[3]], "a REQUEST is enough");
}

#[test]
fn a_server_that_says_no_gives_another_address() {
    let mut site = Site::with_cable(COMMAND_LINE, Weather::CLEAR, 1);
    let server = site.start_dnsmasq(&["--dhcp-range=192.0.2.80,192.0.2.89,255.255.255.0,2m"]);
    let ours = site.start_network();
    site.wait(is_leased);
    site.stop(ours);
    site.stop(server);
    std::fs::remove_file(site.path("leases")).unwrap();
    std::fs::remove_file(site.path("run/lifeboat/network.json")).unwrap();
    site.start_dnsmasq(&[]);
    site.start_network();
    let is_good = |said: &str| site::address(said).is_some_and(|address| GOOD.contains(&address.octets()[3]));
    let said = site.wait_output("ip -4 -oneline addr show eth0", is_good);
    assert_eq!(said.lines().count(), 1, "the old one is gone: {said}");
}

#[test]
fn an_address_that_somebody_has_is_declined() {
    let mut site = Site::with_cable(COMMAND_LINE, Weather::CLEAR, 1);
    // Has whatever is asked for first.
    let mut theirs: Option<[u8; 4]> = None;
    *site.cable.as_ref().unwrap().neighbour.lock().unwrap() = Some(Box::new(move |frame| {
        let is_probe = frame.get(12..22) == Some(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]) && frame[28..32] == [0; 4];
        let wanted: Option<[u8; 4]> = is_probe.then(|| frame[38..42].try_into().unwrap());
        let Some(wanted) = wanted.filter(|wanted| *theirs.get_or_insert(*wanted) == *wanted) else {
            return Vec::new();
        };
        let mut answer = [&frame[6..12], &[2, 0, 0, 0, 0, 0x66], &frame[12..20], &[0, 2]].concat();
        answer.extend([2, 0, 0, 0, 0, 0x66]);
        answer.extend(wanted);
        answer.extend(&frame[22..32]);
        vec![answer]
    }));
    site.start_dnsmasq(&["--no-ping"]);
    site.start_network();
    leased(&site);
    let kinds = site.cable.as_ref().unwrap().dhcp_options(53);
    assert!(kinds.contains(&vec![4]), "{kinds:?}");
    let asked = site.cable.as_ref().unwrap().dhcp_options(50);
    assert!(asked.len() >= 2 && asked.last().unwrap()[..] == site.address().unwrap().octets(), "{asked:?}");
}

/// What a liar answers at once to a question: nonsense of each kind, and offers that it will not keep.
fn lies(question: &[u8], chance: &mut Chance) -> Vec<Vec<u8>> {
    const MASK: [u8; 6] = [1, 4, 255, 255, 255, 0];
    const SERVER: [u8; 6] = [54, 4, 192, 0, 2, 66];
    let good = Ipv4Addr::new(192, 0, 2, 200);
    let options = |kind: u8, parts: &[&[u8]]| [&[53, 1, kind][..], &parts.concat()].concat();
    let mut messages = Vec::new();
    for kind in [2, 5] {
        for address in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1", "192.0.2.255"]
        {
            let all = options(kind, &[&MASK, &SERVER]);
            messages.push(evil::answer(question, address.parse().unwrap(), &all));
        }
        for mask in [[0; 4], [128, 0, 0, 0], [255, 0, 255, 0]] {
            let all = options(kind, &[&[1, 4], &mask, &SERVER]);
            messages.push(evil::answer(question, good, &all));
        }
        // No server, one that is nobody, options that are cut, another client's.
        messages.push(evil::answer(question, good, &options(kind, &[&MASK])));
        messages.push(evil::answer(question, good, &options(kind, &[&MASK, &[54, 4, 255, 255, 255, 255]])));
        messages.push(evil::answer(
            question,
            good,
            &options(kind, &[&MASK, &SERVER, &[52, 1, 3, 6, 250, 1]]),
        ));
        messages.push(evil::answer(question, good, &options(kind, &[&MASK, &SERVER, &[61, 2, 9, 9]])));
        let mut anothers = evil::answer(question, good, &options(kind, &[&MASK, &SERVER]));
        anothers[4] ^= 0xff;
        messages.push(anothers);
    }
    messages.push(evil::answer(question, good, &options(6, &[&[54, 4, 192, 0, 2, 66]])));
    // An offer that is well formed, with names that are none: it is requested, and nobody acknowledges.
    let names: [&[u8]; 2] = [&[12, 9], b"$(reboot)"];
    let domain: [&[u8]; 2] = [&[15, 12], b"x\nnameserver"];
    messages.push(evil::answer(
        question,
        good,
        &options(2, &[&MASK, &SERVER, &names.concat(), &domain.concat()]),
    ));
    for _ in 0..20 {
        // Of offers: what becomes whole by chance is an offer more, which nobody acknowledges.
        let offers: Vec<_> = messages.iter().filter(|message| message.get(242) == Some(&2)).collect();
        let mut cut = offers[chance.number() as usize % offers.len()].clone();
        let at = chance.number() as usize % cut.len();
        match chance.number() % 3 {
            0 => cut.truncate(at),
            1 => cut.extend((0..200).map(|_| chance.number() as u8)),
            // Behind the addresses: a lie that makes sense would be one more server.
            _ => (at.max(240)..cut.len()).for_each(|at| cut[at] = chance.number() as u8),
        }
        messages.push(cut);
    }
    messages
}

#[test]
fn beside_a_liar_the_good_server_wins_and_no_nonsense_is_taken() {
    let parts = (1..=3).map(|seed| -> Box<dyn FnOnce() + Send> {
        Box::new(move || {
            let mut site = Site::with_cable(COMMAND_LINE, Weather::CLEAR, seed);
            let mut chance = Chance::seeded(seed);
            let liar = Ipv4Addr::new(192, 0, 2, 66);
            *site.cable.as_ref().unwrap().neighbour.lock().unwrap() = Some(Box::new(move |frame| {
                let Some(question) = evil::dhcp_of(frame) else { return Vec::new() };
                lies(question, &mut chance).iter().map(|lie| evil::frame(liar, lie)).collect()
            }));
            site.start_dnsmasq(&[
                "--no-ping",
                "--dhcp-option=option:dns-server,192.0.2.53",
                "--dhcp-option=option:router,192.0.2.254",
                "--dhcp-option=option:domain-name,good.example",
            ]);
            let ours = site.start_network();
            leased(&site);
            assert!(site.is_running(ours));
            let status = site.wait(|status| status.interfaces.iter().any(|one| one.gateway.is_some()));
            let v4: Vec<_> = addresses(&status).into_iter().filter(|address| address.contains('.')).collect();
            assert_eq!((v4.len(), status.hostname.as_ref()), (1, None), "{v4:?}");
            let resolv_conf = std::fs::read_to_string(site.path("etc/resolv.conf")).unwrap();
            assert_eq!(resolv_conf, "search good.example\nnameserver 192.0.2.53\n");
            let routes = site.output("ip -4 route");
            assert_eq!(routes.lines().count(), 2, "{routes}");
        })
    });
    at_once(parts.collect());
}

#[test]
fn the_os_finds_the_addresses_unless_they_are_to_be_flushed() {
    for (word, kept) in [("", true), ("lifeboat.flush", false)] {
        let mut site = Site::new(word);
        site::run(&format!("ip -n {} addr add 2001:db8::1/64 dev eth0 nodad", site.server()));
        let server = site.start_dnsmasq(&[
            "--no-ping",
            "--dhcp-option=option:router,192.0.2.254",
            "--enable-ra",
            "--dhcp-range=2001:db8::,ra-only,64",
        ]);
        let ours = site.start_network();
        let address = leased(&site);
        site.wait_output("ip -4 route", |routes| routes.contains("default via 192.0.2.254"));
        site.wait_output("ip -6 route", |routes| routes.contains("default via fe80:"));
        let is_there = |said: &str| said.contains("2001:db8:") && said.contains("fe80::");
        site.wait_output("ip -6 addr show eth0", |said| is_there(said) && !said.contains("tentative"));
        site.stop(ours);
        // It would announce itself again.
        site.stop(server);
        site.init("flush");
        let said = site.output("ip -4 addr show eth0");
        assert_eq!(site.address(), kept.then_some(address), "{said}");
        // With the rest of its two minutes, not for ever.
        assert_eq!(said.contains("valid_lft 1"), kept, "{said}");
        assert_eq!(site.output("ip -4 route").contains("default"), kept);
        assert_eq!(site.output("ip -6 route").contains("default"), kept);
        assert_eq!(site.output("ip -6 addr show eth0").contains("2001:db8:"), kept);
        assert!(site.output("ip -6 addr show eth0").contains("fe80::"), "SSH answers there in any case");
        assert!(site.output("ip addr show lo").contains("127.0.0.1/8"));
    }
}
