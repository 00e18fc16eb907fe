//! `init --explain 'CMDLINE'`: what a boot with that line would do, on any host.

use std::fmt::Write;
use std::net::IpAddr;

use crate::cmdline::CommandLine;
use crate::identity::ClientId;
use crate::install::Install;
use crate::ip::Interface;
use crate::links;
use crate::network::{V4, V6};
use crate::plan::{Console, Goal, Hold, Plan, Trust};
use crate::steps;
use crate::watchdog::Policy;

/// The explanation, and whether every word was understood.
pub fn explain(command_line: &str) -> (String, bool) {
    let plan = Plan::parse(&CommandLine::parse(command_line));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_plan(&plan, &mut text);
    (text, plan.problems.is_empty())
}

fn write_plan(plan: &Plan, text: &mut String) -> std::fmt::Result {
    for problem in &plan.problems {
        writeln!(text, "not understood: {problem}")?;
    }
    write_goal(plan, text)?;
    write_network(plan, text)?;
    if !plan.neighbours.mdns {
        writeln!(text, "mDNS: nobody is told of NAME.local")?;
    }
    write_identity(plan, text)?;
    if let Some(receiver) = &plan.kernel_log.syslog {
        writeln!(text, "kernel log: by syslog to {receiver}")?;
    }
    for target in &plan.kernel_log.netconsole {
        writeln!(text, "kernel log: by netconsole on {} to {}", target.device, target.address)?;
    }
    if let Some(server) = &plan.server {
        writeln!(text, "events: to {server}")?;
    }
    for line in plan.transport.describe() {
        writeln!(text, "{line}")?;
    }
    match plan.reboot_after {
        Some(0) => writeln!(text, "a failed boot: is never started anew")?,
        Some(seconds) => {
            writeln!(text, "a failed boot: starts anew after {seconds} s with neither progress nor a login")?;
        }
        None => {}
    }
    if let Some(file) = &plan.state.file {
        let reboots = plan.state.reboots;
        writeln!(
            text,
            "kept across boots: in {file}; a boot that comes to nothing starts anew {reboots} times at most"
        )?;
    }
    if let Some(size) = plan.zram {
        writeln!(text, "swap: in compressed RAM, {size}")?;
    }
    match plan.watchdog {
        Policy::On => {}
        Policy::Off => writeln!(text, "watchdog: is not opened")?,
        Policy::Keep => writeln!(text, "watchdog: stays armed for the OS, whatever its configuration says")?,
    }
    match plan.console {
        Console::Key => {}
        Console::Open => writeln!(text, "console: a shell for whoever asks")?,
        Console::Off => writeln!(text, "console: no shell")?,
    }
    for (step, times) in &plan.fail {
        writeln!(text, "test: {step} fails {times} times")?;
    }
    let further: &[&str] = match plan.goal {
        Goal::Rescue => &[steps::RESCUE],
        Goal::RamBoot(_) => &steps::RAM_BOOT,
        Goal::DiskBoot(_) => &steps::DISK_BOOT,
    };
    let names: Vec<&str> = steps::COMMON.iter().chain(further).copied().collect();
    writeln!(text, "steps: {}", names.join(", "))
}

fn write_identity(plan: &Plan, text: &mut String) -> std::fmt::Result {
    let identity = &plan.identity;
    if identity.client_id == ClientId::Mac {
        writeln!(text, "DHCP: servers know this Pi by its MAC address")?;
    }
    if let Some(id) = identity.machine_id {
        writeln!(text, "machine ID: {id}")?;
    }
    if identity.flush {
        writeln!(text, "hand-over: addresses and routes are taken away")?;
    }
    Ok(())
}

fn write_goal(plan: &Plan, text: &mut String) -> std::fmt::Result {
    match &plan.goal {
        Goal::Rescue if !plan.problems.is_empty() => {
            writeln!(text, "goal: rescue, since the words above were not understood")?;
        }
        Goal::Rescue => writeln!(text, "goal: rescue (SSH, until somebody ends it)")?,
        Goal::RamBoot(boot) => {
            writeln!(text, "goal: an OS in RAM")?;
            writeln!(text, "  image: {}, checked {}", boot.url, boot.trust.describe())?;
            for mirror in &boot.mirrors {
                writeln!(text, "  or from: {mirror}")?;
            }
            for layer in &boot.layers {
                writeln!(text, "  over it: {}, checked {}", layer.url, Trust::Signed.describe())?;
                for mirror in &layer.mirrors {
                    writeln!(text, "    or from: {mirror}")?;
                }
            }
            match boot.overlay {
                Some(size) => writeln!(text, "  overlay: up to {size}")?,
                None => writeln!(text, "  overlay: all that image and floor leave")?,
            }
            writeln!(text, "  kept free for the OS: {}", boot.floor)?;
            let arguments = boot.init_arguments.iter().map(|word| format!(" {word}")).collect::<String>();
            writeln!(text, "  then: exec {}{arguments}", boot.init)?;
            match boot.hold {
                None => {}
                Some(Hold::BeforeRoot) => writeln!(text, "  but: is held before anything is fetched")?,
                Some(Hold::BeforeHandOver) => writeln!(text, "  but: is held before the hand-over")?,
            }
        }
        Goal::DiskBoot(boot) => {
            writeln!(text, "goal: the OS on a disk")?;
            if let Some(Install { url, to, boot }) = &boot.install {
                writeln!(
                    text,
                    "  first: {url}, checked by its signature, is written to {to} if that is empty"
                )?;
                if let Some(boot) = boot {
                    writeln!(text, "    or, in the boot {boot}, whatever is there")?;
                }
            }
            writeln!(text, "  root: {}", boot.root.as_deref().unwrap_or("the only Linux that is found"))?;
            for uuid in &boot.luks {
                writeln!(text, "  waits until somebody opens the LUKS device {uuid} (rescue unlock)")?;
            }
            if boot.kexec {
                writeln!(text, "  then: kexec of the disk's own kernel, with its own command line")?;
            } else {
                writeln!(text, "  then: exec {}", boot.init)?;
            }
            if boot.hold.is_some() {
                writeln!(text, "  but: is held on the way")?;
            }
        }
    }
    Ok(())
}

fn write_network(plan: &Plan, text: &mut String) -> std::fmt::Result {
    let network = &plan.network;
    if let Some(mac) = network.boot_interface {
        writeln!(text, "network: only the interface {mac}, and those that are named")?;
    }
    if network.interfaces.is_empty() {
        writeln!(text, "network: DHCP on every wired interface")?;
    }
    for interface in &network.interfaces {
        write_interface(interface, text)?;
    }
    for vlan in &network.vlans {
        writeln!(text, "network: {} is VLAN {} on {}", vlan.name, vlan.id, vlan.parent)?;
    }
    for bond in &network.bonds {
        let mode = links::mode_name(bond.options.mode);
        writeln!(text, "network: {} is a bond of {}, {mode}", bond.name, bond.members.join(" and "))?;
    }
    for bridge in &network.bridges {
        writeln!(text, "network: {} is a bridge of {}", bridge.name, bridge.members.join(" and "))?;
    }
    for (name, mac) in &network.names {
        writeln!(text, "network: the interface {mac} is called {name}")?;
    }
    for route in &network.routes {
        let device = route.device.as_ref().map_or(String::new(), |device| format!(" on {device}"));
        let gateway = route.gateway.map_or(String::new(), |gateway| format!(" by {gateway}"));
        writeln!(text, "route: {}/{}{gateway}{device}", route.network, route.prefix)?;
    }
    if network.own_dns_alone {
        writeln!(text, "name servers: only those of the command line")?;
    }
    for server in &plan.network.nameservers {
        writeln!(text, "name server: {server}")?;
    }
    if let Some(hostname) = &plan.hostname {
        writeln!(text, "host name: {hostname}")?;
    }
    Ok(())
}

fn write_interface(interface: &Interface, text: &mut String) -> std::fmt::Result {
    let device = interface.device.as_deref().unwrap_or("every wired interface");
    let by =
        |gateway: Option<IpAddr>| gateway.map_or("no gateway".into(), |gateway| format!("gateway {gateway}"));
    match &interface.v4 {
        Some(V4::Dhcp) => writeln!(text, "network: DHCP on {device}")?,
        Some(V4::Off) => writeln!(text, "network: no IPv4 address on {device}")?,
        Some(V4::Static { address, prefix, gateway }) => {
            writeln!(text, "network: {address}/{prefix} on {device}, {}", by(gateway.map(IpAddr::V4)))?;
        }
        None => {}
    }
    match &interface.v6 {
        Some(V6::Auto) => writeln!(text, "network: IPv6 as routers announce it on {device}")?,
        Some(V6::Dhcp) => writeln!(text, "network: DHCPv6 on {device}, without waiting for a router")?,
        Some(V6::Either) => {
            writeln!(text, "network: IPv6 as routers announce it on {device}, else DHCPv6")?;
        }
        Some(V6::LinkLocal) => writeln!(text, "network: only a link-local IPv6 address on {device}")?,
        Some(V6::Static { address, prefix, gateway }) => {
            writeln!(text, "network: {address}/{prefix} on {device}, {}", by(gateway.map(IpAddr::V6)))?;
        }
        None => {}
    }
    if let Some(mtu) = interface.mtu {
        writeln!(text, "network: packets of at most {mtu} bytes on {device}")?;
    }
    if let Some(mac) = interface.mac {
        writeln!(text, "network: the MAC address {mac} on {device}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explains_a_ram_boot() {
        let (text, understood) =
            explain("root=live:http://192.0.2.1/d.squashfs ip=192.0.2.7::192.0.2.1:24:cm4:eth0:off -- -s");
        assert!(understood);
        for part in
            ["an OS in RAM", "signed manifest", "192.0.2.7/24 on eth0", "exec /sbin/init -s", "hand-over"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn explains_layers_state_and_swap() {
        let (text, understood) = explain(
            "root=live:http://a/os.squashfs lifeboat.layer=http://a/x/site.squashfs lifeboat.layer=http://b/site.squashfs \
             lifeboat.state=LABEL=bootfs:/lifeboat.json lifeboat.reboots=5 lifeboat.zram=50%",
        );
        assert!(understood, "{text}");
        for part in [
            "over it: http://b/site.squashfs, checked by its signed manifest",
            "or from: http://a/x/site.squashfs",
            "in LABEL=bootfs:/lifeboat.json; a boot that comes to nothing starts anew 5 times",
            "in compressed RAM, 50% of RAM",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn explains_where_the_log_goes_and_that_nobody_is_told() {
        let (text, understood) =
            explain("lifeboat.mdns=off lifeboat.syslog=[2001:db8::1] netconsole=@/eth1,@192.0.2.1/");
        assert!(understood, "{text}");
        for part in ["mDNS: nobody", "by syslog to [2001:db8::1]:514", "by netconsole on eth1 to 192.0.2.1"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn says_what_it_does_not_understand() {
        let (text, understood) = explain("lifeboat.typo=1");
        assert!(!understood);
        assert!(text.starts_with("not understood: lifeboat.typo=1: no such parameter"), "{text}");
    }
}
