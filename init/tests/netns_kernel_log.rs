//! The child `log` in a network namespace: the kernel's log of this host goes to rsyslog in another. Needs root.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![cfg(feature = "pid1")]

mod host;

use std::process::Command;

use host::{Host, pair, wait_until};

/// Something in the kernel's log that is nobody else's.
fn say(what: &str) -> String {
    let program = format!("lifeboat-test-{}", std::process::id());
    std::fs::write("/dev/kmsg", format!("<11>{program}: {what}\n")).unwrap();
    program
}

/// rsyslog, which writes each field that it understood.
fn start_rsyslog(host: &mut Host, port: u32) {
    let log = host.path("log").display().to_string();
    let config = format!(
        "module(load=\"imudp\")\ninput(type=\"imudp\" port=\"{port}\")\n\
         template(name=\"fields\" type=\"string\" string=\"%pri% %hostname% %app-name% %structured-data% %msg%\\n\")\n\
         action(type=\"omfile\" file=\"{log}\" template=\"fields\" flushOnTXEnd=\"on\")\n"
    );
    std::fs::write(host.path("rsyslog.conf"), config).unwrap();
    let here = host.path("rsyslog").display().to_string();
    host.start(&format!("exec rsyslogd -n -f {here}.conf -i {here}.pid"));
}

fn wait_for_line(host: &Host, wanted: impl Fn(&str) -> bool) -> String {
    wait_until("a line in rsyslog's file (package rsyslog)", || {
        let text = std::fs::read_to_string(host.path("log")).ok()?;
        text.lines().find(|line| wanted(line)).map(str::to_owned)
    })
}

/// What the child says is in the same log.
fn wait_for_own_words(wanted: &str) -> String {
    wait_until(wanted, || {
        let log = Command::new("dmesg").output().expect("dmesg (package util-linux)").stdout;
        String::from_utf8_lossy(&log).lines().find(|line| line.contains(wanted)).map(str::to_owned)
    })
}

#[test]
fn the_log_arrives_from_its_beginning_at_a_receiver_that_is_late() {
    let (mut pi, mut peer) = pair();
    let port = 20_000 + std::process::id() % 20_000;
    let before = say("said before");
    pi.start_network(&format!(
        "systemd.hostname=cm4-7 ip=192.0.2.7:::24::eth0:none lifeboat.syslog=192.0.2.1:{port}"
    ));
    pi.start_init("log");
    // Nobody is there to take it: the other end says so.
    wait_for_own_words(&format!("lifeboat-log: syslog to 192.0.2.1:{port}: sending"));
    start_rsyslog(&mut peer, port);
    let line =
        wait_for_line(&peer, |line| line.contains(&format!(" {before} ")) && line.ends_with("said before"));
    assert!(line.starts_with(&format!("11 cm4-7 {before} [meta sequenceId=\"")), "{line}");
    assert!(line.contains("sysUpTime=\"") && line.ends_with("said before"), "{line}");
    // The kernel's own, in their order, and what is said from now on.
    let kernel = wait_for_line(&peer, |line| line.contains(" kernel [meta"));
    assert!(kernel.split(' ').next().unwrap().parse::<u32>().unwrap() < 8, "{kernel}");
    let later = say("said later");
    wait_for_line(&peer, |line| line.contains(&format!(" {later} ")) && line.ends_with("said later"));
    let text = std::fs::read_to_string(peer.path("log")).unwrap();
    let numbers = text.lines().filter_map(|line| line.split('"').nth(1)?.parse::<u64>().ok());
    assert!(numbers.is_sorted(), "{text}");
}

#[test]
fn a_receiver_is_found_by_its_name() {
    let (mut pi, mut peer) = pair();
    peer.ip("addr add 2001:db8::1/64 dev eth0 nodad");
    peer.start(
        "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces \
         --listen-address=192.0.2.1 --user=root --pid-file= --address=/log.example/2001:db8::1",
    );
    start_rsyslog(&mut peer, 514);
    let words =
        "ip=192.0.2.7:::24::eth0:none:192.0.2.1 ip=[2001:db8::7]:::64::eth0:none lifeboat.syslog=log.example";
    pi.start_network(words);
    pi.start_init("log");
    let program = say("by name");
    wait_for_line(&peer, |line| line.contains(&format!(" {program} ")) && line.ends_with("by name"));
}

#[test]
fn without_a_word_of_it_there_is_nothing_to_do() {
    let (mut pi, _peer) = pair();
    std::fs::write(pi.path("cmdline"), "quiet").unwrap();
    pi.start_init("log");
    let code = pi.children.pop().unwrap().wait().unwrap().code();
    assert_eq!(code, Some(init::pid1::supervisor::NOTHING_TO_DO.into()));
}

#[test]
fn an_image_without_netconsole_says_so_by_its_name() {
    let (mut pi, peer) = pair();
    let device = format!("nc{}", std::process::id() % 1_000_000);
    peer.plug("second", &pi, &device);
    peer.ip("link set second up");
    pi.start_network(&format!("ip=192.0.2.7:::24::{device}:none netconsole=@/{device},@192.0.2.1/"));
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    std::fs::create_dir_all(pi.path("modules").join(&release)).unwrap();
    std::fs::write(pi.path("modules").join(&release).join("modules.dep"), "").unwrap();
    let (modules, cmdline) =
        (pi.path("modules").display().to_string(), pi.path("cmdline").display().to_string());
    // A host in a container may have no such folder at all: then the folder is what is named.
    pi.start(&format!(
        "if [ -d /lib/modules ]; then mount --bind {modules} /lib/modules; fi && mount --bind {cmdline} /proc/cmdline \
         && exec {} log",
        env!("CARGO_BIN_EXE_init")
    ));
    let said = wait_for_own_words(&format!("lifeboat-log: netconsole= on {device}: "));
    let there = "no module netconsole in this image; add the module to [kernel] modules";
    assert!(said.contains(there) || said.contains("looking for netconsole: reading /lib/modules/"), "{said}");
}
