//! Passphrases on their way to the disk's own initramfs, so that nobody types one twice: an archive that the kernel unpacks
//! over it (Documentation/driver-api/early-userspace/buffer-format.rst), in memory alone. Two kinds of initramfs find
//! them there: Debian's cryptsetup-initramfs by a line of `/cryptroot/crypttab` that names a key file (its
//! README.initramfs), and those with systemd in `/etc/cryptsetup-keys.d/NAME.key` (systemd-cryptsetup@.service(8)).

use std::path::Path;

use anyhow::{Context, Result};
use zeroize::Zeroizing;

use super::crypttab;
use crate::disk::inventory::{Device, Inventory};
use crate::unlock::open::is_luks;
use crate::unlock::passphrase::Passphrase;

/// A LUKS device that a root stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The UUID in its header.
    pub uuid: String,
    /// The encrypted device, for people.
    pub device: std::path::PathBuf,
    /// What the OS calls it when it is open.
    pub name: String,
    /// Its options in the OS' crypttab.
    pub options: String,
}

/// The LUKS devices below `root`, as the OS at `folder` calls them.
pub fn locks(inventory: &Inventory, root: &Device, folder: &Path) -> Vec<Lock> {
    let below = |device: &&Device| device.subtree().iter().any(|above| above.number == root.number);
    let entries = crypttab::read(folder);
    let all = inventory.all().into_iter().filter(|device| is_luks(device)).filter(below);
    all.filter_map(|device| {
        let uuid = device.content.as_ref()?.uuid.clone()?;
        let entry = entries
            .iter()
            .find(|entry| inventory.named(&entry.source).is_ok_and(|named| named.number == device.number));
        let name = entry.map_or_else(|| format!("luks-{uuid}"), |entry| entry.name.clone());
        let options = options(entry.map_or("", |entry| &entry.options));
        Some(Lock { uuid, device: device.path.clone(), name, options })
    })
    .collect()
}

/// Without what would ask for the passphrase another way.
fn options(written: &str) -> String {
    let kept = written.split(',').filter(|option| {
        let name = option.split('=').next().unwrap_or_default();
        !name.is_empty() && !["luks", "keyscript", "none", "tries", "timeout"].contains(&name)
    });
    std::iter::once("luks").chain(kept).collect::<Vec<_>>().join(",")
}

/// The archive. Its bytes leave our memory when it is dropped.
///
/// # Errors
/// When a name or a key does not fit into an archive.
pub fn archive(keys: &[(Lock, Passphrase)]) -> Result<Zeroizing<Vec<u8>>> {
    // Of the final size from the start: growing would leave copies behind.
    let size: usize = keys.iter().map(|(_, key)| 3 * key.bytes().len() + 4096).sum();
    let mut archive = Archive { bytes: Zeroizing::new(Vec::with_capacity(size + (64 << 10))), entries: 0 };
    for folder in ["cryptroot", "cryptroot/keyfiles", "etc", "etc/cryptsetup-keys.d"] {
        archive.add(folder, if folder == "etc" { 0o040_755 } else { 0o040_700 }, &[])?;
    }
    let mut table = String::new();
    for (lock, key) in keys {
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

    fn lock() -> Lock {
        Lock {
            uuid: "ab-12".into(),
            device: "/dev/vda1".into(),
            name: "vda1_crypt".into(),
            options: "luks,discard".into(),
        }
    }

    #[test]
    fn both_kinds_of_initramfs_find_the_key() {
        let key = Passphrase::from(Zeroizing::new(b"secret".to_vec()));
        let bytes = archive(&[(lock(), key)]).unwrap();
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
        let table = "vda1_crypt UUID=ab-12 /cryptroot/keyfiles/vda1_crypt.key luks,discard\n";
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
        let named = |inventory: &Inventory| locks(inventory, &home, disk.path()).pop().unwrap().name;
        assert_eq!(named(&inventory), "luks-ab-12");
        std::fs::create_dir(disk.path().join("etc")).unwrap();
        std::fs::write(
            disk.path().join("etc/crypttab"),
            "home_crypt UUID=ab-12 none luks,keyscript=/x,discard\n",
        )
        .unwrap();
        let locks = locks(&inventory, &home, disk.path());
        assert_eq!((locks[0].name.as_str(), locks[0].options.as_str()), ("home_crypt", "luks,discard"));
    }
}
