//! An OS image's manifest: `NAME.json` beside `NAME.squashfs`, signed by `NAME.json.minisig`.
//!
//! The JSON is outside input. [`Manifest::parse`] turns it into a checked type, and [`Manifest::verify`] is the only
//! way from signed bytes to it.

use minisign_verify::PublicKey;
use serde::{Deserialize, Serialize};

use crate::signed::{self, SignedError};

/// The version of this format.
pub const MANIFEST_FORMAT: u32 = 1;
/// No manifest is longer than this many bytes: 16 GiB of image in 1 MiB chunks take about 1.1 MB.
pub const MANIFEST_LIMIT: usize = 4 << 20;
/// Chunk sizes that are allowed: powers of two from 64 KiB to 16 MiB.
pub const CHUNK_SIZES: std::ops::RangeInclusive<u64> = (64 << 10)..=(16 << 20);

/// The file as it is written. Anything may be in it: see [`Manifest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// The version of the format: [`MANIFEST_FORMAT`].
    pub format: u32,
    /// The image's name.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// `arm64`.
    pub architecture: String,
    /// The kernel releases that the image has modules for.
    pub kernel_releases: Vec<String>,
    /// The squashfs' size in bytes.
    pub size: u64,
    /// The size of a chunk in bytes; the last chunk may be shorter.
    pub chunk_size: u64,
    /// The BLAKE3 of each chunk, 64 hexadecimal digits each.
    pub blake3: Vec<String>,
    /// Grows with each image of this name.
    pub serial: u64,
}

/// A manifest whose figures agree with each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The image's name.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// The kernel releases that the image has modules for.
    pub kernel_releases: Vec<String>,
    /// The squashfs' size in bytes, at least 1.
    pub size: u64,
    /// The size of a chunk in bytes, one of [`CHUNK_SIZES`].
    pub chunk_size: u64,
    /// The BLAKE3 of each chunk: exactly as many as `size` needs.
    pub chunks: Vec<[u8; 32]>,
    /// Grows with each image of this name.
    pub serial: u64,
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is too long to be one.
    #[error("it has {0} bytes, more than the limit of {MANIFEST_LIMIT}")]
    TooLong(usize),
    /// It is not JSON of this form.
    #[error("it is not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// Its figures do not agree.
    #[error("{0}")]
    Content(String),
    /// Its signature is wrong.
    #[error(transparent)]
    Signature(#[from] SignedError),
}

impl Manifest {
    /// Checks the signature against the keys, then the content.
    ///
    /// # Errors
    /// Any [`ManifestError`]; nothing of an unsigned manifest is looked at.
    pub fn verify(json: &[u8], signature: &str, keys: &[PublicKey]) -> Result<Self, ManifestError> {
        signed::verify(json, signature, keys)?;
        Self::parse(json)
    }

    /// Checks the content alone, for tools on the host that sign or show a manifest.
    ///
    /// # Errors
    /// [`ManifestError::TooLong`], [`ManifestError::Json`] or [`ManifestError::Content`].
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        if json.len() > MANIFEST_LIMIT {
            return Err(ManifestError::TooLong(json.len()));
        }
        let file: ManifestFile = serde_json::from_slice(json)?;
        let refuse = |why: String| Err(ManifestError::Content(why));
        if file.format != MANIFEST_FORMAT {
            return refuse(format!("its format is {}, this image knows {MANIFEST_FORMAT}", file.format));
        }
        if file.architecture != "arm64" {
            return refuse(format!("it is for {:?}, this machine is arm64", file.architecture));
        }
        if !valid_name(&file.name) {
            return refuse(format!("its name {:?} is not 1 to 64 of A-Z a-z 0-9 . _ + -", file.name));
        }
        if !file.chunk_size.is_power_of_two() || !CHUNK_SIZES.contains(&file.chunk_size) {
            return refuse(format!(
                "its chunk size {} is no power of two from 64 KiB to 16 MiB",
                file.chunk_size
            ));
        }
        if file.size == 0 || file.size.div_ceil(file.chunk_size) != file.blake3.len() as u64 {
            return refuse(format!(
                "{} hashes do not fit {} bytes in chunks of {}",
                file.blake3.len(),
                file.size,
                file.chunk_size
            ));
        }
        let chunks = file.blake3.iter().map(|text| from_hex(text)).collect::<Option<Vec<_>>>();
        let Some(chunks) = chunks else { return refuse("a hash is not 64 hexadecimal digits".into()) };
        Ok(Manifest {
            name: file.name,
            version: file.version,
            kernel_releases: file.kernel_releases,
            size: file.size,
            chunk_size: file.chunk_size,
            chunks,
            serial: file.serial,
        })
    }
}

/// Whether `name` can name an image: it becomes part of URLs and paths.
pub fn valid_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
}

/// 32 bytes from 64 hexadecimal digits.
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> ManifestFile {
        ManifestFile {
            format: 1,
            name: "debian".into(),
            version: "13".into(),
            architecture: "arm64".into(),
            kernel_releases: vec!["6.12.1-arm64".into()],
            size: (1 << 20) + 1,
            chunk_size: 1 << 20,
            blake3: vec!["00".repeat(32), "ff".repeat(32)],
            serial: 1,
        }
    }

    fn parse(file: &ManifestFile) -> Result<Manifest, ManifestError> {
        Manifest::parse(&serde_json::to_vec(file).unwrap())
    }

    #[test]
    fn a_good_one_parses() {
        let manifest = parse(&sample()).unwrap();
        assert_eq!(manifest.chunks, [[0; 32], [0xff; 32]]);
    }

    #[test]
    fn figures_must_agree() {
        for change in [
            |m: &mut ManifestFile| m.format = 2,
            |m: &mut ManifestFile| m.size = 0,
            |m: &mut ManifestFile| m.size = 1 << 20,
            |m: &mut ManifestFile| m.size = u64::MAX,
            |m: &mut ManifestFile| m.chunk_size = 0,
            |m: &mut ManifestFile| m.chunk_size = 3 << 19,
            |m: &mut ManifestFile| m.chunk_size = 1 << 63,
            |m: &mut ManifestFile| m.blake3[0] = "0".into(),
            |m: &mut ManifestFile| m.blake3[1] = "é".repeat(32),
            |m: &mut ManifestFile| m.blake3[1] = "+1".repeat(32),
            |m: &mut ManifestFile| m.name = "../x".into(),
            |m: &mut ManifestFile| m.architecture = "amd64".into(),
        ] {
            let mut file = sample();
            change(&mut file);
            assert!(matches!(parse(&file), Err(ManifestError::Content(_))), "{file:?}");
        }
    }

    #[test]
    fn only_the_signed_bytes_are_accepted() {
        let json = serde_json::to_vec(&sample()).unwrap();
        let ours = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let other = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let key = |pair: &minisign::KeyPair| PublicKey::from_base64(&pair.pk.to_base64()).unwrap();
        let signature = minisign::sign(None, &ours.sk, &json[..], None, None).unwrap().into_string();

        assert!(Manifest::verify(&json, &signature, &[key(&other), key(&ours)]).is_ok());
        assert!(matches!(
            Manifest::verify(&json, &signature, &[]),
            Err(ManifestError::Signature(SignedError::NoKeys))
        ));
        assert!(matches!(
            Manifest::verify(&json, &signature, &[key(&other)]),
            Err(ManifestError::Signature(SignedError::UnknownKey(1)))
        ));
        assert!(matches!(
            Manifest::verify(&json, "x", &[key(&ours)]),
            Err(ManifestError::Signature(SignedError::SignatureFile(_)))
        ));
        let mut changed = json.clone();
        changed[20] ^= 1;
        assert!(matches!(
            Manifest::verify(&changed, &signature, &[key(&ours)]),
            Err(ManifestError::Signature(SignedError::BadSignature))
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::parse(&bytes);
        }
    }
}
