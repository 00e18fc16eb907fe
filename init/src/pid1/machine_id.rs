//! This machine's ID (machine-id(5)): what the command line says, else one that is made of the board's serial number and so
//! is the same at each boot. Our DHCP client is known by it, and so is an OS in RAM that has none of its own.

use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::machine;
use crate::identity::MachineId;

/// Where an OS keeps it.
const FILE: &str = "etc/machine-id";

/// The ID; `None` where neither the command line nor the firmware (below `root`) gives one.
pub fn find(given: Option<MachineId>, root: &Path) -> Option<MachineId> {
    given.or_else(|| machine::serial(root).map(|serial| of_serial(&serial)))
}

/// The form of a random UUID (RFC 9562, section 5.4), as machine-id(5) wants it.
fn of_serial(serial: &str) -> MachineId {
    let hash = Sha256::new().chain_update("Pi Lifeboat machine-id 1:").chain_update(serial).finalize();
    let mut id = [0; 16];
    id.iter_mut().zip(hash).for_each(|(byte, hashed)| *byte = hashed);
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    MachineId(id)
}

/// Gives the OS below `root` this ID, where its image leaves that to the first boot: so that its networkd is known to DHCP
/// servers as we were. It has no first boot then (`ConditionFirstBoot=`): in RAM each boot would be the first, and
/// systemd-firstboot would ask on a console that nobody sees.
///
/// # Errors
/// When the file cannot be written.
pub fn offer(root: &Path, id: MachineId) -> Result<()> {
    let file = root.join(FILE);
    let unset = match std::fs::symlink_metadata(&file) {
        Ok(data) if data.is_file() => {
            let text = std::fs::read_to_string(&file).unwrap_or_else(|_| "not text".into());
            matches!(text.trim(), "" | "uninitialized")
        }
        // A link leads where the OS wants it.
        Ok(_) => false,
        Err(_) => file.parent().is_some_and(Path::is_dir),
    };
    if unset {
        std::fs::write(&file, format!("{id}\n")).with_context(|| format!("writing {}", file.display()))?;
        tracing::info!("the OS has no machine ID of its own: it gets {id}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_stable_and_differs_from_board_to_board() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find(None, root.path()), None);
        let tree = root.path().join("proc/device-tree");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("serial-number"), "10000000abcdef01\0").unwrap();
        // Written down: a later version that made another one would cost every Pi its address.
        let known = MachineId::parse("385355ee83b74975b43787a60e33bb4e").ok();
        let id = find(None, root.path()).unwrap();
        assert_eq!(Some(id), known);
        assert_ne!(of_serial("10000000abcdef02"), id);
        let given = MachineId([7; 16]);
        assert_eq!(find(Some(given), root.path()), Some(given));
    }

    #[test]
    fn only_an_os_without_one_gets_it() {
        let id = MachineId([0x5a; 16]);
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(FILE);
        offer(root.path(), id).unwrap();
        assert!(!file.exists(), "nothing is made where there is no /etc");
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let written = format!("{id}\n");
        for (before, after) in [
            (None, written.as_str()),
            (Some(""), &written),
            (Some("uninitialized\n"), &written),
            (Some("0102030405060708090a0b0c0d0e0f10\n"), "0102030405060708090a0b0c0d0e0f10\n"),
            (Some("broken"), "broken"),
        ] {
            let _ = std::fs::remove_file(&file);
            if let Some(before) = before {
                std::fs::write(&file, before).unwrap();
            }
            offer(root.path(), id).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), after, "{before:?}");
        }
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("../run/machine-id", &file).unwrap();
        offer(root.path(), id).unwrap();
        assert!(file.is_symlink());
    }
}
