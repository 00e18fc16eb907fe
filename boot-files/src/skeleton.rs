//! The files of the initramfs that come from no package: accounts, profile, device nodes, mount points, the operator's
//! keys and what PID 1 is told.

use crate::recipe::Recipe;
use crate::tree::{Entry, Node, Origin, Tree};
use anyhow::{Context, Result};
use init::config::{AUTHORIZED_KEYS_PATH, CA_DIR, CONFIG_FORMAT, CONFIG_PATH, Config, KEYS_DIR};

/// Folders that something is mounted on, or that must be there.
const FOLDERS: [(&str, u32); 10] = [
    ("dev", 0o755),
    ("etc/lifeboat/keys", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("root/.ssh", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("sysroot", 0o755),
    ("tmp", 0o1777),
];

/// Device nodes for the time before devtmpfs: major and minor as in Linux's Documentation/admin-guide/devices.txt.
const DEVICES: [(&str, u32, u32, u32); 3] =
    [("dev/console", 0o600, 5, 1), ("dev/kmsg", 0o644, 1, 11), ("dev/null", 0o666, 1, 3)];

const PROFILE: &str = r#"# Read by login shells.
export PATH=/usr/sbin:/usr/bin
# There is no udevd: dmsetup and its like make the nodes below /dev/mapper themselves.
export DM_DISABLE_UDEV=1
export HOME="${HOME:-/root}"
export TERM="${TERM:-linux}"
export PS1='\u@\h:\w\$ '
case $- in
*i*) rescue status ;;
esac
"#;

/// Fixed files.
const FILES: [(&str, &str); 8] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\ndisk:x:6:\nnogroup:x:65534:\n"),
    ("etc/shells", "/bin/sh\n"),
    ("etc/profile", PROFILE),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("etc/protocols", "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\n"),
    ("etc/fstab", "# Nothing is mounted because it is listed here.\n"),
];

/// Adds them to the tree. `built` is the build's time in Unix seconds.
///
/// # Errors
/// If two files of the same path differ.
pub fn add(tree: &mut Tree, recipe: &Recipe, built: u64) -> Result<()> {
    for (path, mode) in FOLDERS {
        tree.add_folder(path, mode)?;
    }
    for (path, mode, major, minor) in DEVICES {
        let node = Node::CharacterDevice { major, minor };
        tree.add(path, Entry { node, mode, origin: Origin::own() })?;
    }
    for (path, text) in FILES {
        tree.add_own(path, 0o644, text)?;
    }
    tree.add_link("etc/mtab", "/proc/self/mounts", Origin::own())?;
    let name = recipe.name.replace(['"', '\\', '$', '`'], "");
    let os_release = format!(
        "NAME=\"Pi Lifeboat\"\nID=pi-lifeboat\nVERSION_ID={}\nIMAGE_ID=\"{name}\"\n",
        env!("CARGO_PKG_VERSION")
    );
    tree.add_own("etc/os-release", 0o644, os_release)?;
    tree.add_own(CONFIG_PATH, 0o644, config(recipe, built)?)?;
    tree.add_own(AUTHORIZED_KEYS_PATH, 0o600, recipe.authorized_keys.as_str())?;
    for (name, key) in &recipe.image_keys {
        tree.add_own(&format!("{KEYS_DIR}/{name}"), 0o644, key.as_str())?;
    }
    if !recipe.ca_certificates.is_empty() {
        tree.add_folder(CA_DIR.trim_start_matches('/'), 0o755)?;
    }
    for (name, certificates) in &recipe.ca_certificates {
        tree.add_own(&format!("{CA_DIR}/{name}"), 0o644, certificates.as_str())?;
    }
    Ok(())
}

/// `/etc/lifeboat.toml`.
fn config(recipe: &Recipe, built: u64) -> Result<String> {
    let default = Config::default();
    let config = Config {
        format: CONFIG_FORMAT,
        name: recipe.name.clone(),
        built,
        server: recipe.server.clone(),
        reboot_after: recipe.reboot_after.unwrap_or(default.reboot_after),
        serials: recipe.serials.clone(),
    };
    toml::to_string(&config).context("writing lifeboat.toml")
}
