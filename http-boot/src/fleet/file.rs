//! `fleet.toml` as it is written. Anything may be in it: see [`super::check`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::dhcp::settings::Settings;

/// The version of this format.
pub const FLEET_FORMAT: u32 = 1;
/// No fleet's file is longer than this many bytes.
pub const FLEET_LIMIT: u64 = 16 << 20;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetFile {
    /// [`FLEET_FORMAT`].
    pub format: u32,
    /// This server's URL, as Pis reach it. Where it is missing, a Pi that asks for its plan names the server itself.
    pub server: Option<String>,
    /// What holds for every Pi, also for one that nobody named.
    #[serde(default)]
    pub defaults: Orders,
    /// OS images, by the name that orders use.
    #[serde(default)]
    pub images: BTreeMap<String, ImageEntry>,
    /// DHCP: what the flags `--dhcp…` say, by the same names.
    pub dhcp: Option<Settings>,
    /// Groups, in the order in which they count: a later one beats an earlier one.
    #[serde(default, rename = "group")]
    pub groups: Vec<GroupEntry>,
    /// Pis.
    #[serde(default, rename = "device")]
    pub devices: Vec<DeviceEntry>,
}

/// An OS image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageEntry {
    /// The squashfs, below the root. Its manifest and signature are beside it.
    pub path: String,
    /// The version that has to be there, as its manifest names it. Any, where this is missing.
    pub version: Option<String>,
    /// Images that are stacked on it, below the root, the lowest first.
    #[serde(default)]
    pub layers: Vec<String>,
}

/// A group.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupEntry {
    /// Its name.
    pub name: String,
    /// Pis with one of these tags belong to it, as do those that name the group.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Pis of these kinds belong to it, by the names of config.txt's filters: `pi4`, `cm4`, `pi5` ….
    #[serde(default)]
    pub boards: Vec<String>,
    /// What they shall do.
    #[serde(default)]
    pub orders: Orders,
}

/// A Pi.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceEntry {
    /// Its serial number: 8 or 16 hexadecimal digits.
    pub serial: Option<String>,
    /// Its Ethernet address.
    pub mac: Option<String>,
    /// What people call it; a host name.
    pub name: Option<String>,
    /// Its IPv4 address, where this server gives addresses.
    pub address: Option<Ipv4Addr>,
    /// Words that groups look for.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Groups that it belongs to.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What it shall do.
    #[serde(default)]
    pub orders: Orders,
}

/// What a Pi shall do. Of `boot`, `image` and `files` the last word counts; the others add up.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orders {
    /// What to boot.
    pub boot: Option<Boot>,
    /// The image, where `boot` is `ram`.
    pub image: Option<String>,
    /// The folder below the root with `boot.img` and `boot.sig` for who asks by its serial number (`HTTP_PATH=SERIAL`).
    pub files: Option<String>,
    /// Kernel parameters of its plan: those that an unsigned plan may have.
    pub parameters: Option<String>,
    /// Lines of `authorized_keys`: who may log in besides those in the image, over TFTP.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Kernel parameters behind those of `cmdline.txt`, over TFTP.
    pub cmdline: Option<String>,
    /// Lines behind those of `config.txt`, over TFTP.
    pub config: Option<String>,
}

/// What to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Boot {
    /// The rescue, until somebody says otherwise.
    Rescue,
    /// An OS in RAM.
    Ram,
    /// The OS on its disk, as its signed plan says (`plans/SERIAL.json` below the root).
    Disk,
    /// A disk image onto its disk, then the OS on it, as its signed plan says.
    Install,
    /// Whatever its signed plan says.
    Plan,
    /// Nothing from here: the bootloader is refused, and goes on in its `BOOT_ORDER`.
    Local,
}

impl Boot {
    /// Whether the Pi's own signed plan says what exactly.
    pub fn takes_signature(self) -> bool {
        matches!(self, Self::Disk | Self::Install | Self::Plan)
    }
}
