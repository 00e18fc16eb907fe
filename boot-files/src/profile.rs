//! The profiles: what `image.toml` starts from. Embedded in the program from `boot-files/profiles/`.

use crate::config::{self, Tool};
use anyhow::{Result, bail};
use serde::Deserialize;

const STANDARD: &str = include_str!("../profiles/standard.toml");
/// The standard profile and more programs.
const FULL: &str = concat!(include_str!("../profiles/standard.toml"), include_str!("../profiles/full.toml"));
const MINIMAL: &str = include_str!("../profiles/minimal.toml");

/// What a profile decides. All keys are required: a profile is whole.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The package of busybox.
    pub busybox: String,
    /// The kernel and its modules.
    pub kernel: Kernel,
    /// The Pi's own firmware.
    pub firmware: Firmware,
    /// Programs for the rescue.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// What the firmware reads, and how hard to compress.
    pub boot: Boot,
}

/// The kernel and its modules.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The package, or a metapackage that depends on it.
    pub package: String,
    /// Modules to have.
    pub modules: Vec<String>,
    /// Device trees, as the firmware asks for them.
    pub device_trees: Vec<String>,
}

/// The Pi's own firmware.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The package.
    pub package: String,
    /// The files to take from it.
    pub files: Vec<String>,
}

/// What the firmware reads, and how hard to compress.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The lines of `config.txt`.
    pub config_txt: Vec<String>,
    /// The kernel command line.
    pub cmdline: String,
    /// The initramfs's zstd level.
    pub compression_level: i32,
}

/// The profile of that name.
///
/// # Errors
/// If there is none.
pub fn named(name: &str) -> Result<Profile> {
    let text = match name {
        "standard" => STANDARD,
        "full" => FULL,
        "minimal" => MINIMAL,
        _ => bail!("profile {name:?} does not exist: there are \"standard\", \"full\" and \"minimal\""),
    };
    config::parse(&format!("profiles/{name}.toml"), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_profiles_parse() {
        assert!(named("standard").unwrap().tools.len() > 10);
        assert!(named("minimal").unwrap().tools.is_empty());
        // No package twice: an image.toml's entry for a package takes the place of one.
        let mut packages: Vec<String> =
            named("full").unwrap().tools.into_iter().map(|tool| tool.package).collect();
        assert!(packages.len() > named("standard").unwrap().tools.len() + 20);
        packages.sort();
        assert!(packages.windows(2).all(|pair| pair[0] != pair[1]), "{packages:?}");
    }

    #[test]
    fn an_unknown_profile_is_named() {
        assert!(named("tiny").unwrap_err().to_string().contains("\"tiny\""));
    }
}
