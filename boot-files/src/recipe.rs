//! The recipe: profile and `image.toml` made one and checked, before anything is downloaded.

use crate::config::{ImageToml, Repository, Tool};
use crate::host_apt::{self, Mirror};
use crate::{access, config_txt, profile};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use url::Url;

/// The value of `suite` that leaves Debian's repositories out.
const NO_SUITE: &str = "none";

/// What to build. A value of this type has been checked as far as that goes without packages. Serialised, it is part
/// of the fingerprint by which an unchanged rebuild is known.
#[derive(Debug, Clone, Serialize)]
pub struct Recipe {
    /// The image's name.
    pub name: String,
    /// Where packages come from.
    pub repositories: Vec<Repository>,
    /// The kernel package or metapackage.
    pub kernel_package: String,
    /// Modules to have.
    pub modules: Vec<ModuleRequest>,
    /// Device trees, as the firmware asks for them.
    pub device_trees: Vec<String>,
    /// Overlays, without `.dtbo`.
    pub overlays: Vec<String>,
    /// The firmware package.
    pub firmware_package: String,
    /// The files to take from it.
    pub firmware_files: Vec<String>,
    /// The package of busybox.
    pub busybox: String,
    /// Programs for the rescue.
    pub tools: Vec<Tool>,
    /// The whole of `config.txt`.
    pub config_txt: String,
    /// The whole of `cmdline.txt`.
    pub cmdline: String,
    /// The initramfs's zstd level.
    pub compression_level: i32,
    /// The boot server.
    pub server: Option<Url>,
    /// Seconds until a failed boot starts anew.
    pub reboot_after: Option<u64>,
    /// The text of `authorized_keys`.
    pub authorized_keys: String,
    /// minisign public keys: file name and text.
    pub image_keys: Vec<(String, String)>,
    /// The least serial number that is taken of each OS image's name.
    pub serials: BTreeMap<String, u64>,
    /// PEM files of certificate authorities: file name and text.
    pub ca_certificates: Vec<(String, String)>,
    /// The RSA key that signs `boot.img`.
    pub sign_key: Option<PathBuf>,
}

/// One module asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModuleRequest {
    /// Its name, with `_` for `-`, as the kernel has it.
    pub name: String,
    /// That it may be missing.
    pub optional: bool,
}

impl ModuleRequest {
    fn parse(text: &str) -> Result<Self> {
        let (name, optional) = text.strip_suffix('?').map_or((text, false), |name| (name, true));
        ensure!(
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "[kernel] modules: {text:?} is no module name"
        );
        Ok(ModuleRequest { name: name.replace('-', "_"), optional })
    }
}

/// Makes profile and `image.toml` one. Relative paths are relative to `folder`.
///
/// # Errors
/// If a value is no good, or a key file cannot be read.
pub fn make(config: ImageToml, folder: &Path) -> Result<Recipe> {
    let profile = profile::named(&config.profile)?;
    let level = config.boot.compression_level.unwrap_or(profile.boot.compression_level);
    ensure!((1..=22).contains(&level), "[boot] compression_level = {level} is not in 1 to 22");
    let recipe = Recipe {
        name: checked_name(config.name)?,
        repositories: repositories(&config.suite, config.repository, folder)?,
        kernel_package: checked_package(config.kernel.package.unwrap_or(profile.kernel.package))?,
        modules: modules(profile.kernel.modules, config.kernel.modules, &config.kernel.drop_modules)?,
        device_trees: config.kernel.device_trees.unwrap_or(profile.kernel.device_trees),
        overlays: config.kernel.overlays,
        firmware_package: checked_package(config.firmware.package.unwrap_or(profile.firmware.package))?,
        firmware_files: config.firmware.files.unwrap_or(profile.firmware.files),
        busybox: checked_package(config.busybox.unwrap_or(profile.busybox))?,
        tools: tools(profile.tools, config.tools)?,
        config_txt: config_txt::checked(&[profile.boot.config_txt, config.boot.config_txt].concat())?,
        cmdline: config_txt::checked_cmdline(&config.boot.cmdline.unwrap_or(profile.boot.cmdline))?,
        compression_level: level,
        server: config.device.server,
        reboot_after: config.device.reboot_after,
        authorized_keys: access::authorized_keys(&resolved(folder, &config.access.authorized_keys))?,
        image_keys: access::image_keys(&resolved(folder, &config.access.image_keys))?,
        serials: checked_serials(config.serials)?,
        ca_certificates: access::ca_certificates(&resolved(folder, &config.access.ca_certificates))?,
        sign_key: config.sign.key.map(|key| folder.join(key)),
    };
    for name in recipe.device_trees.iter().chain(&recipe.overlays).chain(&recipe.firmware_files) {
        ensure!(!name.is_empty() && !name.contains('/'), "{name:?} is no file name");
    }
    Ok(recipe)
}

fn resolved(folder: &Path, paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().map(|path| folder.join(path)).collect()
}

fn checked_name(name: String) -> Result<String> {
    ensure!(
        !name.is_empty() && name.len() <= 64 && !name.chars().any(char::is_control),
        "name = {name:?} is empty, longer than 64 bytes or has control characters"
    );
    Ok(name)
}

/// A name that no image can have would guard nothing. TOML's integers end at 2^63 - 1.
fn checked_serials(serials: BTreeMap<String, u64>) -> Result<BTreeMap<String, u64>> {
    for (name, serial) in &serials {
        ensure!(
            init::manifest::valid_name(name),
            "[serials]: {name:?} is not 1 to 64 of A-Z a-z 0-9 . _ + -, as an image's name is"
        );
        ensure!(i64::try_from(*serial).is_ok(), "[serials] {name} = {serial} is too large");
    }
    Ok(serials)
}

/// Debian's rule for package names (Policy 5.6.7): nothing else may reach a command line.
fn checked_package(name: String) -> Result<String> {
    let ok = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let start = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    ensure!(start && name.bytes().all(ok), "{name:?} is no package name");
    Ok(name)
}

fn repositories(suite: &str, own: Vec<Repository>, folder: &Path) -> Result<Vec<Repository>> {
    let mut all = Vec::new();
    if suite != NO_SUITE {
        ensure!(
            !suite.is_empty() && suite.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "suite = {suite:?} is no suite's name"
        );
        all.extend(debian(suite, &host_apt::mirror()?));
    }
    for repository in own {
        all.push(Repository { signed_by: folder.join(&repository.signed_by), ..repository });
    }
    for repository in &all {
        let words = repository.uris.iter().chain(&repository.suites).chain(&repository.components);
        for word in words {
            ensure!(
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic()),
                "[[repository]]: {word:?} is empty or has blanks in it"
            );
        }
        ensure!(
            !repository.uris.is_empty() && !repository.suites.is_empty(),
            "[[repository]]: uris and suites must not be empty"
        );
    }
    if all.is_empty() {
        bail!("suite = \"{NO_SUITE}\" and no [[repository]]: there is nothing to take packages from");
    }
    Ok(all)
}

/// Debian's repositories for a suite: itself, its updates and its security updates.
fn debian(suite: &str, mirror: &Mirror) -> [Repository; 2] {
    let components = vec!["main".to_owned(), "non-free-firmware".to_owned()];
    [
        Repository {
            uris: vec![mirror.archive.clone()],
            suites: vec![suite.to_owned(), format!("{suite}-updates")],
            components: components.clone(),
            signed_by: mirror.archive_keyring.clone(),
        },
        Repository {
            uris: vec![mirror.security.clone()],
            suites: vec![format!("{suite}-security")],
            components,
            signed_by: mirror.security_keyring.clone(),
        },
    ]
}

fn modules(profile: Vec<String>, own: Vec<String>, drop: &[String]) -> Result<Vec<ModuleRequest>> {
    let drop: Vec<_> = drop.iter().map(|name| ModuleRequest::parse(name)).collect::<Result<_>>()?;
    let mut wanted: Vec<ModuleRequest> = Vec::new();
    for text in profile {
        wanted.push(ModuleRequest::parse(&text)?);
    }
    for dropped in &drop {
        let before = wanted.len();
        wanted.retain(|module| module.name != dropped.name);
        ensure!(wanted.len() < before, "[kernel] drop_modules: {:?} is not in the profile", dropped.name);
    }
    for text in own {
        wanted.push(ModuleRequest::parse(&text)?);
    }
    Ok(wanted)
}

fn tools(profile: Vec<Tool>, own: Vec<Tool>) -> Result<Vec<Tool>> {
    let mut all = profile;
    for tool in own {
        all.retain(|other| other.package != tool.package);
        if !tool.files.is_empty() {
            all.push(tool);
        }
    }
    for tool in &all {
        checked_package(tool.package.clone()).context("reading [[tools]]")?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn recipe(more: &str) -> Result<Recipe> {
        make(parse("image.toml", &format!("format = 1\nname = \"a\"\n{more}"))?, Path::new("/etc"))
    }

    #[test]
    fn the_default_is_trixie_with_updates_and_security() {
        let suites: Vec<_> = recipe("").unwrap().repositories.into_iter().flat_map(|r| r.suites).collect();
        assert_eq!(suites, ["trixie", "trixie-updates", "trixie-security"]);
    }

    #[test]
    fn own_modules_are_added_and_dropped_ones_go() {
        let all = recipe("[kernel]\nmodules = [\"foo-bar?\"]\ndrop_modules = [\"nvme\"]\n").unwrap().modules;
        assert!(all.contains(&ModuleRequest { name: "foo_bar".into(), optional: true }));
        assert!(!all.iter().any(|module| module.name == "nvme"));
    }

    #[test]
    fn own_tools_replace_the_profile_s() {
        let all = recipe("[[tools]]\npackage = \"rsync\"\nfiles = []\n").unwrap().tools;
        assert!(!all.iter().any(|tool| tool.package == "rsync"));
    }

    #[test]
    fn bad_values_are_named() {
        for (more, word) in [
            ("[kernel]\nmodules = [\"a/b\"]\n", "a/b"),
            ("[kernel]\npackage = \"-o x\"\n", "-o x"),
            ("[kernel]\ndrop_modules = [\"nosuch\"]\n", "nosuch"),
            ("[boot]\ncompression_level = 23\n", "23"),
            ("[boot]\ncmdline = \"a\\nb\"\n", "cmdline"),
            ("[kernel]\noverlays = [\"../x\"]\n", "../x"),
            ("[serials]\n\"../x\" = 1\n", "../x"),
            ("[serials]\nx = -1\n", "invalid value"),
            ("[access]\nauthorized_keys = [\"nosuch.pub\"]\n", "/etc/nosuch.pub"),
            ("[access]\nca_certificates = [\"nosuch.pem\"]\n", "/etc/nosuch.pem"),
        ] {
            let error = format!("{:#}", recipe(more).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
        let error = make(
            parse("image.toml", "format = 1\nname = \"a\"\nsuite = \"none\"\n").unwrap(),
            Path::new("/etc"),
        );
        assert!(error.unwrap_err().to_string().contains("nothing to take packages from"));
    }
}
