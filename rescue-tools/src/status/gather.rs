//! Collects the status. Each source may be missing; what is there is shown.

use std::path::{Path, PathBuf};

use init::status::{BootStatus, InterfaceStatus, LastCrash, Machine, NetworkStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disks::{Disk, disks};
use crate::run_dir::RunDir;

/// The version of `rescue status --json`.
pub const STATUS_FORMAT: u32 = 1;
/// No longer file is read.
const LIMIT: u64 = 1 << 20;

/// Where the status comes from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// `/run/lifeboat`.
    pub run: RunDir,
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Sources { run: RunDir::default(), sys: "/sys".into(), proc: "/proc".into() }
    }
}

/// The object of `rescue status --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The version of this format: [`STATUS_FORMAT`].
    pub format: u32,
    /// What the machine is.
    pub machine: Machine,
    /// What the network gave.
    pub network: NetworkStatus,
    /// The disks.
    pub disks: Vec<Disk>,
    /// Where the boot stands.
    pub boot: Option<BootStatus>,
    /// The SSH host key's fingerprint.
    pub host_key: Option<String>,
    /// How an earlier boot crashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_crash: Option<LastCrash>,
}

/// Collects all of it.
pub fn gather(sources: &Sources) -> Status {
    Status {
        format: STATUS_FORMAT,
        machine: json(&sources.run.machine()).unwrap_or_else(|| machine(sources)),
        network: json(&sources.run.network_status()).unwrap_or_else(|| network(sources)),
        disks: disks(&sources.sys),
        boot: boot_status(&sources.run),
        host_key: text(&sources.run.host_key_fingerprint()),
        last_crash: json(&sources.run.last_crash()),
    }
}

/// Where the boot stands, if it has said so.
pub fn boot_status(run: &RunDir) -> Option<BootStatus> {
    json(&run.boot_status())
}

/// The machine without the boot's help.
fn machine(sources: &Sources) -> Machine {
    let tree = |name: &str| text(&sources.proc.join("device-tree").join(name));
    let kilobytes = text(&sources.proc.join("meminfo")).and_then(|text| {
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        total.split_whitespace().next()?.parse::<u64>().ok()
    });
    Machine {
        model: tree("model").unwrap_or_else(|| "unknown".into()),
        serial: tree("serial-number").unwrap_or_else(|| "unknown".into()),
        memory: kilobytes.unwrap_or(0).saturating_mul(1024),
        kernel: text(&sources.proc.join("sys/kernel/osrelease")).unwrap_or_default(),
        image: String::new(),
        bootloader: tree("chosen/bootloader/version"),
    }
}

/// The network without its child's help: the interfaces and their IPv6 addresses.
fn network(sources: &Sources) -> NetworkStatus {
    let addresses = text(&sources.proc.join("net/if_inet6")).unwrap_or_default();
    let entries = std::fs::read_dir(sources.sys.join("class/net")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name != "lo");
    names.sort();
    let interfaces = names.into_iter().map(|name| {
        let folder = sources.sys.join("class/net").join(&name);
        InterfaceStatus {
            mac: text(&folder.join("address")).unwrap_or_default(),
            carrier: text(&folder.join("carrier")).as_deref() == Some("1"),
            addresses: addresses.lines().filter_map(|line| ipv6_address(line, &name)).collect(),
            state: text(&folder.join("operstate")).unwrap_or_default(),
            name,
            ..InterfaceStatus::default()
        }
    });
    NetworkStatus { interfaces: interfaces.collect(), ..NetworkStatus::default() }
}

/// A line of `/proc/net/if_inet6`: address, index, prefix, scope, flags, name; numbers in hexadecimal.
fn ipv6_address(line: &str, interface: &str) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [address, _, prefix, _, _, name] = fields.as_slice() else { return None };
    let address = std::net::Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
    let prefix = u8::from_str_radix(prefix, 16).ok()?;
    (*name == interface).then(|| format!("{address}/{prefix}"))
}

fn json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&text(path)?).ok()
}

/// A file's text without blanks and NULs at its end (the device tree's strings have one). None: empty or not there.
fn text(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(LIMIT).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end_matches(|character: char| character == '\0' || character.is_whitespace());
    Some(text.to_string()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn sources(root: &Path) -> Sources {
        Sources { run: RunDir::new(root.join("run")), sys: root.join("sys"), proc: root.join("proc") }
    }

    #[test]
    fn an_empty_machine_has_a_status() {
        let root = tempfile::tempdir().unwrap();
        let status = gather(&sources(root.path()));
        assert_eq!(status.machine.model, "unknown");
        assert!(status.boot.is_none() && status.disks.is_empty() && status.host_key.is_none());
    }

    #[test]
    fn the_kernel_is_asked_where_the_boot_is_silent() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
        write(root.path(), "proc/meminfo", "MemTotal:        3884000 kB\nMemFree: 1 kB\n");
        write(root.path(), "sys/class/net/eth0/address", "dc:a6:32:01:02:03\n");
        write(root.path(), "sys/class/net/eth0/carrier", "1\n");
        let line = "fe800000000000000000000000000001 02 40 20 80     eth0\nbroken\n";
        write(root.path(), "proc/net/if_inet6", line);
        write(root.path(), "run/boot.json", "{ half a file");
        let status = gather(&sources(root.path()));
        assert_eq!(status.machine.model, "Raspberry Pi 4 Model B Rev 1.4");
        assert_eq!(status.machine.memory, 3_884_000 * 1024);
        assert_eq!(status.network.interfaces[0].addresses, ["fe80::1/64"]);
        assert!(status.network.interfaces[0].carrier && status.boot.is_none());
    }
}
