//! Opening LUKS devices with one passphrase: each that it fits.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::header::Header;
use super::passphrase::Passphrase;
use crate::disk::inventory::{Device, Inventory};
use crate::memory;
use crate::refusal::refused;
use crate::tool::Tool;

/// A device that is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// The encrypted device.
    pub device: PathBuf,
    /// Where its header is, if not on it.
    pub header: Option<PathBuf>,
    /// The UUID in its header, if that is on the device.
    pub uuid: Option<String>,
    /// Its name below `/dev/mapper`: `luks-UUID`, as dracut and systemd call it, unless a person says another.
    pub name: String,
}

/// A device that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opened {
    /// The encrypted device.
    pub device: PathBuf,
    /// What is inside.
    pub path: PathBuf,
}

/// How to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Nothing can be written to what is inside.
    pub read_only: bool,
    /// TRIM is passed on (cryptsetup(8), `--allow-discards`, says what that tells an attacker).
    pub discards: bool,
    /// Only whether the passphrase fits: nothing is opened.
    pub test_only: bool,
}

/// The LUKS devices that are not open: those named, or all.
///
/// # Errors
/// When a named one is no LUKS device, or is open.
pub fn locked(
    inventory: &Inventory,
    words: &[String],
    header: Option<&Path>,
    name: Option<&str>,
) -> Result<Vec<Locked>> {
    let devices: Vec<&Device> = if words.is_empty() {
        let closed = |device: &&Device| is_luks(device) && device.holders().next().is_none();
        inventory.all().into_iter().filter(closed).collect()
    } else {
        words.iter().map(|word| named(inventory, word, header)).collect::<Result<_>>()?
    };
    devices.into_iter().map(|device| one(device, header, name)).collect()
}

/// Whether the device has a LUKS header.
pub fn is_luks(device: &Device) -> bool {
    device.content_kind() == Some("crypto_LUKS")
}

fn named<'a>(inventory: &'a Inventory, word: &str, header: Option<&Path>) -> Result<&'a Device> {
    let device = inventory.named(word)?;
    let path = device.path.display();
    if let Some(inside) = device.holders().next() {
        return Err(refused(format!("{path} is open already: {}", inside.path.display())));
    }
    if !device.mounts.is_empty() || device.swap {
        return Err(refused(format!("{path} is in use")));
    }
    if header.is_none() && !is_luks(device) {
        let what = device.content_kind().unwrap_or("nothing that is recognised");
        return Err(refused(format!(
            "{path} is not encrypted with LUKS: it holds {what} (--header names a detached header)"
        )));
    }
    Ok(device)
}

fn one(device: &Device, header: Option<&Path>, name: Option<&str>) -> Result<Locked> {
    let name = match name {
        Some(name) => name.to_owned(),
        None => format!("luks-{}", uuid(device, header)?),
    };
    if !is_name(&name) {
        bail!("{name:?} is no name for a device: letters, digits and #+-.:=@_ are");
    }
    let own = || device.content.as_ref().and_then(|content| content.uuid.clone());
    let uuid = if header.is_none() { own() } else { None };
    Ok(Locked { device: device.path.clone(), header: header.map(Path::to_path_buf), uuid, name })
}

/// Whether an open device may be called so: the name becomes that of a file.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
    (1..=127).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}

fn uuid(device: &Device, header: Option<&Path>) -> Result<String> {
    if let Some(header) = header {
        let uuid = Tool::new("cryptsetup")?.arg("luksUUID").arg(header).stdout()?;
        return Ok(String::from_utf8_lossy(&uuid).trim().to_owned());
    }
    let uuid = device.content.as_ref().and_then(|content| content.uuid.clone());
    uuid.with_context(|| format!("{} has no UUID", device.path.display()))
}

/// Whether the passphrase fits a device, open or not.
///
/// # Errors
/// When it was not tried.
pub fn fits(device: &Path, passphrase: &Passphrase) -> Result<bool> {
    let locked = Locked { device: device.into(), header: None, uuid: None, name: "none".into() };
    let how = How { test_only: true, ..How::default() };
    open(&locked, passphrase, how).map(|opened| opened.is_some())
}

/// Tries the passphrase. `None`: it is not the one.
///
/// # Errors
/// When it was not tried, or something else went wrong.
pub fn open(locked: &Locked, passphrase: &Passphrase, how: How) -> Result<Option<Opened>> {
    let header = Header::read(&locked.device, locked.header.as_deref())?;
    let Some(slots) = header.fitting(&locked.device, memory::available())? else {
        return attempt(locked, passphrase, how, None);
    };
    for slot in slots {
        if let Some(opened) = attempt(locked, passphrase, how, Some(slot))? {
            return Ok(Some(opened));
        }
    }
    Ok(None)
}

/// cryptsetup(8): exit code 2 is a wrong passphrase, 3 too little memory, 5 a device that is busy or there already.
fn attempt(locked: &Locked, passphrase: &Passphrase, how: How, slot: Option<u32>) -> Result<Option<Opened>> {
    let mut tool = Tool::new("cryptsetup")?.args([
        "open",
        "--type",
        "luks",
        "--batch-mode",
        "--tries",
        "1",
        "--key-file",
        "-",
    ]);
    if let Some(header) = &locked.header {
        tool = tool.arg("--header").arg(header);
    }
    if let Some(slot) = slot {
        tool = tool.args(["--key-slot", &slot.to_string()]);
    }
    for (wanted, option) in [
        (how.read_only, "--readonly"),
        (how.discards, "--allow-discards"),
        (how.test_only, "--test-passphrase"),
    ] {
        if wanted {
            tool = tool.arg(option);
        }
    }
    let output = tool.arg(&locked.device).arg(&locked.name).unbroken_with_input(passphrase.bytes())?;
    match output.status.code() {
        Some(0) => {
            let path = Path::new("/dev/mapper").join(&locked.name);
            Ok(Some(Opened { device: locked.device.clone(), path }))
        }
        Some(2) => Ok(None),
        _ => bail!(
            "cryptsetup could not open {} ({}): {}",
            locked.device.display(),
            output.status,
            output.last_line()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::lsblk;

    fn inventory() -> Inventory {
        Inventory { devices: lsblk::parse(include_bytes!("../disk/fixtures/lsblk-stacked.json")).unwrap() }
    }

    #[test]
    fn what_is_no_locked_device_is_refused_by_name() {
        for (word, why) in [
            ("vdb", "open already: /dev/mapper/home"),
            ("vdf", "not encrypted"),
            ("/dev/nope", "no /dev/nope"),
        ] {
            let error = locked(&inventory(), &[word.into()], None, None).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_name_that_is_no_file_name_is_refused() {
        let inventory = inventory();
        let header = Path::new("/no/header");
        let name = |name: &str| locked(&inventory, &["vdf".into()], Some(header), Some(name));
        assert_eq!(name("root_crypt").unwrap()[0].name, "root_crypt");
        for bad in ["", "a/b", "../x", "..", "a b", &"x".repeat(128)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
