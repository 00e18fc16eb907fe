//! What this machine is: read from the device tree and `/proc`. Firmware may leave any of it out.

use std::path::Path;

use crate::config::Config;
use crate::status::Machine;

/// Reads the machine's facts below `root` (`/`, or a mocked tree in tests).
pub fn read(root: &Path, config: &Config) -> Machine {
    let tree = |name: &str| text(&root.join("proc/device-tree").join(name));
    Machine {
        model: tree("model").unwrap_or_else(|| "unknown".into()),
        serial: serial(root).unwrap_or_else(|| "unknown".into()),
        memory: memory(root, "MemTotal:").unwrap_or(0),
        kernel: text(&root.join("proc/sys/kernel/osrelease")).unwrap_or_default(),
        image: config.name.clone(),
        bootloader: tree("chosen/bootloader/version"),
    }
}

/// The board's serial number, where the firmware left one.
pub fn serial(root: &Path) -> Option<String> {
    let serial = text(&root.join("proc/device-tree/serial-number")).map(|serial| for_url(&serial));
    serial.filter(|serial| !serial.is_empty())
}

/// One figure of `/proc/meminfo`, in bytes.
pub fn memory(root: &Path, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// A device tree string ends in NUL, a `/proc` file in a newline.
fn text(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end_matches(['\0', '\n']).trim();
    (!text.is_empty()).then(|| text.chars().filter(|c| !c.is_control()).take(128).collect())
}

/// The serial becomes part of a URL.
fn for_url(serial: &str) -> String {
    serial.chars().filter(char::is_ascii_alphanumeric).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_mocked_tree() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write("proc/device-tree/model", b"Raspberry Pi 4 Model B Rev 1.4\0");
        write("proc/device-tree/serial-number", b"10000000/../abcdef01\0");
        write("proc/meminfo", b"MemTotal:        1000 kB\nMemAvailable:  10 kB\n");
        write("proc/sys/kernel/osrelease", b"6.12.1-arm64\n");
        let machine = read(root.path(), &Config::default());
        assert_eq!(machine.model, "Raspberry Pi 4 Model B Rev 1.4");
        assert_eq!(machine.serial, "10000000abcdef01");
        assert_eq!(machine.memory, 1_024_000);
        assert_eq!((machine.kernel.as_str(), machine.bootloader), ("6.12.1-arm64", None));
    }

    #[test]
    fn nothing_there_is_no_failure() {
        let root = tempfile::tempdir().unwrap();
        let machine = read(root.path(), &Config::default());
        assert_eq!((machine.serial.as_str(), machine.memory), ("unknown", 0));
    }
}
