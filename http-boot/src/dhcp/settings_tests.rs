//! Settings that are right, and each way in which they may be wrong.

use super::*;

fn machine() -> Vec<Interface> {
    let interface = |name: &str, index, address| Interface {
        name: name.into(),
        index,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        addresses: vec![(address, 24)],
    };
    vec![
        interface("eth0", 2, Ipv4Addr::new(192, 0, 2, 1)),
        interface("eth1", 3, Ipv4Addr::new(198, 51, 100, 1)),
        Interface { addresses: Vec::new(), ..interface("eth2", 4, Ipv4Addr::LOCALHOST) },
        interface("eth3", 5, Ipv4Addr::new(192, 0, 2, 2)),
    ]
}

fn settings(text: &str) -> Settings {
    serde_json::from_str(text).unwrap()
}

fn wrong(text: &str) -> String {
    settings(text).check(&machine()).unwrap_err().to_string()
}

#[test]
fn a_whole_server() {
    let config = settings(
        r#"{"mode": "full", "interfaces": ["eth0"], "ranges": ["192.0.2.50-192.0.2.99", "10.9.0.5-10.9.0.9/24"],
            "router": "192.0.2.254", "dns": ["192.0.2.3"], "ntp": ["192.0.2.123"], "domain": "pis.example",
            "lease-time": "1h", "reserve": ["dc-a6-32-01-36-c2=192.0.2.7", "100000005b154510=192.0.2.60"],
            "leases": "/tmp/leases", "anyone": true}"#,
    )
    .check(&machine())
    .unwrap();
    let [own, far] = &config.networks[..] else { panic!("{:?}", config.networks) };
    assert_eq!((own.router, own.behind_relay), (Some(Ipv4Addr::new(192, 0, 2, 254)), false));
    assert_eq!((far.subnet.to_string(), far.router, far.behind_relay), ("10.9.0.0/24".into(), None, true));
    assert_eq!(config.lease_time, Duration::from_secs(3600));
    let serial = ReservedFor::Serial(PiSerial(0x5b15_4510));
    assert_eq!(config.reserved.get(&serial), Some(&Ipv4Addr::new(192, 0, 2, 60)));
    assert_eq!(config.links[0].files, Ipv4Addr::new(192, 0, 2, 1));
}

#[test]
fn proxy_needs_an_interface_alone() {
    let config = settings(r#"{"mode": "proxy", "interfaces": ["eth0", "eth1"], "server": "198.51.100.1"}"#)
        .check(&machine())
        .unwrap();
    let files: Vec<_> = config.links.iter().map(|link| (link.identity, link.files)).collect();
    let [one, other] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1)];
    assert_eq!(files, [(one, other), (other, other)]);
    let said = wrong(
        r#"{"mode": "proxy", "interfaces": ["eth0"], "ranges": ["192.0.2.5-192.0.2.9"], "anyone": true}"#,
    );
    assert!(said.contains("--dhcp-range is for --dhcp full"), "{said}");
    assert!(said.contains("--dhcp-anyone is for --dhcp full"), "{said}");
}

#[test]
fn unknown_keys_and_texts_are_refused() {
    for (text, said) in [
        (r#"{"mode": "full", "range": []}"#, "unknown field `range`"),
        (r#"{"mode": "half"}"#, "unknown variant `half`"),
        (r#"{"mode": "full", "ranges": ["192.0.2.9-192.0.2.8"]}"#, "ends before it begins"),
        (r#"{"mode": "full", "reserve": ["x=192.0.2.8"]}"#, "no MAC address of an interface"),
        (r#"{"mode": "full", "reserve": ["5b154510=x"]}"#, "no IPv4 address"),
        (r#"{"mode": "full", "lease-time": "soon"}"#, "no length of time"),
    ] {
        let error = serde_json::from_str::<Settings>(text).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn nonsense_is_refused_by_name() {
    for (more, said) in [
        (
            r#""ranges": ["192.0.3.5-192.0.3.9"]"#,
            "the range 192.0.3.5-192.0.3.9 is not in the interface's own network",
        ),
        (r#""ranges": ["192.0.2.250-192.0.3.9"]"#, "does not lie within the hosts of 192.0.2.0/24"),
        (r#""ranges": ["192.0.2.0-192.0.2.9"]"#, "does not lie within the hosts"),
        (r#""ranges": ["10.0.0.5-10.0.0.9/31"]"#, "prefix that is not 8 to 30"),
        (r#""ranges": ["10.0.0.1-10.9.0.9/8"]"#, "65536 at most"),
        (r#""ranges": ["192.0.2.1-192.0.2.9"]"#, "contains the address 192.0.2.1 of this server"),
        (
            r#""ranges": ["192.0.2.5-192.0.2.9"], "router": "192.0.2.7""#,
            "contains the address 192.0.2.7 of the router",
        ),
        (
            r#""ranges": ["192.0.2.5-192.0.2.9", "192.0.2.9-192.0.2.20"]"#,
            "192.0.2.5-192.0.2.9 and 192.0.2.9-192.0.2.20 have addresses in common",
        ),
        (r#""ranges": []"#, "no address to give"),
        (r#""ranges": ["192.0.2.5-192.0.2.9"], "router": "10.0.0.1""#, "the router 10.0.0.1 is not in"),
        (r#""ranges": ["192.0.2.5-192.0.2.9"], "dns": ["127.0.0.1"]"#, "--dhcp-dns 127.0.0.1 is no address"),
        (
            r#""ranges": ["192.0.2.5-192.0.2.9"], "dns": ["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4","1.1.1.5"]"#,
            "5 times: 4 at most",
        ),
        (r#""ranges": ["192.0.2.5-192.0.2.9"], "lease-time": "5s""#, "5s is not between a minute and a year"),
        (r#""ranges": ["192.0.2.5-192.0.2.9"], "domain": "a b""#, "'a b' is no domain"),
        (r#""reserve": ["5b154510=192.0.2.7", "5b154510=192.0.2.8"]"#, "5b154510 has two reservations"),
        (r#""reserve": ["5b154510=192.0.2.7", "5b154511=192.0.2.7"]"#, "192.0.2.7 is reserved twice"),
        (r#""reserve": ["5b154510=10.0.0.7"]"#, "is in no network that is served"),
        (r#""reserve": ["5b154510=192.0.2.1"]"#, "reserved for 5b154510, is the address of this server"),
    ] {
        let error = wrong(&format!(r#"{{"mode": "full", "interfaces": ["eth0"], {more}}}"#));
        assert!(error.contains(said), "{more}: {error}");
    }
    for (interfaces, said) in [
        (r#"["eth9"]"#, "no Ethernet interface eth9; there are: eth0, eth1, eth2, eth3"),
        (r#"["eth0", "eth0"]"#, "eth0 is given twice"),
        (r#"["eth2"]"#, "eth2 has no IPv4 address"),
        (r#"["eth0", "eth3"]"#, "eth3 and eth0 are both in 192.0.2.0/24"),
        ("[]", "no --dhcp-interface is given: name the one that the Pis are on"),
    ] {
        let error = wrong(&format!(r#"{{"mode": "proxy", "interfaces": {interfaces}}}"#));
        assert!(error.contains(said), "{interfaces}: {error}");
    }
}

#[test]
fn what_hangs_on_an_interface_is_not_said_twice() {
    let text = r#"{"mode": "full", "interfaces": ["eth9"], "ranges": ["192.0.2.5-192.0.2.9"]}"#;
    let BadSettings(wrong) = settings(text).check(&machine()).unwrap_err();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
}
