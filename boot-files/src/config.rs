//! `image.toml`: what the operator asks for, as written. [`crate::recipe`] turns it into a checked recipe.
//! Every key is described in `docs/image-toml.md` (held by `tests/documentation.rs`).

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use url::Url;

/// The version of `image.toml`'s format.
pub const IMAGE_TOML_FORMAT: u32 = 1;

/// The whole of `image.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageToml {
    /// The version of the format: [`IMAGE_TOML_FORMAT`].
    pub format: u32,
    /// The image's name, as the rescue's banner shows it.
    pub name: String,
    /// The profile to start from: `standard` or `minimal`.
    #[serde(default = "default_profile")]
    pub profile: String,
    /// The Debian suite to take packages from; `none`: only the `[[repository]]` entries.
    #[serde(default = "default_suite")]
    pub suite: String,
    /// The package of busybox, which is also the shell: `busybox` or `busybox-static`.
    pub busybox: Option<String>,
    /// More apt repositories.
    #[serde(default)]
    pub repository: Vec<Repository>,
    /// The kernel and its modules.
    #[serde(default)]
    pub kernel: Kernel,
    /// The Pi's own firmware.
    #[serde(default)]
    pub firmware: Firmware,
    /// Programs for the rescue, on top of the profile's.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// What the firmware reads, and how hard to compress.
    #[serde(default)]
    pub boot: Boot,
    /// What the image's PID 1 is told.
    #[serde(default)]
    pub device: Device,
    /// Who may log in, and whose OS images are trusted.
    #[serde(default)]
    pub access: Access,
    /// The least serial number that is taken of each OS image's name.
    #[serde(default)]
    pub serials: BTreeMap<String, u64>,
    /// Signing of `boot.img`.
    #[serde(default)]
    pub sign: Sign,
}

fn default_profile() -> String {
    "standard".into()
}

fn default_suite() -> String {
    "trixie".into()
}

/// An apt repository, in the words of sources.list(5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Base addresses.
    pub uris: Vec<String>,
    /// Suites or code names; one that ends in `/` is a path to a flat repository.
    pub suites: Vec<String>,
    /// Components; empty for a flat repository.
    #[serde(default)]
    pub components: Vec<String>,
    /// The OpenPGP keyring that its Release files must be signed with (`.gpg` binary, `.asc` armored).
    pub signed_by: PathBuf,
}

/// The kernel and its modules.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The package, or a metapackage that depends on it.
    pub package: Option<String>,
    /// Modules to have, with what they depend on; a trailing `?` marks one that may be missing.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Modules of the profile to leave out.
    #[serde(default)]
    pub drop_modules: Vec<String>,
    /// Device trees, as the firmware asks for them.
    pub device_trees: Option<Vec<String>>,
    /// Device tree overlays of the kernel package, without `.dtbo`.
    #[serde(default)]
    pub overlays: Vec<String>,
}

/// The Pi's own firmware.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The package.
    pub package: Option<String>,
    /// The files to take from it.
    pub files: Option<Vec<String>>,
}

/// Programs out of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// The package.
    pub package: String,
    /// Globs of the files to take (`*` does not match `/`); none: leave the profile's entry for this package out.
    pub files: Vec<String>,
}

/// What the firmware reads, and how hard to compress.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Lines to add to `config.txt`.
    #[serde(default)]
    pub config_txt: Vec<String>,
    /// The kernel command line, instead of the profile's.
    pub cmdline: Option<String>,
    /// The initramfs's zstd level, 1 to 22.
    pub compression_level: Option<i32>,
}

/// What the image's PID 1 is told: goes into `/etc/lifeboat.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The boot server.
    pub server: Option<Url>,
    /// Seconds without progress or a logged-in human until a failed boot starts anew; 0: never.
    pub reboot_after: Option<u64>,
}

/// Who may log in, and whose OS images are trusted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Files of OpenSSH public keys.
    #[serde(default)]
    pub authorized_keys: Vec<PathBuf>,
    /// minisign public keys (`.pub`).
    #[serde(default)]
    pub image_keys: Vec<PathBuf>,
    /// PEM files of certificate authorities: HTTPS servers are checked against these alone.
    #[serde(default)]
    pub ca_certificates: Vec<PathBuf>,
}

/// Signing of `boot.img`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// An RSA-2048 private key (PEM).
    pub key: Option<PathBuf>,
}

/// Reads `image.toml`.
///
/// # Errors
/// If it cannot be read, is no TOML, has an unknown key or another format: the error names file, line and key.
pub fn read(path: &Path) -> Result<ImageToml> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let config: ImageToml = parse(&path.display().to_string(), &text)?;
    if config.format != IMAGE_TOML_FORMAT {
        bail!("{}: format = {}, but this program knows {IMAGE_TOML_FORMAT}", path.display(), config.format);
    }
    Ok(config)
}

/// Parses TOML; an error is one line: `NAME:LINE: what`.
///
/// # Errors
/// If the text is no TOML of that type.
pub fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            text.bytes().take(span.start).filter(|byte| *byte == b'\n').count().saturating_add(1)
        });
        anyhow::anyhow!("{name}:{line}: {}", error.message().replace('\n', " "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error =
            parse::<ImageToml>("image.toml", "format = 1\nname = \"a\"\n\n[kernel]\npackges = \"x\"\n")
                .unwrap_err()
                .to_string();
        assert!(error.starts_with("image.toml:5: unknown field `packges`"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn broken_toml_is_one_line() {
        let error = parse::<ImageToml>("image.toml", "format = 1\nname = \n").unwrap_err().to_string();
        assert!(error.starts_with("image.toml:2: "), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn the_least_file_has_the_defaults() {
        let config: ImageToml = parse("image.toml", "format = 1\nname = \"a\"\n").unwrap();
        assert_eq!((config.profile.as_str(), config.suite.as_str()), ("standard", "trixie"));
    }
}
