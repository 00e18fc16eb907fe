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
