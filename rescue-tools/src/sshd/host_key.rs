//! The host key: of the device where it can keep a secret, else made for this boot; never in an image that everyone can
//! download.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey};

use super::host_key_disk;
use super::otp::{self, MAILBOX_PATH};
use super::settings::Settings;
use crate::kernel_log::KernelLog;
use crate::replace_file::replace_file;

/// The longest key file that is read.
const LIMIT: u64 = 16 << 10;

/// By which way the key came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the Pi's own secret: the same at each boot.
    Otp,
    /// From a disk: the same at each boot.
    Disk(String),
    /// It was made, or taken, before this server started: it is the one of this boot.
    Kept,
    /// Made now: another at each boot.
    Made,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Otp => write!(f, "of this device, from its private key in OTP"),
            Origin::Disk(device) => write!(f, "of this device, from {device}"),
            Origin::Kept => write!(f, "of this boot, as before"),
            Origin::Made => write!(f, "of this boot, made now"),
        }
    }
}

/// Where keys come from.
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    /// The firmware's mailbox.
    pub mailbox: &'a Path,
    /// The kernel's command line.
    pub command_line: &'a Path,
}

impl Default for Sources<'_> {
    fn default() -> Self {
        Sources { mailbox: Path::new(MAILBOX_PATH), command_line: Path::new("/proc/cmdline") }
    }
}

/// The key of this boot: the one at `settings.host_key`, where the server ran before; else the device's own, from OTP or
/// from the disk that the command line names; else a new one. A key that cannot be read is replaced, and one that cannot
/// be written serves until the next start: SSH answers all the same.
pub fn load_or_make(
    settings: &Settings,
    sources: &Sources<'_>,
    log: &KernelLog,
) -> Result<(PrivateKey, Origin)> {
    let path = &settings.host_key;
    let (key, origin) = match load(path) {
        Ok(key) => (key, Origin::Kept),
        Err(error) => {
            if path.exists() {
                log.say(format!("{error:#}; making a new host key"));
            }
            let of_device = of_device(sources, log);
            let (key, origin) =
                of_device.map_or_else(|| Ok::<_, anyhow::Error>((make()?, Origin::Made)), Ok)?;
            if let Err(error) = store(path, &key) {
                log.say(format!("{error:#}; the host key will change when the server starts again"));
            }
            (key, origin)
        }
    };
    let line = format!("{}\n", fingerprint(&key));
    if let Err(error) = replace_file(&settings.fingerprint, line.as_bytes(), 0o644) {
        log.say(format!("{error:#}"));
    }
    Ok((key, origin))
}

/// A key that the device can have at each boot again.
fn of_device(sources: &Sources<'_>, log: &KernelLog) -> Option<(PrivateKey, Origin)> {
    let from_otp =
        otp::read(sources.mailbox).and_then(|secret| secret.map(|secret| secret.host_key_seed()).transpose());
    match from_otp {
        Ok(Some(seed)) => return Some((Ed25519Keypair::from_seed(&seed).into(), Origin::Otp)),
        Ok(None) => {}
        Err(error) => log.say(format!("{error:#}")),
    }
    let file = host_key_disk::configured(sources.command_line)?;
    match host_key_disk::read(&file) {
        Ok(key) => Some((key, Origin::Disk(file.device))),
        Err(error) => {
            log.say(format!("{error:#}"));
            None
        }
    }
}

fn make() -> Result<PrivateKey> {
    PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).context("making a host key")
}

/// As `ssh-keygen -l` prints it: `SHA256:…`.
pub fn fingerprint(key: &PrivateKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The key in OpenSSH's private key format, without a passphrase.
pub fn to_text(key: &PrivateKey) -> Result<String> {
    let text = key.to_openssh(LineEnding::LF).context("writing the host key")?;
    Ok(text.to_string())
}

/// Reads a key back.
pub fn from_text(text: &str) -> Result<PrivateKey> {
    let key = PrivateKey::from_openssh(text).context("reading the host key")?;
    ensure!(
        key.algorithm() == Algorithm::Ed25519 && !key.is_encrypted(),
        "the host key is no plain Ed25519 key"
    );
    Ok(key)
}

/// Reads the key at `path`.
pub fn load(path: &Path) -> Result<PrivateKey> {
    use std::io::Read;
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(LIMIT).read_to_string(&mut text)?;
        Ok::<String, std::io::Error>(text)
    };
    from_text(&read().with_context(|| format!("reading {}", path.display()))?)
        .with_context(|| format!("reading {}", path.display()))
}

fn store(path: &Path, key: &PrivateKey) -> Result<()> {
    replace_file(path, to_text(key)?.as_bytes(), 0o600)
}
