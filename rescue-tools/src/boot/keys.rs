//! Passphrases on their way to the disk's own initramfs, so that nobody types one twice: an archive that the kernel unpacks
//! over it (Documentation/driver-api/early-userspace/buffer-format.rst), in memory alone. Two kinds of initramfs find
//! them there: Debian's cryptsetup-initramfs by a line of `/cryptroot/crypttab` that names a key file (its
//! README.initramfs), and those with systemd in `/etc/cryptsetup-keys.d/NAME.key` (systemd-cryptsetup@.service(8)).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use zeroize::Zeroizing;

use super::crypttab;
use crate::disk::inventory::{Device, Inventory};
use crate::unlock::open::{is_luks, is_name};
use crate::unlock::passphrase::Passphrase;

/// A LUKS device that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The UUID in its header.
    pub uuid: String,
    /// The encrypted device.
    pub device: PathBuf,
    /// Whether the root stands on it.
    pub below_root: bool,
}

/// How the OS opens a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it calls it when it is open.
    pub name: String,
    /// The UUID in its header.
    pub uuid: String,
    /// Its options in the OS' crypttab.
    pub options: String,
}

/// The LUKS devices that are open, with their header on them.
pub fn locks(inventory: &Inventory, root: &Device) -> Vec<Lock> {
    // A btrfs on several devices has its UUID on each.
    let uuid = root.content.as_ref().and_then(|content| content.uuid.as_ref());
    let is_root = |one: &&Device| {
        let same = one.content.as_ref().and_then(|content| content.uuid.as_ref()) == uuid && uuid.is_some();
        one.number == root.number || same
    };
    let open =
        inventory.all().into_iter().filter(|device| is_luks(device) && device.holders().next().is_some());
    open.filter_map(|device| {
        let uuid = device.content.as_ref()?.uuid.clone()?;
        let below_root = device.subtree().iter().any(is_root);
        Some(Lock { uuid, device: device.path.clone(), below_root })
    })
    .collect()
}

/// The lines for these devices: as in the OS' crypttab at `folder`, and one of our own for what the root stands on and that
/// does not have. What the OS does not open by itself is left out.
pub fn lines(inventory: &Inventory, locks: &[Lock], folder: &Path) -> Vec<Line> {
    let entries = crypttab::read(folder);
    let of = |lock: &Lock| {
        let named = |source: &str| inventory.named(source).is_ok_and(|device| device.path == lock.device);
        entries.iter().find(|entry| named(&entry.source))
    };
    let line = |lock: &Lock| {
        let entry = of(lock).filter(|entry| is_name(&entry.name));
        let by_itself = entry.is_some_and(|entry| !entry.options.split(',').any(|option| option == "noauto"));
        let name = entry.map_or_else(|| format!("luks-{}", lock.uuid), |entry| entry.name.clone());
        let options = options(entry.map_or("", |entry| &entry.options));
        (lock.below_root || by_itself).then(|| Line { name, uuid: lock.uuid.clone(), options })
    };
    locks.iter().filter_map(line).collect()
}

/// Without what asks for the passphrase another way, or takes only a part of our key file.
fn options(written: &str) -> String {
    const LEFT_OUT: [&str; 8] =
        ["luks", "keyscript", "none", "tries", "timeout", "keyfile-offset", "keyfile-size", "key-slot"];
    let kept = written.split(',').filter(|option| {
        let name = option.split('=').next().unwrap_or_default();
        !name.is_empty() && !LEFT_OUT.contains(&name) && name != "keyslot"
    });
    std::iter::once("luks").chain(kept).collect::<Vec<_>>().join(",")
}

/// The archive: all lines, those without a passphrase as ones that ask. Its bytes leave our memory when it is dropped.
///
/// # Errors
/// When a name or a key does not fit into an archive.
pub fn archive(keys: &[(Line, Option<Passphrase>)]) -> Result<Zeroizing<Vec<u8>>> {
    // Of the final size from the start: growing would leave copies behind.
    let bytes = |key: &Option<Passphrase>| key.as_ref().map_or(0, |key| key.bytes().len());
    let size: usize = keys.iter().map(|(_, key)| 3 * bytes(key) + 4096).sum();
    let mut archive = Archive { bytes: Zeroizing::new(Vec::with_capacity(size + (64 << 10))), entries: 0 };
    for folder in ["cryptroot", "cryptroot/keyfiles", "etc", "etc/cryptsetup-keys.d"] {
        archive.add(folder, if folder == "etc" { 0o040_755 } else { 0o040_700 }, &[])?;
    }
    let mut table = String::new();
    for (lock, key) in keys {
        let Some(key) = key else {
            table += &format!("{} UUID={} none {}\n", lock.name, lock.uuid, lock.options);
            continue;
        };
        let file = format!("cryptroot/keyfiles/{}.key", lock.name);
        archive.add(&file, 0o100_400, key.bytes())?;
        for name in [lock.name.clone(), format!("luks-{}", lock.uuid)] {
            archive.add(&format!("etc/cryptsetup-keys.d/{name}.key"), 0o100_400, key.bytes())?;
        }
        table += &format!("{} UUID={} /{file} {}\n", lock.name, lock.uuid, lock.options);
    }
    archive.add("cryptroot/crypttab", 0o100_600, table.as_bytes())?;
    cpio::newc::trailer(&mut *archive.bytes).context("ending the archive with the keys")?;
    Ok(archive.bytes)
}

struct Archive {
    bytes: Zeroizing<Vec<u8>>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, path: &str, mode: u32, data: &[u8]) -> Result<()> {
        let context = || format!("putting {path} into the archive with the keys");
        let size = u32::try_from(data.len()).with_context(context)?;
        self.entries += 1;
        let header = cpio::newc::Builder::new(path).ino(self.entries).nlink(1).mode(mode);
        let mut writer = header.write(&mut *self.bytes, size);
        std::io::Write::write_all(&mut writer, data).with_context(context)?;
        writer.finish().with_context(context)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::lsblk;

    fn line(name: &str) -> Line {
        Line { name: name.into(), uuid: "ab-12".into(), options: "luks,discard".into() }
    }

    #[test]
    fn both_kinds_of_initramfs_find_the_key() {
        let key = Passphrase::from(Zeroizing::new(b"secret".to_vec()));
        let bytes = archive(&[(line("vda1_crypt"), Some(key)), (line("home"), None)]).unwrap();
        let (mut rest, mut files) = (&bytes[..], Vec::new());
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut data = String::new();
            std::io::Read::read_to_string(&mut reader, &mut data).unwrap();
            files.push((name, mode & 0o777, data));
            rest = reader.finish().unwrap();
        }
        for path in [
            "cryptroot/keyfiles/vda1_crypt.key",
            "etc/cryptsetup-keys.d/vda1_crypt.key",
            "etc/cryptsetup-keys.d/luks-ab-12.key",
        ] {
            assert!(files.contains(&(path.into(), 0o400, "secret".into())), "{path}: {files:?}");
        }
        let table = "vda1_crypt UUID=ab-12 /cryptroot/keyfiles/vda1_crypt.key luks,discard\n\
            home UUID=ab-12 none luks,discard\n";
        assert!(files.contains(&("cryptroot/crypttab".into(), 0o600, table.into())), "{files:?}");
    }

    #[test]
    fn a_lock_below_the_root_is_found_by_the_name_in_crypttab() {
        let devices = lsblk::parse(include_bytes!("../disk/fixtures/lsblk-stacked.json")).unwrap();
        let mut inventory = Inventory { devices };
        let home = inventory
            .all()
            .into_iter()
            .find(|device| device.path == Path::new("/dev/mapper/home"))
            .unwrap()
            .clone();
        let disk = tempfile::tempdir().unwrap();
        for device in &mut inventory.devices {
            if device.path == Path::new("/dev/vdb") {
                let content = crate::disk::inventory::Content {
                    kind: "crypto_LUKS".into(),
                    version: None,
                    label: None,
                    uuid: Some("ab-12".into()),
                };
                device.content = Some(content);
            }
        }
        let all = locks(&inventory, &home);
        assert!(all.len() == 1 && all[0].below_root, "{all:?}");
        assert_eq!(lines(&inventory, &all, disk.path())[0].name, "luks-ab-12");
        std::fs::create_dir(disk.path().join("etc")).unwrap();
        let crypttab = |text: &str| std::fs::write(disk.path().join("etc/crypttab"), text).unwrap();
        crypttab("home_crypt UUID=ab-12 none luks,keyscript=/x,discard,keyfile-size=3\n");
        let found = lines(&inventory, &all, disk.path());
        assert_eq!((found[0].name.as_str(), found[0].options.as_str()), ("home_crypt", "luks,discard"));
        // One that is not of the root is opened if the OS opens it by itself; a name that is a path is none.
        let other = [Lock { below_root: false, ..all[0].clone() }];
        assert_eq!(lines(&inventory, &other, disk.path()).len(), 1);
        for text in ["home_crypt UUID=ab-12 none noauto\n", "../x UUID=ab-12 none luks\n", ""] {
            crypttab(text);
            assert_eq!(lines(&inventory, &other, disk.path()), [], "{text}");
        }
    }
}
