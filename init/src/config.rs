//! `/etc/lifeboat.toml` in the image: what its builder decided. Written by `boot-files`, read by PID 1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;

/// Where the file is in the image.
pub const CONFIG_PATH: &str = "/etc/lifeboat.toml";
/// The folder of minisign public keys (`*.pub`) that OS images are checked against.
pub const KEYS_DIR: &str = "/etc/lifeboat/keys";
/// The folder of CA certificates (`*.pem`) that HTTPS servers are checked against; where it has some, no public ones count.
pub const CA_DIR: &str = "/etc/lifeboat/ca";
/// The public keys that may log in.
pub const AUTHORIZED_KEYS_PATH: &str = "/root/.ssh/authorized_keys";
/// The squashfs that PID 1 mounts on `/usr`, as a path of the initramfs.
pub const USR_PATH: &str = "/usr.squashfs";
/// What mounting it takes: modules that lie in the initramfs itself, where the kernel has them not built in.
pub const USR_MODULES: [&str; 2] = ["loop", "squashfs"];
/// The version of this file's format.
pub const CONFIG_FORMAT: u32 = 1;

/// What the image's builder decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The version of the format: [`CONFIG_FORMAT`].
    pub format: u32,
    /// The image's name, as the banner shows it.
    pub name: String,
    /// When it was built: Unix seconds. The clock is never before it, since a Pi 4 has no clock of its own.
    pub built: u64,
    /// The boot server that events go to, unless the command line names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Url>,
    /// After how many seconds with neither progress nor a logged-in human a failed boot starts anew; 0: never.
    #[serde(default = "default_reboot_after")]
    pub reboot_after: u64,
    /// The least serial number that is taken of each image's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub serials: BTreeMap<String, u64>,
}

#[cfg(feature = "pid1")]
impl Config {
    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong, for a human.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Config = toml::from_str(text).map_err(|error| format!("parsing it: {error}"))?;
        match config.format {
            CONFIG_FORMAT => Ok(config),
            other => Err(format!("its format is {other}, not {CONFIG_FORMAT}")),
        }
    }
}

fn default_reboot_after() -> u64 {
    1800
}

impl Default for Config {
    fn default() -> Self {
        Config {
            format: CONFIG_FORMAT,
            name: "unnamed".into(),
            built: 0,
            server: None,
            reboot_after: default_reboot_after(),
            serials: BTreeMap::new(),
        }
    }
}

#[cfg(all(test, feature = "pid1"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_builder_writes_is_read() {
        let config = Config {
            server: Some(Url::parse("http://boot.example:8080/").unwrap()),
            serials: [("debian-13".to_owned(), 7)].into(),
            ..Config::default()
        };
        let text = "format = 1\nname = \"unnamed\"\nbuilt = 0\nserver = \"http://boot.example:8080/\"\n\
                    reboot_after = 1800\n\n[serials]\ndebian-13 = 7\n";
        assert_eq!(Config::parse(text), Ok(config));
        let least = Config::parse("format = 1\nname = \"a\"\nbuilt = 5\n").unwrap();
        assert_eq!((least.reboot_after, least.serials.len()), (1800, 0));
        for bad in
            ["", "format = 2\nname = \"a\"\nbuilt = 5\n", "format = 1\nname = \"a\"\nbuilt = 5\nmore = 1\n"]
        {
            assert!(Config::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = Config::parse(&text);
        }
    }
}
