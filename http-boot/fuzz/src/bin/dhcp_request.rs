//! Messages to the DHCP server, one after another: to the proxy, and to the server that gives addresses. Each is a length and
//! bytes; what only makes a message one at all is right already.
#![no_main]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use http_boot::dhcp::datagram;
use http_boot::dhcp::full::{Full, Question, Step};
use http_boot::dhcp::interface::Interface;
use http_boot::dhcp::leases::{Lease, Leases, Store};
use init::mac::Mac;
use http_boot::dhcp::message::{Kind, LONGEST, Message, Sender};
use http_boot::dhcp::pi::Who;
use http_boot::dhcp::proxy;
use http_boot::dhcp::server::Now;
use http_boot::dhcp::settings::{Config, Settings};

struct Nowhere;

impl Store for Nowhere {
    fn put(&mut self, _: &Lease) {}
    fn sync(&mut self, _: &mut dyn Iterator<Item = &Lease>) -> anyhow::Result<()> {
        Ok(())
    }
}

static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| {
    let settings = r#"{"mode": "full", "interfaces": ["eth0"], "anyone": true, "domain": "pis.example",
        "ranges": ["192.0.2.50-192.0.2.53", "10.9.0.5-10.9.0.9/24"], "reserve": ["5b154510=192.0.2.9"]}"#;
    let addresses = vec![(Ipv4Addr::new(192, 0, 2, 1), 24)];
    let interface = Interface { name: "eth0".into(), index: 2, mac: Mac([2, 0, 0, 0, 0, 1]), addresses };
    let settings: Settings = serde_json::from_str(settings).unwrap();
    Arc::new(settings.check(&[interface]).unwrap())
});

fn ours(address: Ipv4Addr) -> bool {
    match address.octets() {
        [192, 0, 2, last] => last == 9 || (50..=53).contains(&last),
        [10, 9, 0, last] => (5..=9).contains(&last),
        _ => address.is_unspecified(),
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = datagram::read(bytes);
    let mut full = Full::new(Arc::clone(&CONFIG), Leases::new(Vec::new(), Box::new(Nowhere)));
    let (now, mut rest) = (Now::read(), bytes);
    let mut clients: HashMap<Ipv4Addr, Message> = HashMap::new();
    while let [high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])) % LONGEST;
        let (message, tail) = tail.split_at(length.min(tail.len()));
        rest = tail;
        let mut message = message.to_vec();
        message.resize(message.len().max(244), 0);
        message[..3].copy_from_slice(&[1, 1, 6]);
        message[28..30].copy_from_slice(&[2, 0]);
        message[236..240].copy_from_slice(&[99, 130, 83, 99]);
        let Some(request) = Message::parse(&message) else { continue };
        assert_eq!(request.sender, Sender::Client);
        let who = Who::of(&request);
        if let Some(answer) = proxy::answer(&CONFIG.links[0], &request, &who, None) {
            assert!(Message::parse(&answer.bytes).unwrap().given.is_unspecified());
        }
        let question = Question { link: 0, request: &request, who: &who, serial: None, boots: true, now };
        let step = match full.answer(&question) {
            Step::Probe(address, _) => full.probed(address, None, now).unwrap().1,
            step => step,
        };
        let Step::Send(answer) = step else { continue };
        let read = Message::parse(&answer.bytes).expect("an answer that can be read");
        assert_eq!((read.sender, read.id, read.mac), (Sender::Server, request.id, request.mac));
        assert!(read.given == answer.given && ours(read.given), "{}", read.given);
        if answer.kind == Kind::Ack && !read.given.is_unspecified() {
            clients.insert(read.given, request);
        }
    }
    assert!(clients.len() <= 10);
    full.sync().unwrap();
});
