//! DHCP servers, and a client, that are not ours.

use super::site::Site;

/// `/etc` of a process that looks up its user there.
fn minimal_etc(site: &Site, name: &str, machine_id: &str) -> String {
    let etc = site.path(name);
    std::fs::create_dir_all(&etc).unwrap();
    for file in ["passwd", "group", "nsswitch.conf"] {
        if let Ok(bytes) = std::fs::read(std::path::Path::new("/etc").join(file)) {
            std::fs::write(etc.join(file), bytes).unwrap();
        }
    }
    std::fs::write(etc.join("machine-id"), format!("{machine_id}\n")).unwrap();
    etc.display().to_string()
}

impl Site {
    pub(crate) fn start_dnsmasq(&mut self, options: &[&str]) -> usize {
        let leases = self.path("leases");
        let mut fixed = vec![
            "--keep-in-foreground --conf-file=/dev/null --port=0 --bind-interfaces --interface=eth0 --user=root",
            "--log-dhcp --pid-file= --dhcp-authoritative",
        ];
        if !options.iter().any(|option| option.starts_with("--dhcp-range=192.")) {
            fixed.push("--dhcp-range=192.0.2.50,192.0.2.59,255.255.255.0,2m");
        }
        let options = options.iter().map(|option| format!(" '{option}'")).collect::<String>();
        let script =
            format!("exec dnsmasq {} --dhcp-leasefile={}{options}", fixed.join(" "), leases.display());
        self.start(&self.server(), &script)
    }

    /// ISC Kea. Below its own paths, where Debian's AppArmor profile lets it read and write.
    pub(crate) fn start_kea(&mut self) -> usize {
        let config = serde_json::json!({"Dhcp4": {
            "interfaces-config": {"interfaces": ["eth0"]},
            "lease-database": {"type": "memfile", "persist": false},
            "valid-lifetime": 120,
            "subnet4": [{
                "id": 1,
                "subnet": "192.0.2.0/24",
                "pools": [{"pool": "192.0.2.50 - 192.0.2.59"}],
                "option-data": [
                    {"name": "routers", "data": "192.0.2.254"},
                    {"name": "domain-name-servers", "data": "192.0.2.53"},
                    {"name": "ntp-servers", "data": "192.0.2.123"},
                ],
            }],
        }});
        let folder = self.path("kea");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("kea-dhcp4.conf"), config.to_string()).unwrap();
        let script = format!(
            "mount --bind {} /etc/kea && mount -t tmpfs tmpfs /run && mkdir -p /run/kea /run/lock/kea && \
             KEA_LOCKFILE_DIR=/run/kea KEA_PIDFILE_DIR=/run/kea exec kea-dhcp4 -c /etc/kea/kea-dhcp4.conf",
            folder.display()
        );
        self.start(&self.server(), &script)
    }

    /// systemd-networkd as a server.
    pub(crate) fn start_networkd_server(&mut self) -> usize {
        let network = "[Match]\nName=eth0\n[Network]\nAddress=192.0.2.1/24\nDHCPServer=yes\n\
             [DHCPServer]\nPoolOffset=50\nPoolSize=10\nDefaultLeaseTimeSec=120\nDNS=192.0.2.53\nNTP=192.0.2.123\n";
        let server = self.server();
        // It wants to give the interface its address by itself.
        super::site::run(&format!("ip -n {server} addr flush dev eth0"));
        self.start_networkd(&server, "server", network, "00112233445566778899aabbccddeeff", None)
    }

    /// systemd-networkd as a client, on a machine with this ID; `name`: what udev calls the interface.
    pub(crate) fn start_networkd_client(&mut self, machine_id: &str, name: Option<&str>) -> usize {
        let device = self.device();
        let network = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n";
        self.start_networkd(&device, "client", network, machine_id, name)
    }

    fn start_networkd(
        &mut self,
        namespace: &str,
        who: &str,
        network: &str,
        machine_id: &str,
        name: Option<&str>,
    ) -> usize {
        let etc = minimal_etc(self, &format!("etc-{who}"), machine_id);
        let unit = self.path(&format!("{who}.network"));
        std::fs::write(&unit, network).unwrap();
        // udev's answer, as it would lie there (systemd.net-naming-scheme(7)). Where /sys cannot be written, networkd waits for
        // none.
        let udev = match name {
            Some(name) => format!(
                "mkdir -p /run/udev/data; touch /run/udev/control; printf 'I:1\\nE:ID_NET_NAME_ONBOARD={name}\\n' \
                 > /run/udev/data/n$(cat /sys/class/net/eth0/ifindex); printf 'I:1\\n' > /run/udev/data/n1;"
            ),
            None => "mount -o remount,bind,ro /sys;".into(),
        };
        let script = format!(
            "set -e; mount --bind {etc} /etc; mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/network; \
             cp {} /run/systemd/network/10-eth0.network; {} exec /lib/systemd/systemd-networkd",
            unit.display(),
            udev
        );
        self.start(namespace, &script)
    }
}
