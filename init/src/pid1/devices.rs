//! The child `devices`: loads the drivers that the devices ask for, those that are there at the start (coldplug) and
//! those that come later (hotplug, by the kernel's uevents). It loads modules and does nothing else: no device is read.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use std::os::fd::{AsRawFd, OwnedFd};

use super::file;
use super::modprobe::Modules;

/// There once every device of the start has its driver.
pub const COLDPLUG_DONE_PATH: &str = "/run/lifeboat/coldplug.json";

/// Needed whatever the devices are: the way to an image in RAM.
const ALWAYS: [&str; 4] = ["loop", "squashfs", "overlay", "virtio_console"];

/// Runs for ever.
///
/// # Errors
/// When there are no modules for this kernel, or no uevents.
pub fn run() -> Result<()> {
    // Listening comes first, so that no device falls between coldplug and hotplug.
    let events = uevents().context("listening for uevents")?;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut modules = Modules::read(&Path::new("/lib/modules").join(&release))?;
    let count = coldplug(&mut modules);
    for name in ALWAYS {
        if let Err(error) = modules.load(name) {
            tracing::warn!("{error:#}");
        }
    }
    tracing::info!("{count} modules loaded for the devices of kernel {release}");
    file::replace_json(Path::new(COLDPLUG_DONE_PATH), &count)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match rustix::io::read(&events, &mut buffer) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => continue,
            // The kernel dropped events: look at everything once more.
            Err(rustix::io::Errno::NOBUFS) => {
                coldplug(&mut modules);
                continue;
            }
            Err(error) => return Err(error).context("reading uevents"),
        };
        if let Some(alias) = buffer.get(..count).and_then(added_modalias) {
            modules.load_alias(&alias);
        }
    }
}

/// Loads for every `modalias` below `/sys/devices`, again and again until no new one appears: a bus's driver brings the
/// devices behind it. The number of modules loaded.
fn coldplug(modules: &mut Modules) -> usize {
    let mut seen = HashSet::new();
    let mut count = 0;
    loop {
        let mut found = Vec::new();
        collect_modaliases(Path::new("/sys/devices"), &mut found);
        let fresh: Vec<String> = found.into_iter().filter(|alias| seen.insert(alias.clone())).collect();
        if fresh.is_empty() {
            return count;
        }
        count += fresh.iter().map(|alias| modules.load_alias(alias)).sum::<usize>();
    }
}

fn collect_modaliases(folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => folders.push(entry.path()),
            Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                found.extend((!text.trim().is_empty()).then(|| text.trim().to_owned()));
            }
            _ => {}
        }
    }
    for folder in folders {
        collect_modaliases(&folder, found);
    }
}

fn uevents() -> Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    // Group 1: the kernel's own events.
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1))?;
    Ok(socket)
}

/// The `MODALIAS` of an event that says `ACTION=add` (`lib/kobject_uevent.c`: NUL-separated words).
fn added_modalias(event: &[u8]) -> Option<String> {
    let mut words = event.split(|byte| *byte == 0);
    let added = words.clone().any(|word| word == b"ACTION=add");
    let alias = words.find_map(|word| word.strip_prefix(b"MODALIAS="))?;
    added.then(|| String::from_utf8_lossy(alias).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_added_devices_count() {
        let event = b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0MODALIAS=usb:v1\0SEQNUM=1\0";
        assert_eq!(added_modalias(event).as_deref(), Some("usb:v1"));
        assert_eq!(added_modalias(b"remove@/x\0ACTION=remove\0MODALIAS=usb:v1\0"), None);
        assert_eq!(added_modalias(b"ACTION=add\0"), None);
        assert_eq!(added_modalias(b""), None);
    }
}
