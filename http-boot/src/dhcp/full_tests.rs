//! The server that gives addresses, message by message, without a socket.

use proptest::prelude::*;

use super::super::answer::Destination;
use super::super::interface::Interface;
use super::super::leases::tests::Nowhere;
use super::super::settings::Settings;
use super::super::sighting::Known;
use super::super::test_pi;
use super::*;

const SERVER: Ipv4Addr = test_pi::SERVER;

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

fn mac(number: u8) -> Mac {
    Mac([0xdc, 0xa6, 0x32, 0, 0, number])
}

/// A server, and what its clients say to it.
struct Site {
    full: Full,
    known: Known,
    now: Now,
    boots: bool,
}

impl Site {
    fn new(settings: &str) -> Self {
        let text = format!(r#"{{"mode": "full", "interfaces": ["eth0"], {settings}}}"#);
        let config = serde_json::from_str::<Settings>(&text).unwrap().check(&[test_pi::interface()]).unwrap();
        let leases = Leases::new(Vec::new(), Box::new(Nowhere));
        Self {
            full: Full::new(Arc::new(config), leases),
            known: Known::default(),
            now: Now::read(),
            boots: true,
        }
    }

    fn range(first: u8, last: u8) -> Self {
        Self::new(&format!(r#""ranges": ["192.0.2.{first}-192.0.2.{last}"], "lease-time": "1h""#))
    }

    fn pass(&mut self, seconds: u64) {
        let time = Duration::from_secs(seconds);
        self.now = Now { wall: self.now.wall + time, tick: self.now.tick + time };
    }

    fn step(&mut self, question: Reply) -> Step {
        let request = Message::parse(&question.done()).unwrap();
        let who = Who::of(&request);
        let serial = self.known.see(&request, &who, self.now.wall).and_then(|(sighting, _)| sighting.serial);
        let (boots, now) = (self.boots, self.now);
        self.full.answer(&Question { link: 0, request: &request, who: &who, serial, boots, now })
    }

    /// Says something; an address that is probed is nobody's.
    fn ask(&mut self, question: Reply) -> Option<(Kind, Message)> {
        let step = match self.step(question) {
            Step::Probe(address, _) => self.full.probed(address, None, self.now)?.1,
            step => step,
        };
        match step {
            Step::Send(answer) => Some((answer.kind, Message::parse(&answer.bytes).unwrap())),
            Step::Nothing => None,
            Step::Probe(..) => panic!("probed already"),
        }
    }

    /// From DISCOVER to ACK; the address.
    fn boot(&mut self, who: impl Fn(Kind) -> Reply) -> Option<Ipv4Addr> {
        let (kind, offer) = self.ask(who(Kind::Discover))?;
        assert_eq!(kind, Kind::Offer);
        self.ask(select(who(Kind::Request), offer.given))
            .filter(|(kind, _)| *kind == Kind::Ack)
            .map(|(_, ack)| ack.given)
    }
}

/// A Pi's bootloader.
fn pi(number: u8) -> impl Fn(Kind) -> Reply {
    move |kind| {
        let machine = [&b"\0RPi4\x11\x31\xa0\0"[..], &[0x32, 0, 0, number], &[number, 0, 0, 0x5b]].concat();
        Reply::question(kind, u32::from(number), mac(number))
            .with(code::CLIENT_MACHINE, &machine)
            .with(code::CLASS, b"PXEClient:Arch:00000:UNDI:002001")
    }
}

/// An OS on the machine with this Ethernet address.
fn system(number: u8) -> impl Fn(Kind) -> Reply {
    move |kind| Reply::question(kind, 99, mac(number)).with(code::CLIENT_ID, &[255, number, 1, 2, 3])
}

fn select(request: Reply, address: Ipv4Addr) -> Reply {
    want(request, address).with(code::SERVER, &SERVER.octets())
}

fn want(request: Reply, address: Ipv4Addr) -> Reply {
    request.with(code::REQUESTED_ADDRESS, &address.octets())
}

fn kind(answer: Option<(Kind, Message)>) -> Option<Kind> {
    answer.map(|(kind, _)| kind)
}

#[test]
fn from_discover_to_ack_and_again() {
    let mut site = Site::new(
        r#""ranges": ["192.0.2.50-192.0.2.60"], "router": "192.0.2.254", "dns": ["192.0.2.3", "192.0.2.4"],
           "ntp": ["192.0.2.5"], "domain": "pis.example", "lease-time": "1000s""#,
    );
    let Step::Probe(address, client) = site.step(pi(7)(Kind::Discover)) else { panic!("it may be in use") };
    assert_eq!(client, mac(7));
    assert_eq!(site.step(pi(7)(Kind::Discover)), Step::Nothing, "a second one while that goes on");
    let (link, step) = site.full.probed(address, None, site.now).unwrap();
    let Step::Send(answer) = step else { panic!("{step:?}") };
    assert_eq!((link, answer.kind, answer.given), (0, Kind::Offer, address));
    assert_eq!(answer.to, Destination::Hardware(mac(7), address));

    let (kind, ack) = site.ask(select(pi(7)(Kind::Request), address)).unwrap();
    assert_eq!((kind, ack.given), (Kind::Ack, address));
    for (code, value) in [
        (code::SERVER, &[192, 0, 2, 1][..]),
        (code::LEASE_TIME, &[0, 0, 3, 232]),
        (code::RENEWAL_TIME, &[0, 0, 1, 244]),
        (code::REBINDING_TIME, &[0, 0, 3, 107]),
        (code::MASK, &[255, 255, 255, 0]),
        (code::BROADCAST_ADDRESS, &[192, 0, 2, 255]),
        (code::ROUTER, &[192, 0, 2, 254]),
        (code::NAME_SERVERS, &[192, 0, 2, 3, 192, 0, 2, 4]),
        (code::NTP_SERVERS, &[192, 0, 2, 5]),
        (code::DOMAIN_NAME, b"pis.example"),
        (code::TFTP_SERVER, b"192.0.2.1"),
        (code::CLASS, b"PXEClient"),
        (code::VENDOR_OPTIONS, &boot_options::VENDOR_OPTIONS),
    ] {
        assert_eq!(ack.option(code), Some(value), "option {code}");
    }
    assert_eq!(site.boot(pi(7)), Some(address), "the next boot");
    site.pass(100_000);
    assert_eq!(site.boot(pi(7)), Some(address), "and one long after the lease was over");
}

#[test]
fn the_stages_of_a_boot_share_an_address() {
    let mut site = Site::range(50, 99);
    let address = site.boot(pi(7)).unwrap();
    let init = |kind| system(7)(kind).with(code::CLASS, b"lifeboat");
    assert_eq!(site.boot(init), Some(address));
    assert_eq!(site.boot(system(7)), Some(address), "known by its lease");
    let (_, ack) = site.ask(select(system(7)(Kind::Request), address)).unwrap();
    assert_eq!(ack.option(code::VENDOR_OPTIONS), None, "an OS does not look for a menu");
    assert_eq!(ack.option(code::CLIENT_ID), Some(&[255, 7, 1, 2, 3][..]), "RFC 6842");
    assert_ne!(site.boot(pi(8)), Some(address));
    let init = |kind| Reply::question(kind, 9, mac(9)).with(code::CLASS, b"lifeboat");
    assert!(site.boot(init).is_some(), "whose bootloader was never seen");
}

#[test]
fn only_pis_unless_told_otherwise() {
    let mut site = Site::range(50, 99);
    assert_eq!(site.boot(system(7)), None, "a Pi's MAC address proves nothing");
    let request = select(system(7)(Kind::Request), ip(50));
    assert_eq!(site.ask(request), None, "nor is it told no");
    let mut site =
        Site::new(r#""ranges": ["192.0.2.50-192.0.2.99"], "reserve": ["dc:a6:32:00:00:07=192.0.2.9"]"#);
    assert_eq!(site.boot(system(7)), Some(ip(9)), "who has a reservation is meant");
    let mut site = Site::new(r#""ranges": ["192.0.2.50-192.0.2.99"], "anyone": true"#);
    let other_id = |kind| Reply::question(kind, 1, mac(7)).with(code::CLIENT_ID, &[255, 9, 9]);
    let first = site.boot(system(7)).unwrap();
    assert_ne!(site.boot(other_id), Some(first), "RFC 2131: the identifier tells clients apart");
    assert_eq!(site.boot(system(7)), Some(first));
}

#[test]
fn reservations_by_serial_and_mac() {
    let mut site = Site::new(
        r#""ranges": ["192.0.2.50-192.0.2.51"],
           "reserve": ["5b000007=192.0.2.9", "dc:a6:32:00:00:07=192.0.2.8", "dc:a6:32:00:00:08=192.0.2.50"]"#,
    );
    assert_eq!(site.boot(pi(7)), Some(ip(9)), "the serial number goes before the MAC address");
    assert_eq!(site.boot(system(7)), Some(ip(9)), "known since the bootloader");
    assert_eq!(site.boot(pi(1)), Some(ip(51)), "the other one in the range is reserved");
    assert_eq!(site.boot(pi(2)), None);
    assert_eq!(kind(site.ask(select(pi(2)(Kind::Request), ip(50)))), Some(Kind::Nak));
    assert_eq!(site.boot(pi(8)), Some(ip(50)));
}

#[test]
fn a_client_that_knows_an_address() {
    let mut site = Site::range(50, 59);
    let [a, b] = [site.boot(pi(1)).unwrap(), site.boot(pi(2)).unwrap()];
    let free = (50..60).map(ip).find(|address| ![a, b].contains(address)).unwrap();
    let mut said = |request| kind(site.ask(request));
    // INIT-REBOOT
    let reboot = |number, address| want(pi(number)(Kind::Request), address);
    assert_eq!(said(reboot(1, a)), Some(Kind::Ack));
    assert_eq!(said(reboot(1, b)), Some(Kind::Nak), "another's");
    assert_eq!(said(reboot(1, Ipv4Addr::new(10, 0, 0, 7))), Some(Kind::Nak), "of another network");
    assert_eq!(said(reboot(3, ip(200))), None, "in our network, but not ours to give");
    assert_eq!(said(reboot(1, ip(200))), Some(Kind::Nak), "of whom we know another");
    assert_eq!(said(reboot(4, free)), Some(Kind::Ack), "the lease file was lost");
    // RENEWING, REBINDING
    let renew = |number, address| pi(number)(Kind::Request).in_use(address);
    assert_eq!(said(renew(1, a)), Some(Kind::Ack));
    assert_eq!(said(renew(1, b)), Some(Kind::Nak));
    assert_eq!(said(renew(5, ip(200))), None);
    // SELECTING
    let other = want(pi(6)(Kind::Request), free).with(code::SERVER, &[192, 0, 2, 3]);
    assert_eq!(said(other), None, "another server's offer");
    assert_eq!(said(select(pi(6)(Kind::Request), a)), Some(Kind::Nak));
    assert_eq!(said(select(pi(6)(Kind::Request), ip(1))), Some(Kind::Nak), "the server's own address");
    assert_eq!(said(pi(6)(Kind::Request)), None, "it says no address at all");
}

#[test]
fn an_address_that_is_in_use_is_not_offered() {
    let mut site = Site::range(50, 52);
    let stranger = Mac([2, 0, 0, 0, 0, 9]);
    let Step::Probe(first, _) = site.step(pi(1)(Kind::Discover)) else { panic!() };
    let (_, step) = site.full.probed(first, Some(stranger), site.now).unwrap();
    let Step::Probe(second, _) = step else { panic!("{step:?}") };
    assert_ne!(first, second);
    assert_eq!(site.full.causes, [Cause::AddressInUse { address: first, mac: stranger }]);
    let (_, step) = site.full.probed(second, None, site.now).unwrap();
    assert!(matches!(step, Step::Send(Answer { given, .. }) if given == second), "{step:?}");
    assert!(site.boot(pi(2)).is_some_and(|address| ![first, second].contains(&address)));
    assert_eq!(site.boot(pi(3)), Some(second), "it was not taken");
    assert_eq!(site.boot(pi(4)), None);
    site.pass(601);
    assert_eq!(site.boot(pi(4)), Some(first), "after a while it is tried again");
}

#[test]
fn a_pi_whose_lease_was_lost_keeps_its_address() {
    let mut site = Site::range(50, 52);
    let Step::Probe(address, _) = site.step(pi(1)(Kind::Discover)) else { panic!() };
    site.full.probed(address, Some(mac(2)), site.now).unwrap();
    assert_eq!(kind(site.ask(want(pi(3)(Kind::Request), address))), Some(Kind::Nak));
    assert_eq!(
        kind(site.ask(pi(2)(Kind::Request).in_use(address))),
        Some(Kind::Ack),
        "it was this one that uses it"
    );
    assert_eq!(site.boot(pi(2)), Some(address));
}

#[test]
fn declined_and_released() {
    let mut site = Site::range(50, 51);
    let [a, b] = [site.boot(pi(1)).unwrap(), site.boot(pi(2)).unwrap()];
    assert_eq!(site.ask(want(pi(1)(Kind::Decline), b)), None);
    assert!(site.full.causes.is_empty(), "only its own");
    assert_eq!(site.ask(select(pi(1)(Kind::Decline), a)), None);
    assert_eq!(site.full.causes, [Cause::Declined { address: a, mac: mac(1) }]);
    assert_eq!(site.boot(pi(1)), None, "the other one is taken");
    site.ask(pi(1)(Kind::Release).in_use(b));
    assert_eq!(site.boot(pi(1)), None, "released by a stranger");
    site.ask(pi(2)(Kind::Release).in_use(b));
    assert_eq!(site.boot(pi(1)), Some(b));
    let (kind, answer) = site.ask(pi(3)(Kind::Inform).in_use(ip(200))).unwrap();
    assert_eq!((kind, answer.given), (Kind::Ack, Ipv4Addr::UNSPECIFIED));
    assert_eq!((answer.option(code::LEASE_TIME), answer.option(code::MASK).is_some()), (None, true));
}

#[test]
fn the_range_is_full() {
    let mut site = Site::range(50, 51);
    let first = site.boot(pi(1)).unwrap();
    site.pass(60);
    let second = site.boot(pi(2)).unwrap();
    assert_eq!(site.boot(pi(3)), None);
    assert_eq!(site.full.causes, [Cause::NoAddressLeft { network: "192.0.2.0/24".into() }]);
    site.pass(60);
    assert_eq!(site.boot(pi(1)), Some(first), "who has one keeps it");
    site.pass(3550);
    assert_eq!(site.boot(pi(3)), Some(second), "the one that is over");
    assert_eq!(site.boot(pi(2)), None);
}

#[test]
fn behind_a_relay() {
    let mut site = Site::new(r#""ranges": ["192.0.2.50-192.0.2.51", "10.9.0.5-10.9.0.9/24"]"#);
    let relay = Ipv4Addr::new(10, 9, 0, 1);
    let relayed = |kind| pi(1)(kind).relay(relay).with(code::RELAY_AGENT, b"\x01\x02ab");
    let Step::Send(offer) = site.step(relayed(Kind::Discover)) else { panic!("no ARP goes there") };
    assert_eq!(offer.to, Destination::Routed(std::net::SocketAddrV4::new(relay, 67)));
    let address = site.boot(relayed).unwrap();
    assert_eq!(address.octets()[..3], [10, 9, 0]);
    let (_, ack) = site.ask(select(relayed(Kind::Request), address)).unwrap();
    assert_eq!(ack.option(code::RELAY_AGENT), Some(&b"\x01\x02ab"[..]));
    assert_eq!((ack.address(code::ROUTER), ack.relay), (Some(relay), relay));
    // It renews past the relay.
    let (kind, ack) = site.ask(pi(1)(Kind::Request).in_use(address)).unwrap();
    assert_eq!((kind, ack.address(code::ROUTER)), (Kind::Ack, Some(relay)), "or it would lose its router");
    let unknown = pi(2)(Kind::Discover).relay(Ipv4Addr::new(10, 10, 0, 1));
    assert_eq!(site.ask(unknown), None, "a network that is not ours");
    let (kind, nak) = site.ask(want(relayed(Kind::Request), ip(50))).unwrap();
    assert_eq!((kind, nak.broadcast), (Kind::Nak, true));
}

#[test]
fn a_request_that_says_nothing_of_the_bootloader_gets_its_options() {
    let mut site = Site::range(50, 51);
    let (_, offer) = site.ask(pi(1)(Kind::Discover)).unwrap();
    let bare = Reply::question(Kind::Request, 1, mac(1));
    let (_, ack) = site.ask(select(bare, offer.given)).unwrap();
    assert!(ack.option(code::CLIENT_MACHINE).is_some() && ack.option(code::VENDOR_OPTIONS).is_some());
}

#[test]
fn a_flood_does_not_keep_a_pi_from_booting() {
    let mut site = Site::range(50, 59);
    let flood = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        let machine = [&b"\0RPi4\x11\x31\xa0\0\0"[..], &[a, b, c], &number.to_le_bytes()].concat();
        Reply::question(Kind::Discover, number, Mac([2, 0, 0, a, b, c])).with(code::CLIENT_MACHINE, &machine)
    };
    for number in 0..20_000 {
        let _ = site.ask(flood(number));
        if number % 5000 == 4999 {
            // Between its DISCOVER and its REQUEST, others come.
            let (_, offer) = site.ask(pi(1)(Kind::Discover)).unwrap();
            (0..100).for_each(|more| _ = site.ask(flood(number + 100_000 + more)));
            let ack = site.ask(select(pi(1)(Kind::Request), offer.given));
            assert_eq!(kind(ack), Some(Kind::Ack));
        }
    }
    assert_eq!(site.full.leases.all().count(), 1);
    assert!(site.full.waiting.len() <= WAITING);
}

proptest! {
    /// Whatever clients say, no address is two clients' at once, and none is given that is not ours to give.
    #[test]
    fn no_address_has_two_clients(
        says in proptest::collection::vec((0u8..6, 0u8..8, 48u8..58, 0u64..2000), 1..200),
    ) {
        let mut site = Site::new(
            r#""ranges": ["192.0.2.50-192.0.2.54"], "reserve": ["5b000003=192.0.2.52", "5b000004=192.0.2.49"], "lease-time": "1h""#,
        );
        let mut has: HashMap<Ipv4Addr, (u8, Duration)> = HashMap::new();
        let mut time = Duration::ZERO;
        for (client, what, last, seconds) in says {
            site.pass(seconds);
            time += Duration::from_secs(seconds);
            has.retain(|_, (_, until)| *until > time);
            let (client, address) = (client + 1, ip(last));
            let ack = match what {
                0..=2 => site.boot(pi(client)),
                3 => site.ask(want(pi(client)(Kind::Request), address)).filter(|(kind, _)| *kind == Kind::Ack).map(|(_, ack)| ack.given),
                4 => site.ask(pi(client)(Kind::Request).in_use(address)).filter(|(kind, _)| *kind == Kind::Ack).map(|(_, ack)| ack.given),
                5 => site.ask(select(pi(client)(Kind::Request), address)).filter(|(kind, _)| *kind == Kind::Ack).map(|(_, ack)| ack.given),
                6 => {
                    site.ask(pi(client)(Kind::Release).in_use(address));
                    has.retain(|of, (who, _)| (*of, *who) != (address, client));
                    None
                }
                _ => {
                    site.ask(select(pi(client)(Kind::Decline), address));
                    has.retain(|of, (who, _)| (*of, *who) != (address, client));
                    None
                }
            };
            if let Some(given) = ack {
                let [.., last] = given.octets();
                prop_assert!((50..=54).contains(&last) || last == 49);
                prop_assert!(last != 52 || client == 3, "reserved");
                prop_assert!(last != 49 || client == 4, "reserved");
                let before = has.insert(given, (client, time + Duration::from_secs(3600)));
                prop_assert!(before.is_none_or(|(who, _)| who == client), "{given} was {before:?}");
            }
        }
    }
}

#[test]
fn who_is_left_alone_gets_an_address_and_no_boot_option() {
    let mut site = Site::range(50, 51);
    let (_, offer) = site.ask(pi(1)(Kind::Discover)).unwrap();
    assert!(offer.option(code::TFTP_SERVER).is_some());
    site.boots = false;
    let (kind, offer) = site.ask(pi(2)(Kind::Discover)).unwrap();
    assert!(kind == Kind::Offer && !offer.given.is_unspecified());
    for option in [code::TFTP_SERVER, code::VENDOR_OPTIONS, code::BOOT_FILE, code::CLIENT_MACHINE] {
        assert_eq!(offer.option(option), None, "{option}");
    }
    assert_eq!(site.boot(pi(2)), Some(offer.given));
    let Step::Send(answer) = site.step(pi(2)(Kind::Discover)) else { panic!() };
    assert_eq!(answer.bytes[20..24], [0; 4], "siaddr");
}

/// A site comes back from a power cut.
#[test]
fn a_thousand_pis_get_an_address_each() {
    let interface = Interface { addresses: vec![(Ipv4Addr::new(10, 0, 0, 1), 16)], ..test_pi::interface() };
    let text = r#"{"mode": "full", "interfaces": ["eth0"], "ranges": ["10.0.1.0-10.0.4.255"]}"#;
    let config = serde_json::from_str::<Settings>(text).unwrap().check(&[interface]).unwrap();
    let mut site = Site::new(r#""ranges": ["192.0.2.50-192.0.2.60"]"#);
    site.full = Full::new(Arc::new(config), Leases::new(Vec::new(), Box::new(Nowhere)));
    let mut given = std::collections::HashSet::new();
    for number in 0..1000_u16 {
        let [high, low] = number.to_be_bytes();
        let who = |kind| {
            let machine = [&b"\0RPi4\x11\x31\xa0\0\x32\0"[..], &[high, low, low, high, 0, 0x5b]].concat();
            Reply::question(kind, u32::from(number), Mac([0xdc, 0xa6, 0x32, 0, high, low]))
                .with(code::CLIENT_MACHINE, &machine)
                .with(code::CLASS, b"PXEClient:Arch:00000:UNDI:002001")
        };
        let (kind, offer) = site.ask(who(Kind::Discover)).expect("an offer");
        assert_eq!(kind, Kind::Offer);
        let request = want(who(Kind::Request), offer.given).with(code::SERVER, &[10, 0, 0, 1]);
        let (kind, ack) = site.ask(request).expect("an answer");
        assert_eq!(kind, Kind::Ack);
        assert!(given.insert(ack.given), "{} was given twice", ack.given);
    }
}
