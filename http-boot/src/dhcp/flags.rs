//! The flags of `http-boot serve` for DHCP.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::settings::{LeaseTime, Mode, Reservation, Settings};
use super::subnet::RangeSetting;

/// DHCP for the Pis: `--dhcp` turns it on.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "DHCP")]
pub struct Flags {
    /// proxy: beside the site's own DHCP server, say where the boot files are. full: give addresses as well.
    #[arg(long, value_name = "MODE", requires = "dhcp_interface")]
    dhcp: Option<Mode>,
    /// The interface that the Pis are on; may be given several times.
    #[arg(long, value_name = "IF", requires = "dhcp")]
    dhcp_interface: Vec<String>,
    /// Where the boot files are, if not at the interface's own address.
    #[arg(long, value_name = "ADDR", requires = "dhcp")]
    dhcp_server: Option<Ipv4Addr>,
    /// Addresses to give, or with /PREFIX those of a network behind a relay; may be given several times.
    #[arg(long, value_name = "FIRST-LAST[/PREFIX]", requires = "dhcp")]
    dhcp_range: Vec<RangeSetting>,
    /// The default gateway.
    #[arg(long, value_name = "ADDR", requires = "dhcp")]
    dhcp_router: Option<Ipv4Addr>,
    /// A name server; may be given several times.
    #[arg(long, value_name = "ADDR", requires = "dhcp")]
    dhcp_dns: Vec<Ipv4Addr>,
    /// A time server; may be given several times.
    #[arg(long, value_name = "ADDR", requires = "dhcp")]
    dhcp_ntp: Vec<Ipv4Addr>,
    /// The domain of the Pis' names.
    #[arg(long, value_name = "NAME", requires = "dhcp")]
    dhcp_domain: Option<String>,
    /// For how long an address is given, like 90s or 12h (the default).
    #[arg(long, value_name = "TIME", requires = "dhcp")]
    dhcp_lease_time: Option<LeaseTime>,
    /// An address for one client alone, by Ethernet address or a Pi's serial number; may be given several times.
    #[arg(long, value_name = "MAC|SERIAL=ADDR", requires = "dhcp")]
    dhcp_reserve: Vec<Reservation>,
    /// The file that keeps which addresses were given [default: dhcp-leases in $STATE_DIRECTORY or /var/lib/http-boot].
    #[arg(long, value_name = "FILE", requires = "dhcp")]
    dhcp_leases: Option<PathBuf>,
    /// Give addresses to others than Pis as well.
    #[arg(long, requires = "dhcp")]
    dhcp_anyone: bool,
}

impl Flags {
    /// The settings, where DHCP is wanted.
    pub fn settings(self) -> Option<Settings> {
        Some(Settings {
            mode: self.dhcp?,
            interfaces: self.dhcp_interface,
            server: self.dhcp_server,
            ranges: self.dhcp_range,
            router: self.dhcp_router,
            dns: self.dhcp_dns,
            ntp: self.dhcp_ntp,
            domain: self.dhcp_domain,
            lease_time: self.dhcp_lease_time,
            reserve: self.dhcp_reserve,
            leases: self.dhcp_leases,
            anyone: self.dhcp_anyone,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn parse(line: &str) -> Result<Option<Settings>, String> {
        let words = std::iter::once("serve").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.flags.settings()).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_and_a_table_say_the_same() {
        let flags = parse(
            "--dhcp full --dhcp-interface eth0 --dhcp-interface eth1 --dhcp-server 192.0.2.9 --dhcp-range 192.0.2.50-192.0.2.60 \
             --dhcp-range 10.0.0.5-10.0.0.9/24 --dhcp-router 192.0.2.254 --dhcp-dns 192.0.2.3 --dhcp-ntp 192.0.2.4 \
             --dhcp-domain pis.example --dhcp-lease-time 1h --dhcp-reserve 5b154510=192.0.2.7 --dhcp-leases /l --dhcp-anyone",
        );
        let table = r#"{"mode": "full", "interfaces": ["eth0", "eth1"], "server": "192.0.2.9", "router": "192.0.2.254",
            "ranges": ["192.0.2.50-192.0.2.60", "10.0.0.5-10.0.0.9/24"], "dns": ["192.0.2.3"], "ntp": ["192.0.2.4"],
            "domain": "pis.example", "lease-time": "1h", "reserve": ["5b154510=192.0.2.7"], "leases": "/l", "anyone": true}"#;
        assert_eq!(flags.unwrap().unwrap(), serde_json::from_str(table).unwrap());
        assert_eq!(parse(""), Ok(None));
    }

    #[test]
    fn flags_that_do_nothing_are_refused() {
        for (line, said) in [
            ("--dhcp-range 192.0.2.50-192.0.2.60", "--dhcp <MODE>"),
            ("--dhcp-anyone", "--dhcp <MODE>"),
            ("--dhcp proxy", "--dhcp-interface <IF>"),
            ("--dhcp half --dhcp-interface eth0", "[possible values: proxy, full]"),
            ("--dhcp full --dhcp-interface eth0 --dhcp-range 7", "'7' is not FIRST-LAST"),
            ("--dhcp full --dhcp-interface eth0 --dhcp-reserve x", "'x' is not MAC=ADDR or SERIAL=ADDR"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
