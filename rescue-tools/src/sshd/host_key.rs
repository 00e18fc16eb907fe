//! The host key: made on the device, never in an image that everyone can download.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey};

use super::settings::Settings;
use crate::kernel_log::KernelLog;
use crate::replace_file::replace_file;

/// The longest key file that is read.
const LIMIT: u64 = 16 << 10;

/// The key of this boot: the one at `settings.host_key`, or a new one, written there for the next start. A key that
/// cannot be read is replaced, and one that cannot be written serves until the next start: SSH answers all the same.
pub fn load_or_make(settings: &Settings, log: &KernelLog) -> Result<PrivateKey> {
    let path = &settings.host_key;
    let key = match load(path) {
        Ok(key) => key,
        Err(error) => {
            if path.exists() {
                log.say(format!("{error:#}; making a new host key"));
            }
            let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).context("making a host key")?;
            if let Err(error) = store(path, &key) {
                log.say(format!("{error:#}; the host key will change when the server starts again"));
            }
            key
        }
    };
    let line = format!("{}\n", fingerprint(&key));
    if let Err(error) = replace_file(&settings.fingerprint, line.as_bytes(), 0o644) {
        log.say(format!("{error:#}"));
    }
    Ok(key)
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

fn load(path: &Path) -> Result<PrivateKey> {
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
