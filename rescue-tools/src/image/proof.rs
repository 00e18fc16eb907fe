//! What a source's bytes are held against.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use minisign_verify::{PublicKey, Signature};

use super::http;
use super::source::Place;
use crate::refusal::refused;
use crate::verbs::Usage;

/// A signature is four lines.
const SIGNATURE_LIMIT: usize = 16 << 10;
/// So many keys are tried at most.
const KEYS: usize = 64;

/// How the person wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The SHA-256 of the source as fetched.
    Sha256([u8; 32]),
    /// A minisign signature; where none is named, beside the source.
    Minisign(Option<Place>),
    /// No check.
    Unchecked,
}

/// What the bytes are held against.
pub enum Proof {
    /// Their SHA-256.
    Sha256([u8; 32]),
    /// A signature by one of the keys that are trusted.
    Minisign {
        /// Who signed.
        key: Box<PublicKey>,
        /// The signature.
        signature: Box<Signature>,
    },
    /// Nothing: the person said so.
    Unchecked,
}

/// A SHA-256 as people paste it.
///
/// # Errors
/// When it is none.
pub fn parse_sha256(text: &str) -> Result<[u8; 32], Usage> {
    let wrong = || Usage(format!("{text:?} is no SHA-256: it has 64 hexadecimal digits"));
    let text = text.trim();
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (number, byte) in hash.iter_mut().enumerate() {
        let digits = text.get(number * 2..number * 2 + 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(hash)
}

impl Wanted {
    /// Fetches what is needed before the first byte of the image.
    ///
    /// # Errors
    /// When there is no signature, or none by a key that is trusted: a refusal.
    pub fn get(&self, source: &Place, keys: &Keys, init: &Path) -> Result<Proof> {
        let place = match self {
            Wanted::Sha256(hash) => return Ok(Proof::Sha256(*hash)),
            Wanted::Unchecked => return Ok(Proof::Unchecked),
            Wanted::Minisign(Some(place)) => place.clone(),
            Wanted::Minisign(None) => beside(source)?,
        };
        let keys = keys.read()?;
        let text = read_signature(&place, init).map_err(|error| match self {
            Wanted::Minisign(None) => refused(format!("{error:#} ({HOW})")),
            _ => refused(format!("{error:#}")),
        })?;
        let signature =
            Signature::decode(&text).map_err(|_| refused(format!("{place} is no minisign signature")))?;
        let count = keys.len();
        // By the key's number; whether it signed these bytes is known at their end.
        let key = keys.into_iter().find(|key| key.verify_stream(&signature).is_ok());
        let key = key.ok_or_else(|| {
            refused(format!(
                "{place} is by none of the {count} keys that are trusted here, or of minisign's old kind (sign \
                 with minisign 0.10 or newer, or with -H)"
            ))
        })?;
        Ok(Proof::Minisign { key: Box::new(key), signature: Box::new(signature) })
    }
}

const HOW: &str = "without a signature beside it: --sha256 HEX, --minisign FILE|URL, or --insecure-no-verify";

fn beside(source: &Place) -> Result<Place> {
    match source {
        Place::Url(url) => {
            let mut url = url.clone();
            url.set_path(&format!("{}.minisig", url.path()));
            Ok(Place::Url(url))
        }
        Place::File(path) => {
            let mut path = path.clone().into_os_string();
            path.push(".minisig");
            Ok(Place::File(path.into()))
        }
        Place::Stdin => Err(Usage(format!("standard input has nothing beside it: {HOW}")).into()),
    }
}

fn read_signature(place: &Place, init: &Path) -> Result<String> {
    let bytes = match place {
        Place::Url(url) => http::small_file(init, url, SIGNATURE_LIMIT).context("fetching the signature")?,
        Place::File(path) => {
            let mut bytes = Vec::new();
            let file = File::open(path).with_context(|| format!("opening the signature {place}"))?;
            let read = file.take(SIGNATURE_LIMIT as u64).read_to_end(&mut bytes);
            read.with_context(|| format!("reading the signature {place}"))?;
            bytes
        }
        Place::Stdin => return Err(anyhow!("a signature cannot come by standard input")),
    };
    String::from_utf8(bytes).map_err(|_| anyhow!("{place} is no minisign signature"))
}

/// Whose signatures are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// All `*.pub` in a folder: the image's own.
    Folder(PathBuf),
    /// One file, or the key itself as `minisign -P` takes it.
    One(String),
}

impl Keys {
    fn read(&self) -> Result<Vec<PublicKey>> {
        match self {
            Keys::One(word) => {
                if let Ok(key) = PublicKey::from_base64(word) {
                    return Ok(vec![key]);
                }
                Ok(vec![read_key(Path::new(word))?])
            }
            Keys::Folder(folder) => {
                let mut paths: Vec<PathBuf> =
                    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
                paths.retain(|path| path.extension().is_some_and(|extension| extension == "pub"));
                ensure!(paths.len() <= KEYS, "{} holds more than {KEYS} keys", folder.display());
                if paths.is_empty() {
                    return Err(refused(format!(
                        "there is no public key in {} to check a signature with: --key FILE, --sha256 HEX, or \
                         --insecure-no-verify",
                        folder.display()
                    )));
                }
                paths.iter().map(|path| read_key(path)).collect()
            }
        }
    }
}

fn read_key(path: &Path) -> Result<PublicKey> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading the key {}", path.display()))?;
    PublicKey::decode(&text).map_err(|_| anyhow!("{} is no minisign public key", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_64_digits() {
        let text = "00ff".repeat(16);
        assert_eq!(parse_sha256(&format!(" {}\n", text.to_uppercase())).unwrap()[..3], [0, 0xff, 0]);
        for bad in ["", "00", &text[1..], &format!("{}é", &text[2..]), &text.replace('f', "g")] {
            assert!(parse_sha256(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signature_is_beside_its_image() {
        let url = Place::parse("http://a:8/x/disk.img.xz?site=1").unwrap();
        assert_eq!(beside(&url).unwrap().to_string(), "http://a:8/x/disk.img.xz.minisig?site=1");
        let file = Place::parse("/a/disk.img").unwrap();
        assert_eq!(beside(&file).unwrap().to_string(), "/a/disk.img.minisig");
        assert!(beside(&Place::Stdin).is_err());
    }
}
