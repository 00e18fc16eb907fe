//! Step `unlock`: waits until somebody has opened the encrypted devices of `rd.luks.uuid=`, by `rescue unlock` over SSH.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::pid1::boot::Boot;

/// The kernel tells nobody of a new name; so often it is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let wanted = boot.disk_boot()?.luks;
    loop {
        let open = open_devices(Path::new("/sys/block"));
        let locked: Vec<&str> = wanted
            .iter()
            .filter(|wanted| !open.iter().any(|open| open.starts_with(wanted.as_str())))
            .map(String::as_str)
            .collect();
        if locked.is_empty() {
            return Ok(());
        }
        boot.announcer.waiting(&format!(
            "waiting for the passphrase of LUKS {}: ssh -t root@THIS-PI rescue unlock",
            locked.join(", ")
        ));
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The UUIDs of the LUKS devices that are open, without dashes: cryptsetup calls them `CRYPT-LUKS2-UUID-NAME`.
fn open_devices(block: &Path) -> Vec<String> {
    let devices = std::fs::read_dir(block).into_iter().flatten().flatten();
    let names = devices.filter_map(|device| std::fs::read_to_string(device.path().join("dm/uuid")).ok());
    names
        .filter_map(|name| {
            let rest = name.strip_prefix("CRYPT-LUKS1-").or_else(|| name.strip_prefix("CRYPT-LUKS2-"))?;
            Some(rest.split('-').next()?.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_luks_devices_are_told_by_the_device_mapper() {
        let block = tempfile::tempdir().unwrap();
        for (device, uuid) in [
            ("dm-0", "CRYPT-LUKS2-0123456789abcdef0123456789abcdef-luks-x\n"),
            ("dm-1", "LVM-abc"),
            ("dm-2", "CRYPT-PLAIN-x"),
        ] {
            std::fs::create_dir_all(block.path().join(device).join("dm")).unwrap();
            std::fs::write(block.path().join(device).join("dm/uuid"), uuid).unwrap();
        }
        std::fs::create_dir(block.path().join("sda")).unwrap();
        assert_eq!(open_devices(block.path()), ["0123456789abcdef0123456789abcdef"]);
    }
}
