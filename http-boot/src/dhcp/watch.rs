//! Watches what goes on around the server, and reports what keeps Pis from booting.

use init::mac::Mac;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::findings::{Cause, Findings};
use super::message::{Kind, Message, Sender, code};
use super::pi::{Form, PXE_CLASS, PiSerial, Who};
use super::recent::Recent;
use super::server::Now;
use super::settings::{Config, Mode};

/// So many DISCOVERs without a REQUEST are a loop. A bootloader sends one every four seconds by default; its first ones may
/// come to nothing while a switch port wakes up.
const LOOP: u32 = 6;
/// Questions with a longer pause between them are another boot.
const PAUSE: Duration = Duration::from_secs(60);
/// Pis that are watched.
const PIS: usize = 1024;

#[derive(Debug)]
struct Asking {
    discovers: u32,
    last: Instant,
    offered: bool,
}

/// The watch.
#[derive(Debug)]
pub struct Watch {
    mode: Mode,
    ours: Vec<Ipv4Addr>,
    asking: Recent<Mac, Asking>,
    findings: Arc<Findings>,
}

impl Watch {
    /// A watch that reports there.
    pub fn new(config: &Config, findings: Arc<Findings>) -> Self {
        let mut watch = Self { mode: config.mode, ours: Vec::new(), asking: Recent::new(PIS), findings };
        watch.set_config(config);
        watch
    }

    /// For other settings.
    pub fn set_config(&mut self, config: &Config) {
        self.mode = config.mode;
        self.ours = config.links.iter().map(|link| link.identity).collect();
    }

    /// Reports what was found elsewhere.
    pub fn report(&self, cause: Cause, now: Now) {
        self.findings.report(cause, now);
    }

    /// A Pi asks; `before`: another serial number that its Ethernet address had.
    pub fn asked(&mut self, request: &Message, who: &Who, before: Option<PiSerial>, now: Now) {
        let mac = request.mac;
        if let Who::Bootloader(found) = who {
            if found.form == Form::SerialFourTimes {
                self.report(Cause::OldBootloader { mac, serial: found.serial }, now);
            }
            if let Some(before) = before {
                self.report(Cause::TwoSerials { mac, before, now: found.serial }, now);
            }
        }
        match request.kind {
            Kind::Discover if matches!(who, Who::Bootloader(_)) => self.discovers(mac, now),
            Kind::Request => {
                self.asking.remove(&mac);
                let server = request.address(code::SERVER).filter(|server| !self.ours.contains(server));
                if let (Some(server), Mode::Full) = (server, self.mode) {
                    self.report(Cause::RivalDhcpServer { server }, now);
                }
            }
            _ => {}
        }
    }

    fn discovers(&mut self, mac: Mac, now: Now) {
        let is_full = self.mode == Mode::Full;
        let asking = self.asking.touch(mac, || Asking { discovers: 0, last: now.tick, offered: is_full });
        if now.tick.saturating_duration_since(asking.last) > PAUSE {
            (asking.discovers, asking.offered) = (0, is_full);
        }
        asking.discovers += 1;
        asking.last = now.tick;
        if asking.discovers == LOOP {
            let address_offered = asking.offered;
            self.report(Cause::NoOfferTaken { mac, address_offered }, now);
        }
    }

    /// Another machine answers somebody. Only what goes to all is heard, or by a hub.
    pub fn heard(&mut self, answer: &Message, from: Ipv4Addr, now: Now) {
        let server = answer.address(code::SERVER).unwrap_or(from);
        if answer.sender != Sender::Server || self.ours.contains(&server) || self.ours.contains(&from) {
            return;
        }
        if !matches!(answer.kind, Kind::Offer | Kind::Ack) {
            return;
        }
        let gives_address = !answer.given.is_unspecified();
        if gives_address && let Some(asking) = self.asking.get_mut(&answer.mac) {
            asking.offered = true;
        }
        let is_boot = answer.option(code::TFTP_SERVER).is_some()
            || answer.option(code::VENDOR_OPTIONS).is_some()
                && answer.option(code::CLASS).is_some_and(|class| class.starts_with(PXE_CLASS));
        if is_boot {
            self.report(Cause::RivalBootServer { server }, now);
        } else if gives_address && self.mode == Mode::Full {
            self.report(Cause::RivalDhcpServer { server }, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Reply;
    use super::super::settings::Settings;
    use super::super::test_pi;
    use super::*;

    fn watch(mode: &str) -> (Watch, Arc<Findings>) {
        let range = if mode == "full" { r#", "ranges": ["192.0.2.50-192.0.2.60"]"# } else { "" };
        let text = format!(r#"{{"mode": "{mode}", "interfaces": ["eth0"]{range}}}"#);
        let config = serde_json::from_str::<Settings>(&text).unwrap().check(&[test_pi::interface()]).unwrap();
        let findings = Arc::new(Findings::default());
        (Watch::new(&config, Arc::clone(&findings)), findings)
    }

    fn causes(findings: &Findings) -> Vec<Cause> {
        findings.list().into_iter().map(|finding| finding.cause).collect()
    }

    fn parse(message: Reply) -> Message {
        Message::parse(&message.done()).unwrap()
    }

    fn ask(watch: &mut Watch, kind: Kind, now: Now) {
        let request = parse(test_pi::question(kind, 1));
        watch.asked(&request, &Who::of(&request), None, now);
    }

    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);

    fn offer(server: Ipv4Addr) -> Reply {
        let request = parse(test_pi::question(Kind::Discover, 1));
        Reply::to(&request, Kind::Offer).with(code::SERVER, &server.octets())
    }

    #[test]
    fn a_loop_is_reported_with_what_was_heard() {
        let given = Ipv4Addr::new(192, 0, 2, 50);
        for (mode, heard, address_offered) in
            [("proxy", false, false), ("proxy", true, true), ("full", false, true)]
        {
            let ((mut watch, findings), start) = (watch(mode), Now::read());
            for number in 1..=LOOP {
                assert!(findings.list().is_empty(), "{number}");
                ask(&mut watch, Kind::Discover, start);
                if heard {
                    watch.heard(&parse(offer(OTHER).given(given)), OTHER, start);
                }
            }
            assert_eq!(causes(&findings), [Cause::NoOfferTaken { mac: test_pi::MAC, address_offered }]);
        }
        let ((mut watch, findings), start) = (watch("proxy"), Now::read());
        for _ in 0..3 * LOOP {
            ask(&mut watch, Kind::Discover, start);
            ask(&mut watch, Kind::Discover, start);
            ask(&mut watch, Kind::Request, start);
        }
        for hour in 0..3 * LOOP {
            let tick = start.tick + Duration::from_secs(3600) * hour;
            ask(&mut watch, Kind::Discover, Now { tick, ..start });
        }
        assert!(findings.list().is_empty(), "boots are no loop");
    }

    #[test]
    fn rivals() {
        let given = Ipv4Addr::new(192, 0, 2, 50);
        let boot = Cause::RivalBootServer { server: OTHER };
        let dhcp = Cause::RivalDhcpServer { server: OTHER };
        let ours = test_pi::SERVER;
        for (mode, answer, cause) in [
            ("proxy", offer(OTHER).with(code::TFTP_SERVER, b"192.0.2.3"), Some(&boot)),
            (
                "proxy",
                offer(OTHER).with(code::CLASS, b"PXEClient").with(code::VENDOR_OPTIONS, &[1]),
                Some(&boot),
            ),
            ("proxy", offer(OTHER).with(code::VENDOR_OPTIONS, &[1]), None),
            ("proxy", offer(OTHER).given(given), None),
            ("full", offer(OTHER).given(given), Some(&dhcp)),
            ("full", offer(OTHER).given(given).with(code::TFTP_SERVER, b"x"), Some(&boot)),
            ("full", offer(ours).given(given), None),
        ] {
            let (mut watch, findings) = watch(mode);
            watch.heard(&parse(answer), OTHER, Now::read());
            assert_eq!(causes(&findings).first(), cause, "{mode}");
        }
        let (mut watch, findings) = watch("full");
        for server in [ours, OTHER] {
            let request = parse(test_pi::question(Kind::Request, 1).with(code::SERVER, &server.octets()));
            watch.asked(&request, &Who::of(&request), None, Now::read());
        }
        assert_eq!(causes(&findings), [dhcp], "a Pi that takes its offer says so to all");
    }

    #[test]
    fn old_bootloaders_and_doubles() {
        let (mut watch, findings) = watch("proxy");
        let serial = PiSerial(0x5b15_4510);
        let old = [&[0][..], &serial.0.to_le_bytes().repeat(4)].concat();
        let request = Reply::question(Kind::Discover, 1, test_pi::MAC);
        let request = parse(request.with(code::CLIENT_MACHINE, &old).with(code::CLASS, PXE_CLASS));
        watch.asked(&request, &Who::of(&request), Some(PiSerial(7)), Now::read());
        let mac = test_pi::MAC;
        let double = Cause::TwoSerials { mac, before: PiSerial(7), now: serial };
        let found = causes(&findings);
        assert!(
            found.contains(&Cause::OldBootloader { mac, serial }) && found.contains(&double),
            "{found:?}"
        );
    }
}
