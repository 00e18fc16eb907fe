//! The command line in all the forms that the manuals have: what `init --explain` says of each. dracut.cmdline(7), the
//! kernel's Documentation/admin-guide/nfs/nfsroot.rst, systemd-network-generator.service(8), kernel-command-line(7).
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use init::explain::explain;

/// Lines that are understood, and what the explanation has.
type Good<'a> = &'a [(&'a str, &'a [&'a str])];
/// Lines with one word that is not, that word, and what is said of it.
type Bad<'a> = &'a [(&'a str, &'a str, &'a str)];

fn understood(table: Good) {
    for (line, parts) in table {
        let (text, understood) = explain(line);
        assert!(understood, "{line}:\n{text}");
        for part in *parts {
            let there = text.lines().any(|line| line.contains(part));
            assert!(there, "{part:?} is missing for {line}:\n{text}");
        }
    }
}

fn refused(table: Bad) {
    for (line, word, reason) in table {
        let (text, understood) = explain(line);
        let problems: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("not understood: ")).collect();
        assert!(!understood, "{line}:\n{text}");
        assert_eq!(problems.len(), 1, "{line}:\n{text}");
        assert!(
            problems[0].starts_with(&format!("{word}: ")) && problems[0].contains(reason),
            "{line}:\n{text}"
        );
        assert!(text.contains("goal: rescue, since the words above were not understood"), "{line}:\n{text}");
    }
}

#[test]
fn ip_without_an_address() {
    understood(&[
        ("", &["network: DHCP on every wired interface", "goal: rescue (SSH"]),
        ("ip=dhcp", &["network: DHCP on every wired interface"]),
        ("ip=on", &["network: DHCP on every wired interface"]),
        ("ip=any", &["network: DHCP on every wired interface"]),
        ("ip=both", &["network: DHCP on every wired interface"]),
        ("ip=single-dhcp", &["network: DHCP on every wired interface"]),
        (
            "ip=dhcp6",
            &["no IPv4 address on every", "DHCPv6 on every wired interface, without waiting for a router"],
        ),
        ("ip=auto6", &["no IPv4 address on every", "IPv6 as routers announce it on every wired interface"]),
        (
            "ip=either6",
            &["no IPv4 address", "IPv6 as routers announce it on every wired interface, else DHCPv6"],
        ),
        ("ip=link6", &["only a link-local IPv6 address on every"]),
        ("ip=link-local", &["only a link-local IPv6 address on every"]),
        ("ip=dhcp,dhcp6", &["network: DHCP on every", "DHCPv6 on every"]),
        ("ip=off", &["no IPv4 address on every wired interface"]),
        ("ip=none", &["no IPv4 address on every wired interface"]),
        ("ip=eth0:dhcp", &["network: DHCP on eth0"]),
        ("ip=eth0:on", &["network: DHCP on eth0"]),
        ("ip=eth0:any:1400", &["network: DHCP on eth0", "packets of at most 1400 bytes on eth0"]),
        ("ip=eth0:dhcp6", &["DHCPv6 on eth0"]),
        ("ip=eth0:auto6", &["IPv6 as routers announce it on eth0"]),
        ("ip=eth0:either6", &["on eth0, else DHCPv6"]),
        ("ip=eth0:link6", &["only a link-local IPv6 address on eth0"]),
        ("ip=eth0:dhcp::02:00:00:00:00:01", &["DHCP on eth0", "the MAC address 02:00:00:00:00:01 on eth0"]),
        (
            "ip=eth0:dhcp:9000:02:00:00:00:00:01",
            &["at most 9000 bytes", "the MAC address 02:00:00:00:00:01 on eth0"],
        ),
        // The kernel's: fields may be empty, also those at the end.
        ("ip=::::::dhcp", &["network: DHCP on every wired interface"]),
        ("ip=:::::eth0:dhcp", &["network: DHCP on eth0"]),
        ("ip=::::cm4::dhcp", &["network: DHCP on every", "host name: cm4"]),
        ("ip=::::cm4:eth0:dhcp", &["network: DHCP on eth0", "host name: cm4"]),
        ("ip=:::::eth0", &["network: DHCP on eth0"]),
        ("ip=:::::eth0:off", &["no IPv4 address on eth0"]),
        // Several: one an interface, one a family.
        ("ip=eth0:dhcp ip=eth1:off", &["DHCP on eth0", "no IPv4 address on eth1"]),
        ("ip=eth0:dhcp ip=eth0:dhcp6", &["DHCP on eth0", "DHCPv6 on eth0"]),
        ("ip=dhcp ip=dhcp", &["network: DHCP on every wired interface"]),
    ]);
    refused(&[
        ("ip=", "ip=", "neither an address nor a way"),
        ("ip", "ip", "neither an address nor a way"),
        ("ip=bootp", "ip=bootp", "not supported; dhcp is"),
        ("ip=rarp", "ip=rarp", "not supported; dhcp is"),
        ("ip=ibft", "ip=ibft", "not supported; dhcp is"),
        ("ip=dhcp7", "ip=dhcp7", "not an IP address"),
        ("ip=eth0:wifi", "ip=eth0:wifi", "not an IP address"),
        ("ip=:::::eth0:wifi", "ip=:::::eth0:wifi", "no way of autoconfiguration"),
        ("ip=eth0:dhcp:67", "ip=eth0:dhcp:67", "not 68 to 65535"),
        ("ip=eth0:dhcp:65536", "ip=eth0:dhcp:65536", "not 68 to 65535"),
        ("ip=eth0:dhcp:1500:02:00", "ip=eth0:dhcp:1500:02:00", "no MAC address"),
        ("ip=a/b:dhcp", "ip=a/b:dhcp", "no name of an interface"),
        ("ip=averyveryverylongname:dhcp", "ip=averyveryverylongname:dhcp", "no name of an interface"),
        ("ip=dhcp ip=dhcp7", "ip=dhcp7", "not an IP address"),
    ]);
}

#[test]
fn ip_with_an_address() {
    let fixed = "network: 192.0.2.7/24 on eth0, gateway 192.0.2.1";
    understood(&[
        ("ip=192.0.2.7::192.0.2.1:255.255.255.0:cm4:eth0:off", &[fixed, "host name: cm4"]),
        ("ip=192.0.2.7::192.0.2.1:255.255.255.0:cm4:eth0:none", &[fixed]),
        ("ip=192.0.2.7:192.0.2.9:192.0.2.1:24::eth0:none", &[fixed]),
        ("ip=192.0.2.7:192.0.2.9/24:192.0.2.1:24::eth0:none", &[fixed]),
        ("ip=192.0.2.7/24::192.0.2.1:::eth0:none", &[fixed]),
        ("ip=192.0.2.7::192.0.2.1:255.255.255.0::eth0", &[fixed]),
        (
            "ip=192.0.2.7::192.0.2.1:255.255.255.0",
            &["192.0.2.7/24 on every wired interface, gateway 192.0.2.1"],
        ),
        ("ip=192.0.2.7:::24::eth0:none", &["192.0.2.7/24 on eth0, no gateway"]),
        ("ip=192.0.2.7:::32::eth0:none", &["192.0.2.7/32 on eth0"]),
        ("ip=192.0.2.7::192.0.2.1:24::eth0:none:1400", &[fixed, "at most 1400 bytes on eth0"]),
        (
            "ip=192.0.2.7::192.0.2.1:24::eth0:none:1400:02:00:00:00:00:01",
            &[fixed, "MAC address 02:00:00:00:00:01"],
        ),
        (
            "ip=192.0.2.7::192.0.2.1:24::eth0:none::02:00:00:00:00:01",
            &[fixed, "MAC address 02:00:00:00:00:01"],
        ),
        ("ip=192.0.2.7::192.0.2.1:24::eth0:none:192.0.2.53", &[fixed, "name server: 192.0.2.53"]),
        (
            "ip=192.0.2.7::192.0.2.1:24::eth0:none:192.0.2.53:192.0.2.54:192.0.2.123",
            &[fixed, "name server: 192.0.2.54"],
        ),
        ("ip=192.0.2.7::192.0.2.1:24::eth0:none:[2001:db8::53]", &[fixed, "name server: 2001:db8::53"]),
        ("ip=192.0.2.7::192.0.2.1:24::eth0:dhcp", &["network: DHCP on eth0"]),
        (
            "ip=[2001:db8::7]::[2001:db8::1]:64:cm4:eth0:none",
            &["2001:db8::7/64 on eth0, gateway 2001:db8::1", "host name: cm4"],
        ),
        ("ip=[2001:db8::7]::[fe80::1]:48::eth0:off", &["2001:db8::7/48 on eth0, gateway fe80::1"]),
        ("ip=[2001:db8::7/56]:::::eth0:off", &["2001:db8::7/56 on eth0, no gateway"]),
        ("ip=[2001:db8::7]:::::eth0:off", &["2001:db8::7/64 on eth0"]),
        ("ip=[2001:db8::7]:[2001:db8::9]:[2001:db8::1]:64::eth0:dhcp6", &["DHCPv6 on eth0"]),
        (
            "ip=192.0.2.7::192.0.2.1:24::eth0:none ip=[2001:db8::7]::[2001:db8::1]:64::eth0:none",
            &[fixed, "2001:db8::7/64 on eth0, gateway 2001:db8::1"],
        ),
    ]);
}

#[test]
fn ip_with_an_address_that_cannot_be_meant() {
    refused(&[
        ("ip=192.0.2.7", "ip=192.0.2.7", "needs a netmask"),
        ("ip=192.0.2.7::192.0.2.1:::eth0:off", "ip=192.0.2.7::192.0.2.1:::eth0:off", "needs a netmask"),
        ("ip=192.0.2.7:::33::eth0:off", "ip=192.0.2.7:::33::eth0:off", "0 to 32"),
        ("ip=192.0.2.7:::255.0.255.0::eth0:off", "ip=192.0.2.7:::255.0.255.0::eth0:off", "a hole"),
        ("ip=300.0.2.7:::24::eth0:off", "ip=300.0.2.7:::24::eth0:off", "not an IP address"),
        (
            "ip=192.0.2.7:server::24::eth0:off",
            "ip=192.0.2.7:server::24::eth0:off",
            "server \"server\" is not an IP address",
        ),
        ("ip=192.0.2.7::gw:24::eth0:off", "ip=192.0.2.7::gw:24::eth0:off", "not an IPv4 address"),
        (
            "ip=192.0.2.7::[2001:db8::1]:24::eth0:off",
            "ip=192.0.2.7::[2001:db8::1]:24::eth0:off",
            "not an IPv4 address",
        ),
        ("ip=192.0.2.7:::24:c_m:eth0:off", "ip=192.0.2.7:::24:c_m:eth0:off", "no host name"),
        ("ip=192.0.2.7:::24::eth0:off:dns", "ip=192.0.2.7:::24::eth0:off:dns", "not an IP address"),
        ("ip=2001:db8::7", "ip=2001:db8::7", "server \"db8\" is not an IP address"),
        ("ip=[2001:db8::7:::64::eth0:off", "ip=[2001:db8::7:::64::eth0:off", "no partner"),
        ("ip=[2001:db8::7]:::129::eth0:off", "ip=[2001:db8::7]:::129::eth0:off", "0 to 128"),
        (
            "ip=[2001:db8::7]::192.0.2.1:64::eth0:off",
            "ip=[2001:db8::7]::192.0.2.1:64::eth0:off",
            "not an IPv6 address",
        ),
        ("ip=a:b:c:d:e:f:g:h:i:j:k", "ip=a:b:c:d:e:f:g:h:i:j:k", "is not an IP address"),
        (
            "ip=192.0.2.7:::24::eth0:off:1.1.1.1:1.1.1.1:1.1.1.1:1.1.1.1",
            "ip=192.0.2.7:::24::eth0:off:1.1.1.1:1.1.1.1:1.1.1.1:1.1.1.1",
            "more than the ten fields",
        ),
    ]);
}

#[test]
fn interfaces_that_are_made_or_named() {
    understood(&[
        ("vlan=vlan0005:eth0", &["vlan0005 is VLAN 5 on eth0"]),
        ("vlan=vlan5:eth0", &["vlan5 is VLAN 5 on eth0"]),
        ("vlan=eth0.0005:eth0", &["eth0.0005 is VLAN 5 on eth0"]),
        ("vlan=eth0.5:eth0 ip=eth0.5:dhcp", &["eth0.5 is VLAN 5 on eth0", "DHCP on eth0.5"]),
        ("vlan=vlan1:eth0 vlan=vlan4094:eth0", &["VLAN 1 on eth0", "VLAN 4094 on eth0"]),
        ("bond=bond0", &["bond0 is a bond of eth0 and eth1, balance-rr"]),
        ("bond", &["bond0 is a bond of eth0 and eth1, balance-rr"]),
        ("bond=b:eth1,eth2", &["b is a bond of eth1 and eth2, balance-rr"]),
        (
            "bond=b:eth1,eth2:mode=active-backup,primary=eth2,miimon=50",
            &["a bond of eth1 and eth2, active-backup"],
        ),
        ("bond=b:eth1,eth2:mode=4,lacp_rate=fast,xmit_hash_policy=layer3+4:9000", &["802.3ad"]),
        (
            "bond=b:eth0 bond=c:eth1 vlan=b.7:b",
            &["b is a bond of eth0", "c is a bond of eth1", "b.7 is VLAN 7 on b"],
        ),
        ("bridge=br0:eth0,eth1", &["br0 is a bridge of eth0 and eth1"]),
        ("bridge", &["br0 is a bridge of eth0"]),
        ("bridge=br0:bond0 bond=bond0:eth0,eth1 ip=br0:dhcp", &["br0 is a bridge of bond0", "DHCP on br0"]),
        ("ifname=bootnet:dc:a6:32:01:02:03", &["the interface dc:a6:32:01:02:03 is called bootnet"]),
        ("BOOTIF=01-dc-a6-32-01-02-03", &["only the interface dc:a6:32:01:02:03"]),
        ("BOOTIF=dc:a6:32:01:02:03", &["only the interface dc:a6:32:01:02:03"]),
        (
            "BOOTIF=01-dc-a6-32-01-02-03 BOOTIF=01-dc-a6-32-01-02-04",
            &["only the interface dc:a6:32:01:02:04"],
        ),
        ("BOOTIF=nonsense rd.bootif=0", &["network: DHCP on every wired interface"]),
    ]);
    let (text, _) = explain("BOOTIF=01-dc-a6-32-01-02-03 rd.bootif=0");
    assert!(!text.contains("dc:a6"), "{text}");
    refused(&[
        ("vlan=vlan0:eth0", "vlan=vlan0:eth0", "1 to 4094"),
        ("vlan=vlan4095:eth0", "vlan=vlan4095:eth0", "1 to 4094"),
        ("vlan=vlan4096:eth0", "vlan=vlan4096:eth0", "1 to 4094"),
        ("vlan=eth0.0:eth0", "vlan=eth0.0:eth0", "1 to 4094"),
        ("vlan=vlan5", "vlan=vlan5", "NAME:INTERFACE"),
        ("vlan", "vlan", "NAME:INTERFACE"),
        ("vlan=vlan5:eth0 vlan=vlan5:eth1", "vlan=vlan5:eth1", "two words that make vlan5"),
        ("bond=b:eth0:colour=red", "bond=b:eth0:colour=red", "no option that is known"),
        ("bond=b:eth0:arp_interval=100", "bond=b:eth0:arp_interval=100", "no option that is known"),
        ("bond=b:eth0:mode=7", "bond=b:eth0:mode=7", "balance-rr"),
        ("bond=b:eth0:miimon=often", "bond=b:eth0:miimon=often", "milliseconds"),
        ("bond=b:eth0,eth0", "bond=b:eth0,eth0", "twice"),
        ("bond=b:eth0:primary=eth9", "bond=b:eth0:primary=eth9", "none of its interfaces"),
        ("bond=b:eth0::12", "bond=b:eth0::12", "MTU"),
        ("bond=b:eth0 bond=b:eth1", "bond=b:eth1", "two words that make b"),
        ("bond=b:eth0 bridge=br0:eth0", "bridge=br0:eth0", "eth0 is part of b already"),
        ("bridge=br0:eth0,eth0", "bridge=br0:eth0,eth0", "twice"),
        ("bridge=br0:eth0:more", "bridge=br0:eth0:more", "NAME:INTERFACE,INTERFACE"),
        ("bridge=br0:eth0 bridge=br0:eth1", "bridge=br0:eth1", "two words that make br0"),
        ("team=team0:eth0,eth1", "team=team0:eth0,eth1", "not supported; bond= is"),
        ("ifname=lan", "ifname=lan", "NAME:MAC"),
        ("ifname=lan:ff:ff:ff:ff:ff:ff", "ifname=lan:ff:ff:ff:ff:ff:ff", "no MAC address"),
        ("ifname=a:2:0:0:0:0:1 ifname=a:2:0:0:0:0:2", "ifname=a:2:0:0:0:0:2", "given before"),
        ("BOOTIF=eth0", "BOOTIF=eth0", "no MAC address"),
        ("BOOTIF=20-dc-a6-32-01-02-03", "BOOTIF=20-dc-a6-32-01-02-03", "no MAC address"),
    ]);
}

#[test]
fn routes_name_servers_and_what_is_read_only() {
    understood(&[
        (
            "nameserver=192.0.2.53 nameserver=192.0.2.54",
            &["name server: 192.0.2.53", "name server: 192.0.2.54"],
        ),
        ("nameserver=[2001:db8::53]", &["name server: 2001:db8::53"]),
        ("nameserver=2001:db8::53", &["name server: 2001:db8::53"]),
        (
            "rd.peerdns=0 nameserver=192.0.2.53",
            &["only those of the command line", "name server: 192.0.2.53"],
        ),
        (
            "rd.route=192.168.200.0/24:192.168.100.222:ens10",
            &["route: 192.168.200.0/24 by 192.168.100.222 on ens10"],
        ),
        ("rd.route=192.168.200.0/24:192.168.100.222", &["route: 192.168.200.0/24 by 192.168.100.222"]),
        ("rd.route=192.168.200.0/24::ens10", &["route: 192.168.200.0/24 on ens10"]),
        (
            "rd.route=[2001:DB8:3::/8]:[2001:DB8:2::1]:ens10",
            &["route: 2001:db8:3::/8 by 2001:db8:2::1 on ens10"],
        ),
        ("rd.route=[2001:db8:3::]/48:[fe80::1]:eth0", &["route: 2001:db8:3::/48 by fe80::1 on eth0"]),
        (
            "rd.route=10.0.0.0/8:192.0.2.1 rd.route=10.1.0.0/16:192.0.2.2",
            &["10.0.0.0/8 by", "10.1.0.0/16 by"],
        ),
        ("rd.neednet rd.neednet=0 rd.neednet=1", &["network: DHCP"]),
        ("rd.net.timeout.dhcp=30 rd.net.timeout.iflink=30 rd.net.timeout.ifup=30", &["network: DHCP"]),
        ("rd.net.timeout.route=30 rd.net.timeout.ipv6dad=30 rd.net.timeout.ipv6auto=30", &["network: DHCP"]),
        ("rd.net.timeout.carrier=30 rd.net.dhcp.retry=5", &["network: DHCP"]),
        ("systemd.hostname=cm4.site.example", &["host name: cm4.site.example"]),
        ("systemd.hostname=one ip=::::two:eth0:dhcp", &["host name: one"]),
        // Of the kernel's, dracut's and systemd's words, what is not ours is theirs.
        (
            "console=ttyAMA0,115200 quiet ro biosdevname=0 net.ifnames=0 systemd.unit=rescue.target rd.lvm=0",
            &["goal: rescue"],
        ),
    ]);
    refused(&[
        ("nameserver=dns.example", "nameserver=dns.example", "not an IP address"),
        ("nameserver", "nameserver", "not an IP address"),
        ("rd.route=10.0.0.0:192.0.2.1", "rd.route=10.0.0.0:192.0.2.1", "no /PREFIX"),
        ("rd.route=10.0.0.0/33:192.0.2.1", "rd.route=10.0.0.0/33:192.0.2.1", "0 to 32"),
        ("rd.route=[2001:db8::]/129:[fe80::1]", "rd.route=[2001:db8::]/129:[fe80::1]", "0 to 128"),
        ("rd.route=10.0.0.0/8:[fe80::1]", "rd.route=10.0.0.0/8:[fe80::1]", "two families"),
        ("rd.route=10.0.0.0/8", "rd.route=10.0.0.0/8", "NETWORK/PREFIX:GATEWAY"),
        ("rd.route=10.0.0.0/8:", "rd.route=10.0.0.0/8:", "neither a gateway nor an interface"),
        ("rd.neednet=maybe", "rd.neednet=maybe", "0 or 1"),
        ("rd.peerdns=maybe", "rd.peerdns=maybe", "0 or 1"),
        ("rd.net.timeout.dhcp=soon", "rd.net.timeout.dhcp=soon", "whole number"),
        ("rd.net.timeout.carrier", "rd.net.timeout.carrier", "whole number"),
        ("rd.net.dhcp.retry=-1", "rd.net.dhcp.retry=-1", "whole number"),
        ("systemd.hostname=c_m", "systemd.hostname=c_m", "no host name"),
        ("systemd.hostname=", "systemd.hostname=", "no host name"),
    ]);
}

#[test]
fn where_a_boot_goes() {
    let image = "image: http://192.0.2.1/os.squashfs, checked by its signed manifest";
    understood(&[
        (
            "root=live:http://192.0.2.1/os.squashfs",
            &[image, "then: exec /sbin/init", "steps: console, filesystems"],
        ),
        ("root=live:https://site.example/os.squashfs", &["image: https://site.example/os.squashfs"]),
        (
            "root=live:http://[2001:db8::1]:8080/os.squashfs",
            &["image: http://[2001:db8::1]:8080/os.squashfs"],
        ),
        (
            "root=live:http://a/os.squashfs root=live:http://192.0.2.1/os.squashfs",
            &[image, "or from: http://a/os.squashfs"],
        ),
        ("root=live:http://a/old.squashfs root=live:http://192.0.2.1/os.squashfs", &[image]),
        ("root=live:http://192.0.2.1/os.squashfs init=/bin/sh -- -x y", &["then: exec /bin/sh -x y"]),
        ("root=live:http://192.0.2.1/os.squashfs init=/a init=/b", &["then: exec /b"]),
        ("root=live:http://192.0.2.1/os.squashfs rd.break", &["held before the hand-over"]),
        ("root=live:http://192.0.2.1/os.squashfs rd.break=pre-pivot", &["held before the hand-over"]),
        ("root=live:http://192.0.2.1/os.squashfs rd.break=cleanup", &["held before the hand-over"]),
        ("root=live:http://192.0.2.1/os.squashfs rd.break=mount", &["held before the hand-over"]),
        ("root=live:http://192.0.2.1/os.squashfs rd.break=pre-mount", &["held before anything is fetched"]),
        ("root=live:http://192.0.2.1/os.squashfs rd.break=cmdline", &["held before anything is fetched"]),
        ("root=live:http://192.0.2.1/os.squashfs rd.break=pre-udev", &["held before anything is fetched"]),
        ("root=live:http://192.0.2.1/os.squashfs rd.break=pre-trigger", &["held before anything is fetched"]),
        ("root=live:http://192.0.2.1/os.squashfs rd.break=initqueue", &["held before anything is fetched"]),
        ("root=UUID=ab-12", &["the OS on a disk", "root: UUID=ab-12"]),
        ("root=LABEL=os rootflags=subvol=@", &["root: LABEL=os"]),
        ("root=PARTUUID=12-02", &["root: PARTUUID=12-02"]),
        ("root=PARTLABEL=root", &["root: PARTLABEL=root"]),
        (
            "root=/dev/mmcblk0p2 init=/lib/systemd/systemd",
            &["root: /dev/mmcblk0p2", "then: exec /lib/systemd/systemd"],
        ),
        (
            "rd.luks.uuid=luks-AB12-cd rd.luks.uuid=ef",
            &["the LUKS device ab12cd", "the LUKS device ef", "the only Linux that is found"],
        ),
        ("root=live:http://192.0.2.1/os.squashfs lifeboat.rescue", &["goal: rescue (SSH"]),
    ]);
    refused(&[
        ("root=live:nfs://a/os.squashfs", "root=live:nfs://a/os.squashfs", "not supported"),
        ("root=live:http://a/os.img", "root=live:http://a/os.img", "NAME.squashfs"),
        ("root=live:", "root=live:", "not a URL"),
        ("root=live:/dev/sda1", "root=live:/dev/sda1", "not a URL"),
        ("root=LABEL=", "root=LABEL=", "root= is"),
        ("root=sda1", "root=sda1", "root= is"),
        ("root=nfs:192.0.2.1:/os", "root=nfs:192.0.2.1:/os", "root= is"),
        ("root=dhcp", "root=dhcp", "root= is"),
        ("netroot=iscsi:192.0.2.1::::iqn", "netroot=iscsi:192.0.2.1::::iqn", "not supported yet"),
        ("root=UUID=1 init=sh", "init=sh", "absolute"),
        ("root=UUID=1 rd.luks.uuid=x-y", "rd.luks.uuid=x-y", "hexadecimal"),
        ("root=UUID=1 rd.luks.uuid", "rd.luks.uuid", "hexadecimal"),
        ("root=UUID=1 rd.break=lunch", "rd.break=lunch", "dracut's places"),
    ]);
}
