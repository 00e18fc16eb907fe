//! netconsole as a module: it wants its interface with an address, so that it is loaded once that is there. Its parameter is
//! the word of the command line ([`crate::pid1::modprobe`]).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::wait_for_network;
use crate::kernel_log::NetconsoleTarget;
use crate::pid1::modprobe::Modules;
use crate::pid1::usr;
use crate::status::NetworkStatus;

/// What the kernel refuses now it may take when the network has changed.
const TRY_AGAIN: Duration = Duration::from_secs(30);
const MODULE: &str = "netconsole";

/// Loads it, however long that takes. Where the image has no such module it says so.
pub(super) fn start(targets: &[NetconsoleTarget]) {
    let mut told = String::new();
    let mut devices: Vec<&str> = targets.iter().map(|target| target.device.as_str()).collect();
    devices.dedup();
    let devices = devices.join(", ");
    loop {
        wait_for_network(|network| targets.iter().all(|target| is_ready(target, network)));
        match modules().and_then(|mut modules| modules.load(MODULE)) {
            Ok(_) => return tracing::info!("netconsole: the kernel's log goes out by {devices}"),
            Err(error) => {
                let error = format!("{error:#}");
                if error != told {
                    let instead = "add the module to [kernel] modules, or use lifeboat.syslog=";
                    tracing::error!("netconsole= on {devices}: {error}; {instead}");
                }
                told = error;
            }
        }
        std::thread::sleep(TRY_AGAIN);
    }
}

fn modules() -> Result<Modules> {
    anyhow::ensure!(usr::is_there(), "/usr with the modules is not mounted yet");
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Modules::read(&Path::new("/lib/modules").join(release)).context("looking for netconsole")
}

/// Whether its interface has an address that reaches the target.
fn is_ready(target: &NetconsoleTarget, network: &NetworkStatus) -> bool {
    let mut interfaces = network.interfaces.iter().filter(|one| one.carrier);
    interfaces.any(|one| {
        (one.name == target.device || one.mac == target.device)
            && one.addresses.iter().any(|address| address.contains(':') == target.address.is_ipv6())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::InterfaceStatus;

    #[test]
    fn it_waits_for_an_address_of_its_family() {
        let target =
            |address: &str| NetconsoleTarget { device: "eth0".into(), address: address.parse().unwrap() };
        let network = |name: &str, carrier, addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
            let one = InterfaceStatus { name: name.into(), carrier, addresses, ..InterfaceStatus::default() };
            NetworkStatus { interfaces: vec![one], ..NetworkStatus::default() }
        };
        let both = ["192.0.2.7/24", "fe80::7/64"];
        for (address, network, ready) in [
            ("192.0.2.1", network("eth0", true, &both), true),
            ("2001:db8::1", network("eth0", true, &both), true),
            ("192.0.2.1", network("eth0", true, &both[1..]), false),
            ("192.0.2.1", network("eth0", false, &both), false),
            ("192.0.2.1", network("eth1", true, &both), false),
        ] {
            assert_eq!(is_ready(&target(address), &network), ready, "{address} {network:?}");
        }
    }
}
