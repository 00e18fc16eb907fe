//! DHCP clients of others.

use std::net::Ipv4Addr;

use super::site::{Site, Started, output};

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// ISC's.
    Dhclient,
    /// busybox's.
    Udhcpc,
    /// systemd's.
    Networkd,
}

/// What udhcpc calls with what it got.
const SCRIPT: &str = "#!/bin/sh\n\
    case $1 in\n\
    bound|renew) ip addr flush dev $interface; ip addr add $ip/$mask dev $interface;;\n\
    deconfig) ip addr flush dev $interface;;\n\
    esac\n";

impl Client {
    pub(crate) const ALL: [Self; 3] = [Self::Dhclient, Self::Udhcpc, Self::Networkd];

    /// Starts it on a host's `eth0`.
    pub(crate) fn start(self, site: &mut Site, host: &str) -> Started {
        match self {
            Self::Dhclient => start_dhclient(site, host, None),
            Self::Udhcpc => start_udhcpc(site, host, ""),
            Self::Networkd => start_networkd(site, host),
        }
    }

    /// With an address that it had elsewhere.
    pub(crate) fn start_with(self, site: &mut Site, host: &str, address: Ipv4Addr) -> Started {
        match self {
            Self::Dhclient => start_dhclient(site, host, Some(address)),
            Self::Udhcpc => start_udhcpc(site, host, &format!("-r {address}")),
            Self::Networkd => panic!("it cannot be told"),
        }
    }

    /// One that looks by ARP whether its address is free.
    pub(crate) fn start_careful(self, site: &mut Site, host: &str) -> Started {
        assert_eq!(self, Self::Udhcpc);
        start_udhcpc(site, host, "-a -A 1")
    }

    /// Makes it forget what it had.
    pub(crate) fn forget(self, site: &Site) {
        let _ = std::fs::remove_file(site.path("dhclient-leases"));
    }
}

fn start_dhclient(site: &mut Site, host: &str, had: Option<Ipv4Addr>) -> Started {
    let (leases, config, script) =
        (site.path("dhclient-leases"), site.path("dhclient.conf"), site.path("dhclient-script"));
    std::fs::write(
        &config,
        "timeout 60;\nretry 2;\ninitial-interval 1;\nbackoff-cutoff 2;\nreboot 2;\nselect-timeout 0;\n",
    )
    .unwrap();
    if let Some(had) = had {
        let text = format!(
            "lease {{\n  interface \"eth0\";\n  fixed-address {had};\n  option subnet-mask 255.255.255.0;\n  \
             option dhcp-lease-time 999999;\n  option dhcp-message-type 5;\n  option dhcp-server-identifier 10.0.0.1;\n  \
             renew 0 2034/01/01 00:00:00;\n  rebind 0 2034/01/01 00:00:00;\n  expire 0 2034/01/01 00:00:00;\n}}\n"
        );
        std::fs::write(&leases, text).unwrap();
    }
    let text = "#!/bin/sh\n\
        case $reason in\n\
        BOUND|RENEW|REBIND|REBOOT) ip addr flush dev $interface; ip addr add $new_ip_address/24 dev $interface;;\n\
        EXPIRE|FAIL|STOP|RELEASE) ip addr flush dev $interface;;\n\
        esac\n";
    executable(&script, text);
    // A copy: where AppArmor is, Debian's profile of its path keeps it from our files.
    let line = format!(
        "cp $(command -v dhclient) {0}; exec {0} -4 -d -v -lf {1} -pf {2} -cf {3} -sf {4} eth0",
        site.path("dhclient").display(),
        leases.display(),
        site.path("dhclient.pid").display(),
        config.display(),
        script.display()
    );
    site.start(host, &line)
}

fn start_udhcpc(site: &mut Site, host: &str, more: &str) -> Started {
    let script = site.path("udhcpc-script");
    executable(&script, SCRIPT);
    let line = format!("exec udhcpc -f -n -i eth0 -t 20 -T 1 -A 1 -s {} {more}", script.display());
    site.start(host, &line)
}

fn start_networkd(site: &mut Site, host: &str) -> Started {
    let folder = site.path(&format!("etc-{host}"));
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["passwd", "group", "nsswitch.conf"] {
        if let Ok(bytes) = std::fs::read(std::path::Path::new("/etc").join(file)) {
            std::fs::write(folder.join(file), bytes).unwrap();
        }
    }
    std::fs::write(folder.join("machine-id"), "0102030405060708090a0b0c0d0e0f10\n").unwrap();
    let unit = site.path("client.network");
    std::fs::write(
        &unit,
        "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    )
    .unwrap();
    // Where /sys cannot be written, it waits for no udev.
    let script = format!(
        "set -e; mount --bind {} /etc; mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/network; \
         cp {} /run/systemd/network/10-eth0.network; mount -o remount,bind,ro /sys; exec /lib/systemd/systemd-networkd",
        folder.display(),
        unit.display()
    );
    site.start(host, &script)
}

fn executable(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

/// The address that a host's `eth0` has.
pub(crate) fn address_of(site: &Site, host: &str) -> Option<Ipv4Addr> {
    let said = output(&site.namespace(host), "ip -4 -oneline addr show eth0");
    let (_, rest) = said.split_once("inet ")?;
    rest.split_once('/')?.0.parse().ok()
}
