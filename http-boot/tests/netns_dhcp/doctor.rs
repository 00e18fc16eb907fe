//! The doctor beside real servers, and on a switch that runs spanning tree.

use serde_json::Value;

use super::bootloader::Pi;
use super::site::{Site, output, run, wait_for};
use super::wire::within;

/// What it says, of `check`, as JSON; and whether it was content.
fn doctor(site: &mut Site, flags: &str) -> (Vec<Value>, bool) {
    let file = site.path("doctor.json");
    let line = format!(
        "exec {} doctor --json --interface eth0 {flags} >{}",
        env!("CARGO_BIN_EXE_http-boot"),
        file.display()
    );
    let started = site.start("boot", &line);
    let is_content = site.wait_end(started);
    let text = std::fs::read_to_string(&file).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (all["lines"].as_array().unwrap().clone(), is_content)
}

fn of(lines: &[Value], check: &str) -> Vec<(String, String)> {
    let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    let of = lines.iter().filter(|line| line["check"] == check);
    of.map(|line| (text(line, "level"), text(line, "found"))).collect()
}

fn start_dnsmasq(site: &mut Site, host: &str, address: &str, flags: &str) {
    site.add_host(host, Some(&format!("{address}/24")));
    let line = format!(
        "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --bind-interfaces --interface=eth0 --user=root \
         --log-facility=- --pid-file= --dhcp-authoritative --dhcp-leasefile={} {flags}",
        site.path(host).display()
    );
    let started = site.start(host, &line);
    site.wait_said(started, "DHCP");
}

#[test]
fn other_servers_are_found_and_judged() {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    let nobody = of(&doctor(&mut site, "--wait 3").0, "dhcp");
    assert_eq!(nobody.len(), 1);
    assert!(nobody[0].0 == "warning" && nobody[0].1.contains("nobody offers an address"), "{nobody:?}");

    // It looks by ICMP whether an address is free, before it offers it.
    start_dnsmasq(&mut site, "dhcp", "192.0.2.2", "--dhcp-range=192.0.2.50,192.0.2.60,2m");
    let (lines, is_content) = doctor(&mut site, "");
    assert_eq!(
        of(&lines, "dhcp"),
        [(
            "ok".to_owned(),
            "eth0: 192.0.2.2 gives addresses and no boot options: --dhcp proxy goes with it".to_owned()
        )]
    );
    assert!(is_content, "{lines:?}");
    assert_eq!(of(&lines, "switch")[0].0, "ok");

    start_dnsmasq(
        &mut site,
        "rival",
        "192.0.2.3",
        "--dhcp-range=192.0.2.0,proxy --pxe-service=0,\"Raspberry Pi Boot\"",
    );
    let (lines, is_content) = doctor(&mut site, "");
    let found = of(&lines, "dhcp");
    assert!(!is_content && found.len() == 2, "{found:?}");
    let rival = found.iter().find(|(level, _)| level == "problem").unwrap();
    assert!(rival.1.contains("192.0.2.3 tells Pis to boot from it (option 43"), "{rival:?}");

    start_dnsmasq(
        &mut site,
        "second",
        "192.0.2.4",
        "--dhcp-range=192.0.2.70,192.0.2.80,2m --no-ping --dhcp-option=66,192.0.2.4",
    );
    let found = of(&doctor(&mut site, "").0, "dhcp");
    assert!(
        found.iter().any(|(_, said)| said.contains("192.0.2.4 tells Pis to boot from it (option 66")),
        "{found:?}"
    );
    assert!(
        found.iter().any(|(_, said)| said.contains("192.0.2.2, 192.0.2.4 all give addresses")),
        "{found:?}"
    );
}

#[test]
fn our_own_server_is_no_rival_and_its_ports_are_its_own() {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    std::fs::create_dir_all(site.path("root/tftp")).unwrap();
    let tftp = "--tftp 0.0.0.0 --dhcp full --dhcp-interface eth0 --dhcp-range 192.0.2.50-192.0.2.60";
    let leases = site.path("leases");
    site.serve("boot", &format!("{tftp} --listen 192.0.2.1:80 --dhcp-leases {}", leases.display()));
    let (lines, is_content) = doctor(&mut site, "--wait 2");
    assert!(is_content, "{lines:?}");
    assert_eq!(of(&lines, "dhcp")[0].1, "eth0: no other server answers a Pi; http-boot runs here");
    let ports = of(&lines, "ports");
    for port in ["UDP 67", "UDP 69", "TCP 80"] {
        assert!(
            ports.iter().any(|(_, said)| said.starts_with(port) && said.contains("http-boot has it")),
            "{ports:?}"
        );
    }
    // And from the host beside it, it is one.
    site.add_host("other", Some("192.0.2.9/24"));
    let file = site.path("other.txt");
    let line =
        format!("{} doctor --interface eth0 --wait 3 >{}", env!("CARGO_BIN_EXE_http-boot"), file.display());
    let started = site.start("other", &line);
    assert!(!site.wait_end(started));
    let said = std::fs::read_to_string(&file).unwrap();
    assert!(said.contains("PROBLEM  dhcp: eth0: 192.0.2.1 tells Pis to boot from it"), "{said}");
    assert!(said.contains("TFTP): free"), "{said}");
}

#[test]
fn a_program_that_has_our_ports_is_named() {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    let folder = site.path("tftp");
    std::fs::create_dir_all(&folder).unwrap();
    let line = format!(
        "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --user=root --log-facility=- --pid-file= \
         --enable-tftp --tftp-root={} --dhcp-range=192.0.2.50,192.0.2.60,2m --dhcp-leasefile={}",
        folder.display(),
        site.path("leases").display()
    );
    let dnsmasq = site.start("boot", &line);
    site.wait_said(dnsmasq, "IP range");
    let process = site.process(dnsmasq);
    let (lines, is_content) = doctor(&mut site, "--wait 1");
    let ports = of(&lines, "ports");
    assert!(!is_content, "{ports:?}");
    for (level, port) in [("warning", "UDP 67 (DHCP)"), ("problem", "UDP 69 (TFTP)")] {
        let wanted = format!("{port}: dnsmasq (process {process}) has it");
        assert!(ports.iter().any(|(l, said)| l == level && said.starts_with(&wanted)), "{wanted}: {ports:?}");
    }
}

#[test]
fn spanning_tree_is_told() {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    let switch = site.namespace("sw");
    run(&format!("ip -n {switch} link set br0 type bridge stp_state 1 hello_time 100 forward_delay 1500"));
    let (lines, _) = doctor(&mut site, "--wait 5");
    let said = of(&lines, "switch");
    assert_eq!(said.len(), 1);
    assert!(said[0].0 == "warning" && said[0].1.contains("passes nothing for 30 s"), "{said:?}");
}

#[test]
fn what_a_running_server_saw_is_told() {
    let mut site = Site::new();
    site.add_host("boot", Some("192.0.2.1/24"));
    site.add_host("pi", None);
    let state = site.path("state");
    let server =
        site.serve("boot", &format!("--dhcp proxy --dhcp-interface eth0 --state {}", state.display()));
    let pi = site.namespace("pi");
    let impatient = Pi { timeout: std::time::Duration::from_secs(4), ..Pi::number(1) };
    assert_eq!(
        within(&pi, move || impatient.boot_on(&super::wire::Port::open("eth0"))).join().unwrap(),
        None
    );
    site.wait_said(server, "no DHCP server was heard to offer it an address");
    let flags = format!("--wait 1 --state {}", state.display());
    wait_for(|| {
        let (lines, _) = doctor(&mut site, &flags);
        let seen = of(&lines, "seen");
        seen.iter()
            .any(|(level, said)| level == "warning" && said.contains("asks again and again"))
            .then_some(())
    })
    .expect("what DHCP found is in the database");
    let token =
        format!("{} token add t --role view --state {}", env!("CARGO_BIN_EXE_http-boot"), state.display());
    let bearer = format!("Authorization: Bearer {}", output(&site.namespace("boot"), &token).trim());
    let said = site.said(server);
    let url = said.split("listening on ").nth(1).unwrap().split(' ').next().unwrap();
    let ask = [
        "ip",
        "netns",
        "exec",
        &site.namespace("boot"),
        "curl",
        "-sS",
        "-H",
        &bearer,
        &format!("{url}/v1/findings"),
    ];
    let answer = std::process::Command::new(ask[0]).args(&ask[1..]).output().unwrap();
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let finding = &answer["findings"][0];
    assert_eq!(
        (&finding["cause"]["cause"], &finding["cause"]["address_offered"]),
        (&"no-offer-taken".into(), &false.into())
    );
    assert!(finding["text"].as_str().unwrap().contains("asks again and again"), "{answer}");
}
