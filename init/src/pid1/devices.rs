//! The child `devices`: loads the drivers that the devices ask for, those that are there at the start (coldplug) and
//! those that come later (hotplug, by the kernel's uevents). It loads modules and does nothing else: no device is read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::os::fd::{AsRawFd, OwnedFd};

use super::modprobe::Modules;
use super::{file, usr};

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
    // PID 1 starts this again.
    ensure!(usr::is_there(), "/usr with the drivers is not mounted yet");
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let folder = Path::new("/lib/modules").join(&release);
    let mut modules = Modules::read(&folder)?;
    let count = std::thread::scope(|scope| {
        // Nobody waits for these before there is an image to mount: they come while the devices are looked at.
        scope.spawn(|| load_always(&folder));
        let count = coldplug(Path::new("/sys"), &mut modules);
        count + hotplug(&events, RecvFlags::DONTWAIT, &mut modules).unwrap_or_default()
    });
    tracing::info!("{count} modules loaded for the devices of kernel {release}");
    file::replace_json(Path::new(COLDPLUG_DONE_PATH), &count)?;
    loop {
        hotplug(&events, RecvFlags::empty(), &mut modules)?;
    }
}

fn load_always(folder: &Path) {
    // The same module by both ways at once is the kernel's to sort out: the second finds it there.
    let Ok(mut modules) = Modules::read(folder) else { return };
    // A place for a crash's last words that the command line names has no device to ask for its driver.
    let crashes = modules.has_parameters("ramoops").then_some("ramoops");
    for name in ALWAYS.into_iter().chain(crashes) {
        if let Err(error) = modules.load(name) {
            tracing::warn!("{error:#}");
        }
    }
}

/// Loads for the devices that appear; a bus's driver brings those behind it. With `DONTWAIT` it ends when the kernel has
/// no more to tell. The number of modules loaded.
fn hotplug(events: &OwnedFd, flags: RecvFlags, modules: &mut Modules) -> Result<usize> {
    let mut buffer = vec![0; 64 * 1024];
    let mut count = 0;
    loop {
        match recv(events, &mut buffer[..], flags) {
            Ok((_, length)) => {
                if let Some(alias) = buffer.get(..length).and_then(added_modalias) {
                    count += modules.load_alias(&alias);
                }
            }
            Err(Errno::AGAIN) => return Ok(count),
            Err(Errno::INTR) => {}
            // The kernel dropped events: look at everything once more.
            Err(Errno::NOBUFS) => count += coldplug(Path::new("/sys"), modules),
            Err(error) => return Err(error).context("reading uevents"),
        }
    }
}

/// Loads for every device that is there; what appears meanwhile is told by uevents. The number of modules loaded.
fn coldplug(sys: &Path, modules: &mut Modules) -> usize {
    let aliases: BTreeSet<String> = modaliases(sys).collect();
    aliases.iter().map(|alias| modules.load_alias(alias)).sum()
}

/// The `modalias` of every device on a bus, and the processor's. `/sys/bus` names each of them once, without the thousands
/// of folders of `/sys/devices` between them.
fn modaliases(sys: &Path) -> impl Iterator<Item = String> {
    let list = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let devices = list(sys.join("bus")).flat_map(move |bus| list(bus.path().join("devices")));
    let files = devices.map(|device| device.path().join("modalias"));
    let files = files.chain([sys.join("devices/system/cpu/modalias")]);
    let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    texts.map(|text| text.trim().to_owned()).filter(|alias| !alias.is_empty())
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
    fn each_device_on_a_bus_has_its_alias_read() {
        let sys = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = sys.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("devices/pci0/0000:00:01.0/modalias", "pci:v1\n");
        put("devices/system/cpu/modalias", "cpu:type:aarch64");
        put("devices/platform/empty/modalias", "\n");
        std::fs::create_dir_all(sys.path().join("bus/platform/devices")).unwrap();
        std::fs::create_dir_all(sys.path().join("bus/pci/devices")).unwrap();
        for (bus, device) in [("pci", "pci0/0000:00:01.0"), ("platform", "platform/empty"), ("pci", "gone")] {
            let name = device.rsplit('/').next().unwrap();
            let link = sys.path().join("bus").join(bus).join("devices").join(name);
            std::os::unix::fs::symlink(Path::new("../../../devices").join(device), link).unwrap();
        }
        assert_eq!(modaliases(sys.path()).collect::<Vec<_>>(), ["pci:v1", "cpu:type:aarch64"]);
    }

    #[test]
    fn only_added_devices_count() {
        let event = b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0MODALIAS=usb:v1\0SEQNUM=1\0";
        assert_eq!(added_modalias(event).as_deref(), Some("usb:v1"));
        assert_eq!(added_modalias(b"remove@/x\0ACTION=remove\0MODALIAS=usb:v1\0"), None);
        assert_eq!(added_modalias(b"ACTION=add\0"), None);
        assert_eq!(added_modalias(b""), None);
    }
}
