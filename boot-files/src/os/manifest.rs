//! The manifest beside a squashfs: the hashes by which a Pi checks each chunk as it arrives.

use super::meter::Meter;
use anyhow::{Context, Result, ensure};
use init::manifest::{MANIFEST_FORMAT, Manifest, ManifestFile};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek};

/// What a manifest says beside the hashes.
#[derive(Clone, Debug)]
pub struct Description {
    /// The image's name.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// The kernels it has modules for.
    pub kernel_releases: Vec<String>,
    /// Grows with each image of this name.
    pub serial: u64,
}

/// A manifest's bytes, and the hash of the whole image.
pub struct Made {
    /// The JSON as it is written and signed.
    pub json: Vec<u8>,
    /// The squashfs' size in bytes.
    pub size: u64,
    /// Its SHA-256, 64 hexadecimal digits: for `lifeboat.sha256=`.
    pub sha256: String,
}

/// Reads the squashfs once and makes its manifest.
///
/// # Errors
/// If it cannot be read, or the manifest would be one that a Pi refuses.
pub fn make(squashfs: &mut File, chunk_size: u64, description: Description) -> Result<Made> {
    squashfs.rewind().context("reading the squashfs")?;
    let meter = Meter::new("hashing", squashfs.metadata().context("reading the squashfs")?.len());
    let mut chunk = Vec::with_capacity(usize::try_from(chunk_size)?);
    let (mut size, mut blake3, mut sha256) = (0, Vec::new(), Sha256::new());
    loop {
        chunk.clear();
        let length = (&*squashfs).take(chunk_size).read_to_end(&mut chunk).context("reading the squashfs")?;
        if length == 0 {
            break;
        }
        blake3.push(blake3::hash(&chunk).to_hex().to_string());
        sha256.update(&chunk);
        size += length as u64;
        meter.add(length as u64);
    }
    meter.finish();
    let Description { name, version, kernel_releases, serial } = description;
    let format = MANIFEST_FORMAT;
    let architecture = "arm64".to_owned();
    let file = ManifestFile {
        format,
        name,
        version,
        architecture,
        kernel_releases,
        size,
        chunk_size,
        blake3,
        serial,
    };
    let mut json = serde_json::to_vec_pretty(&file).context("writing the manifest")?;
    json.push(b'\n');
    // What a Pi would refuse must not be signed.
    Manifest::parse(&json)
        .context("checking the manifest as a Pi will (a larger --chunk-size makes it shorter)")?;
    let sha256: [u8; 32] = sha256.finalize().into();
    let sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    ensure!(size > 0, "the squashfs is empty");
    Ok(Made { json, size, sha256 })
}
