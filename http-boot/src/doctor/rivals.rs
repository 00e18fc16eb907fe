//! What answers a Pi that is switched on, and whether it would boot by that.

use std::net::Ipv4Addr;

use super::{Level, Line};
use crate::dhcp::message::{Kind, Message, code};

const CHECK: &str = "dhcp";
/// What a bootloader looks for in option 43, unless its EEPROM has another `PXE_OPTION43`.
const TEXT: &[u8] = b"Raspberry Pi Boot";

/// Another server's offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    server: Ipv4Addr,
    gives_address: bool,
    /// By what a Pi would boot from there.
    boot: Vec<&'static str>,
    /// Boot options that a Pi does not take: `siaddr`, `file`, option 67.
    has_other: bool,
}

impl Offer {
    /// Reads an answer to our question; `next_server` is its `siaddr`.
    pub(super) fn of(message: &Message, from: Ipv4Addr, next_server: Ipv4Addr) -> Option<Self> {
        if message.kind != Kind::Offer {
            return None;
        }
        let server = message.address(code::SERVER).unwrap_or(from);
        let mut boot = Vec::new();
        let has_text = |value: &[u8]| value.windows(TEXT.len()).any(|part| part == TEXT);
        if message.option(code::VENDOR_OPTIONS).is_some_and(has_text) {
            boot.push("option 43 \"Raspberry Pi Boot\"");
        }
        let named = message.option(code::TFTP_SERVER);
        let is_address = |value: &[u8]| {
            let text = std::str::from_utf8(value).ok().map(|text| text.trim_end_matches('\0'));
            text.is_some_and(|text| text.parse::<Ipv4Addr>().is_ok())
        };
        if named.is_some_and(is_address) {
            boot.push("option 66 with an address");
        }
        let elsewhere = !next_server.is_unspecified() && next_server != server;
        let has_other = named.is_some()
            || message.option(code::VENDOR_OPTIONS).is_some()
            || message.option(code::BOOT_FILE).is_some()
            || elsewhere;
        Some(Self { server, gives_address: !message.given.is_unspecified(), boot, has_other })
    }
}

/// What the offers on one interface mean. `serves`: our own server runs on this machine, which does not hear its own host.
pub(super) fn judge(interface: &str, offers: &[Offer], ours: &[Ipv4Addr], serves: bool) -> Vec<Line> {
    let mut servers: Vec<Ipv4Addr> =
        offers.iter().map(|offer| offer.server).filter(|server| !ours.contains(server)).collect();
    servers.sort();
    servers.dedup();
    let of = |server: Ipv4Addr| offers.iter().filter(move |offer| offer.server == server);
    let mut lines: Vec<Line> = servers.iter().map(|server| one(interface, *server, of(*server))).collect();
    let giving: Vec<String> = servers
        .iter()
        .filter(|server| of(**server).any(|offer| offer.gives_address))
        .map(Ipv4Addr::to_string)
        .collect();
    if giving.len() > 1 {
        lines.push(Line::new(
            CHECK,
            Level::Problem,
            format!("{interface}: {} all give addresses", giving.join(", ")),
            "leave one of them on: with two, a Pi gets now this address and now that one",
        ));
    }
    if giving.is_empty() && !serves {
        lines.push(Line::new(
            CHECK,
            Level::Warning,
            format!("{interface}: nobody offers an address to a Pi, and no http-boot runs here"),
            "a Pi needs one: start http-boot with --dhcp full, or look for the site's DHCP server (is it on this network?)",
        ));
    }
    if giving.is_empty() && serves {
        let found = format!("{interface}: no other server answers a Pi; http-boot runs here");
        lines.push(Line::ok(CHECK, found));
    }
    lines
}

fn one<'a>(interface: &str, server: Ipv4Addr, offers: impl Iterator<Item = &'a Offer>) -> Line {
    let offers: Vec<&Offer> = offers.collect();
    let mut boot: Vec<&str> = offers.iter().flat_map(|offer| offer.boot.iter().copied()).collect();
    boot.sort_unstable();
    boot.dedup();
    if !boot.is_empty() {
        return Line::new(
            CHECK,
            Level::Problem,
            format!("{interface}: {server} tells Pis to boot from it ({})", boot.join(", ")),
            "unless that is the boot server: which of two servers a Pi takes is chance. Switch its boot options off",
        );
    }
    if offers.iter().any(|offer| offer.has_other) {
        return Line::new(
            CHECK,
            Level::Warning,
            format!(
                "{interface}: {server} has boot options of other machines (options 43, 66 or 67, or siaddr)"
            ),
            "a Pi does not boot by them, but takes siaddr as its TFTP server where no option 66 says another: leave Pis out there",
        );
    }
    Line::ok(
        CHECK,
        format!("{interface}: {server} gives addresses and no boot options: --dhcp proxy goes with it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::boot_options::VENDOR_OPTIONS;
    use crate::dhcp::message::Reply;
    use init::mac::Mac;

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    fn offer(server: u8, change: impl Fn(Reply) -> Reply) -> Offer {
        let request =
            Message::parse(&Reply::question(Kind::Discover, 1, Mac([2, 0, 0, 0, 0, 1])).done()).unwrap();
        let reply = Reply::to(&request, Kind::Offer).with(code::SERVER, &ip(server).octets());
        let message = Message::parse(&change(reply).done()).unwrap();
        Offer::of(&message, ip(server), Ipv4Addr::UNSPECIFIED).unwrap()
    }

    fn levels(offers: &[Offer], serves: bool) -> Vec<Level> {
        judge("eth0", offers, &[ip(1)], serves).iter().map(|line| line.level).collect()
    }

    #[test]
    fn who_is_in_the_way() {
        let plain = offer(2, |reply| reply.given(ip(50)));
        let by_43 = offer(3, |reply| reply.with(code::VENDOR_OPTIONS, &VENDOR_OPTIONS));
        let by_66 = offer(4, |reply| reply.with(code::TFTP_SERVER, b"192.0.2.4").given(ip(51)));
        let of_pcs = offer(5, |reply| reply.with(code::TFTP_SERVER, b"tftp.example").given(ip(52)));
        use Level::{Ok, Problem, Warning};
        assert_eq!(levels(std::slice::from_ref(&plain), false), [Ok]);
        assert_eq!(levels(&[plain.clone(), by_43.clone()], false), [Ok, Problem]);
        assert_eq!(levels(&[plain.clone(), by_66], false), [Ok, Problem, Problem], "and two give addresses");
        assert_eq!(levels(&[of_pcs], false), [Warning]);
        assert_eq!(levels(&[], false), [Warning]);
        assert_eq!(levels(&[], true), [Ok]);
        let ours = offer(1, |reply| reply.with(code::VENDOR_OPTIONS, &VENDOR_OPTIONS));
        assert_eq!(levels(&[plain, ours], true), [Ok]);
        assert!(judge("eth0", &[by_43], &[], true)[0].found.contains("192.0.2.3 tells Pis to boot from it"));
    }
}
