//! Who may log in and whose OS images are trusted: public keys, checked before they go into the image.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// The largest key file read, in bytes.
const KEY_FILE_LIMIT: u64 = 1 << 20;
/// Public key types of OpenSSH (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
const KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// The text of `/root/.ssh/authorized_keys`: these files, one after the other.
///
/// # Errors
/// If a file cannot be read, holds a private key or a line that is no public key.
pub fn authorized_keys(files: &[PathBuf]) -> Result<String> {
    let mut text = String::new();
    for file in files {
        let content = read_public(file)?;
        for (number, line) in content.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            ensure!(
                line.split_whitespace().any(|word| KEY_TYPES.contains(&word)),
                "{}:{}: no OpenSSH public key",
                file.display(),
                number.saturating_add(1)
            );
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// The minisign public keys: file name and text, in order of the name.
///
/// # Errors
/// If a file cannot be read or is no minisign public key, or two have the same name.
pub fn image_keys(files: &[PathBuf]) -> Result<Vec<(String, String)>> {
    let mut keys: Vec<(String, String)> = Vec::new();
    for file in files {
        let content = read_public(file)?;
        minisign_verify::PublicKey::decode(content.trim_end())
            .map_err(|error| anyhow::anyhow!("{}: no minisign public key: {error}", file.display()))?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}.pub");
        if keys.iter().any(|(other, _)| *other == name) {
            bail!("[access] image_keys: two files are called {name}");
        }
        keys.push((name, content));
    }
    keys.sort();
    Ok(keys)
}

/// The certificates of authorities for HTTPS: file name and text, in order of the name.
///
/// # Errors
/// If a file cannot be read or has anything but PEM certificates in it, or two have the same name.
pub fn ca_certificates(files: &[PathBuf]) -> Result<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = Vec::new();
    for file in files {
        let content = read_public(file)?;
        let certificates = content.matches("-----BEGIN CERTIFICATE-----").count();
        let ends = content.matches("-----END CERTIFICATE-----").count();
        ensure!(
            certificates > 0
                && certificates == ends
                && certificates == content.matches("-----BEGIN ").count(),
            "{}: no PEM file of certificates",
            file.display()
        );
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}.pem");
        if all.iter().any(|(other, _)| *other == name) {
            bail!("[access] ca_certificates: two files are called {name}");
        }
        all.push((name, content));
    }
    all.sort();
    Ok(all)
}

/// Reads a file that must not hold a private key: boot.img is readable by everyone
/// (held by `private_keys_stay_out`).
fn read_public(file: &Path) -> Result<String> {
    let context = || format!("reading {}", file.display());
    let size = std::fs::metadata(file).with_context(context)?.len();
    ensure!(size <= KEY_FILE_LIMIT, "{}: {size} bytes is no key file", file.display());
    let content = std::fs::read_to_string(file).with_context(context)?;
    ensure!(
        !content.contains("PRIVATE KEY") && !content.contains("secret key"),
        "{} holds a private key: boot.img is readable by everyone, so only public keys may go in",
        file.display()
    );
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn private_keys_stay_out() {
        let folder = tempfile::tempdir().unwrap();
        let ssh = file(&folder, "id", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
        let mini = file(&folder, "m.key", "untrusted comment: minisign encrypted secret key\nRWR=\n");
        assert!(authorized_keys(&[ssh]).unwrap_err().to_string().contains("private key"));
        assert!(image_keys(&[mini]).unwrap_err().to_string().contains("private key"));
    }

    #[test]
    fn a_line_that_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let good = file(&folder, "a", "# me\ncommand=\"x y\" ssh-ed25519 AAAA me@host\n");
        assert_eq!(authorized_keys(&[good]).unwrap(), "command=\"x y\" ssh-ed25519 AAAA me@host\n");
        let bad = file(&folder, "b", "\nhello\n");
        assert!(authorized_keys(&[bad]).unwrap_err().to_string().ends_with("b:2: no OpenSSH public key"));
    }

    #[test]
    fn ca_certificates_are_pem() {
        let folder = tempfile::tempdir().unwrap();
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let good = file(&folder, "site.crt", pem);
        let found = ca_certificates(std::slice::from_ref(&good)).unwrap();
        assert_eq!(found, [("site.pem".to_owned(), pem.to_owned())]);
        assert!(ca_certificates(&[good.clone(), good]).unwrap_err().to_string().contains("two files"));
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        let request =
            format!("{pem}-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n");
        for (name, text) in [("der", "0\u{82}"), ("cut.pem", cut), ("request.pem", &request)] {
            let error = ca_certificates(&[file(&folder, name, text)]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let private = format!("{pem}-----BEGIN EC PRIVATE KEY-----\nAAAA\n");
        let error = ca_certificates(&[file(&folder, "both.pem", &private)]).unwrap_err().to_string();
        assert!(error.contains("private key"), "{error}");
    }

    #[test]
    fn image_keys_are_parsed() {
        let folder = tempfile::tempdir().unwrap();
        let key = "untrusted comment: k\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
        let good = file(&folder, "site.pub", key);
        assert_eq!(image_keys(std::slice::from_ref(&good)).unwrap()[0].0, "site.pub");
        assert!(image_keys(&[good.clone(), good]).is_err());
        let bad = file(&folder, "bad.pub", "RWQ\n");
        assert!(image_keys(&[bad]).unwrap_err().to_string().contains("bad.pub"));
    }
}
