//! The name that udev would have for an interface (systemd.net-naming-scheme(7)), whatever it is called here: from the
//! device tree's aliases, else from its place on PCI and USB, else from its MAC address. Of those that a Pi can have.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The persistent name of the interface `device`, below `root` (`/`, or a mocked tree in tests). `None` for those that are
/// made by software, and for those whose MAC address is not their own.
pub fn persistent_name(root: &Path, device: &str) -> Option<String> {
    let interface = root.join("sys/class/net").join(device);
    let text =
        |name: &str| std::fs::read_to_string(interface.join(name)).ok().map(|text| text.trim().to_owned());
    // A VLAN has no name of its own, a bond is no device.
    if text("type")? != "1" || text("iflink") != text("ifindex") {
        return None;
    }
    let from_hardware = interface.join("device").canonicalize().ok().and_then(|device| {
        onboard(root, &device).or_else(|| path(&device, text("dev_port").as_deref().unwrap_or("0")))
    });
    from_hardware.or_else(|| {
        // NET_ADDR_PERM (include/uapi/linux/netdevice.h).
        let own = text("addr_assign_type")? == "0";
        let mac: String = text("address")?.split(':').collect();
        own.then(|| format!("enx{mac}"))
    })
}

/// `ID_NET_NAME_ONBOARD`: `ethernet0` in the device tree's aliases is `end0`.
fn onboard(root: &Path, device: &Path) -> Option<String> {
    let tree = root.join("proc/device-tree").canonicalize().ok()?;
    let node = device.join("of_node").canonicalize().ok()?;
    let node = format!("/{}", node.strip_prefix(&tree).ok()?.to_str()?);
    let aliases = std::fs::read_dir(tree.join("aliases")).ok()?;
    aliases.flatten().find_map(|alias| {
        let name = alias.file_name().into_string().ok()?;
        let number = match name.strip_prefix("ethernet")? {
            "" => 0,
            number => number.parse::<u32>().ok()?,
        };
        let target = std::fs::read(alias.path()).ok()?;
        (target.strip_suffix(&[0]) == Some(node.as_bytes())).then(|| format!("end{number}"))
    })
}

/// `ID_NET_NAME_PATH`: the nearest PCI device that it is, or is behind of, and the way over USB. USB alone has no such name
/// in the systemd of Debian 12.
fn path(device: &Path, port: &str) -> Option<String> {
    let bus = |device: &Path| -> Option<String> {
        let target = std::fs::read_link(device.join("subsystem")).ok()?;
        target.file_name()?.to_str().map(str::to_owned)
    };
    let mut device: PathBuf = device.into();
    // A virtio device is the PCI device that it is on.
    if bus(&device).as_deref() == Some("virtio") {
        device = device.parent()?.into();
    }
    let behind = match bus(&device).as_deref() {
        Some("pci") => String::new(),
        Some("usb") => usb(device.file_name()?.to_str()?)?,
        _ => return None,
    };
    let nearest = device.ancestors().find(|ancestor| bus(ancestor).as_deref() == Some("pci"))?;
    let mut name = format!("en{}", pci(nearest)?);
    if behind.is_empty() && port != "0" {
        // Writing to a String cannot fail.
        let _ = write!(name, "d{port}");
    }
    Some(name + &behind)
}

/// `0001:02:03.4` is `P1p2s3f4`.
fn pci(device: &Path) -> Option<String> {
    let (domain, rest) = device.file_name()?.to_str()?.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (slot, function) = rest.split_once('.')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let mut name = match number(domain)? {
        0 => String::new(),
        domain => format!("P{domain}"),
    };
    let _ = write!(name, "p{}s{}", number(bus)?, number(slot)?);
    // The header's type has this bit where a device has several functions (PCI, configuration space).
    let header = std::fs::read(device.join("config")).ok();
    let several = header.and_then(|header| header.get(14).copied()).is_some_and(|kind| kind & 0x80 != 0);
    match number(function)? {
        0 if !several => {}
        function => _ = write!(name, "f{function}"),
    }
    Some(name)
}

/// `1-1.2:1.0`, an interface of a USB device, is `u1u2`; another configuration than 1 and another interface than 0 are named.
fn usb(device: &str) -> Option<String> {
    let (ports, rest) = device.split_once('-')?.1.split_once(':')?;
    let (configuration, interface) = rest.split_once('.')?;
    let mut name = format!("u{}", ports.replace('.', "u"));
    if configuration != "1" {
        let _ = write!(name, "c{configuration}");
    }
    if interface != "0" {
        let _ = write!(name, "i{interface}");
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A `/sys` with one interface, `eth0`, whose device is at `place`; each of `buses` is a folder on the way and its bus.
    fn mocked(place: &str, buses: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let sys = root.path().join("sys");
        let interface = sys.join("class/net/eth0");
        std::fs::create_dir_all(&interface).unwrap();
        let files =
            [("type", "1"), ("ifindex", "2"), ("iflink", "2"), ("addr_assign_type", "0"), ("dev_port", "0")];
        for (name, value) in files.into_iter().chain([("address", "dc:a6:32:01:02:03")]) {
            std::fs::write(interface.join(name), format!("{value}\n")).unwrap();
        }
        let device = sys.join("devices").join(place);
        std::fs::create_dir_all(&device).unwrap();
        for (folder, bus) in buses {
            symlink(format!("/sys/bus/{bus}"), sys.join("devices").join(folder).join("subsystem")).unwrap();
        }
        symlink(&device, interface.join("device")).unwrap();
        root
    }

    fn name(root: &tempfile::TempDir) -> Option<String> {
        persistent_name(root.path(), "eth0")
    }

    #[test]
    fn a_pis_own_interface_is_named_by_its_alias() {
        let root = mocked("platform/fd580000.ethernet", &[("platform/fd580000.ethernet", "platform")]);
        assert_eq!(name(&root).as_deref(), Some("enxdca632010203"), "a device tree without aliases");
        let tree = root.path().join("sys/firmware/devicetree/base");
        let node = tree.join("scb/ethernet@7d580000");
        std::fs::create_dir_all(&node).unwrap();
        std::fs::create_dir_all(tree.join("aliases")).unwrap();
        std::fs::create_dir_all(root.path().join("proc")).unwrap();
        symlink(&tree, root.path().join("proc/device-tree")).unwrap();
        symlink(&node, root.path().join("sys/devices/platform/fd580000.ethernet/of_node")).unwrap();
        let alias =
            |name: &str, target: &str| std::fs::write(tree.join("aliases").join(name), target).unwrap();
        alias("ethernet1", "/scb/other\0");
        assert_eq!(name(&root).as_deref(), Some("enxdca632010203"));
        alias("ethernet0", "/scb/ethernet@7d580000\0");
        assert_eq!(name(&root).as_deref(), Some("end0"));
    }

    #[test]
    fn others_are_named_by_their_place() {
        let virtio = "pci0000:00/0000:00:01.0/virtio0";
        let dongle = "platform/pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb1/1-1/1-1.2/1-1.2:1.0";
        let card = "pci0001:00/0001:00:00.0/0001:02:00.1";
        for (place, buses, expected) in [
            (virtio, vec![(virtio, "virtio"), ("pci0000:00/0000:00:01.0", "pci")], "enp0s1"),
            (
                dongle,
                vec![(dongle, "usb"), ("platform/pcie/pci0000:00/0000:00:00.0/0000:01:00.0", "pci")],
                "enp1s0u1u2",
            ),
            (card, vec![(card, "pci")], "enP1p2s0f1"),
            ("platform/usb/1-1:1.0", vec![("platform/usb/1-1:1.0", "usb")], "enxdca632010203"),
        ] {
            assert_eq!(name(&mocked(place, &buses)).as_deref(), Some(expected), "{place}");
        }
        assert_eq!(usb("1-1.4:2.3").as_deref(), Some("u1u4c2i3"));
        assert_eq!(usb("usb1"), None);
    }

    #[test]
    fn what_software_made_has_no_name() {
        let root = mocked("virtual/x", &[]);
        let file = |name: &str, value: &str| {
            std::fs::write(root.path().join("sys/class/net/eth0").join(name), value).unwrap();
        };
        file("addr_assign_type", "3\n");
        assert_eq!(name(&root), None, "another MAC address than its own");
        file("addr_assign_type", "0\n");
        assert!(name(&root).is_some());
        file("iflink", "7\n");
        assert_eq!(name(&root), None, "a VLAN");
        assert_eq!(persistent_name(root.path(), "eth9"), None);
    }
}
