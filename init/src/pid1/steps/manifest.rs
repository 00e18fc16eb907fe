//! Step `manifest`: learns what the image is, and whether somebody we trust says so.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use minisign_verify::PublicKey;
use reqwest::blocking::Client;
use url::Url;

use crate::config::KEYS_DIR;
use crate::manifest::{MANIFEST_LIMIT, Manifest, SIGNATURE_LIMIT};
use crate::pid1::boot::Boot;
use crate::pid1::image::{Hashes, Image};
use crate::pid1::tls::Dates;
use crate::pid1::{clock, file, http};
use crate::plan::Trust;

/// The newest serial of each image's name that was seen.
const NEWEST_PATH: &str = "/run/lifeboat/newest.json";
/// Images without a manifest are fetched in pieces of this size.
const PIECE: u64 = 1 << 20;

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let ram_boot = boot.ram_boot()?;
    let sources: Vec<Url> = [&ram_boot.url].into_iter().chain(&ram_boot.mirrors).cloned().collect();
    let client = http::client(&boot.plan.transport, Dates::Told)?;
    let mut failures = Vec::new();
    for (n, url) in sources.iter().enumerate() {
        match learn(&client, url, &ram_boot.trust, &boot.machine.kernel) {
            Ok(image) => {
                let others = sources.iter().enumerate().filter(|(other, _)| *other != n);
                let mirrors = others.map(|(_, url)| url.clone()).collect();
                boot.image = Some(Image { mirrors, ..image });
                return Ok(());
            }
            Err(error) if sources.len() == 1 => return Err(error),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!("none of {} sources: {}", sources.len(), failures.join("; "))
}

/// What the image at this place is.
fn learn(client: &Client, url: &Url, trust: &Trust, kernel: &String) -> Result<Image> {
    let (url, mirrors) = (url.clone(), Vec::new());
    if let Trust::Sha256(hash) = trust {
        let size = http::size(client, &url)?;
        tracing::info!("image {url}: {}", crate::size::human(size));
        return Ok(Image { url, mirrors, size, chunk_size: PIECE, hashes: Hashes::Whole(*hash) });
    }
    let json_url = sibling(&url, ".json")?;
    let signature_url = sibling(&url, ".json.minisig")?;
    let json = http::small_file(client, &json_url, MANIFEST_LIMIT)?;
    let signature = http::small_file(client, &signature_url, SIGNATURE_LIMIT)?;
    let signature = String::from_utf8(signature).with_context(|| format!("{signature_url} is no text"))?;
    let manifest = Manifest::verify(&json, &signature, &keys(Path::new(KEYS_DIR))?)
        .with_context(|| format!("checking {json_url}"))?;
    clock::signed(&signature);
    refuse_older(Path::new(NEWEST_PATH), &manifest)?;
    tracing::info!(
        "image {} {} (serial {}): {}, signature good",
        manifest.name,
        manifest.version,
        manifest.serial,
        crate::size::human(manifest.size)
    );
    if !manifest.kernel_releases.contains(kernel) {
        tracing::info!("it has no modules for the running kernel {kernel}");
    }
    let (size, chunk_size) = (manifest.size, manifest.chunk_size);
    Ok(Image { url, mirrors, size, chunk_size, hashes: Hashes::Chunks(manifest.chunks) })
}

/// Within a boot no image is older than one of the same name that was seen before (invariant 5).
fn refuse_older(path: &Path, manifest: &Manifest) -> Result<()> {
    let mut newest: BTreeMap<String, u64> = file::read_json(path).unwrap_or_default();
    let seen = newest.entry(manifest.name.clone()).or_insert(manifest.serial);
    ensure!(
        manifest.serial >= *seen,
        "the image {} has the serial {}, older than {seen} that this boot has seen: somebody serves an old one",
        manifest.name,
        manifest.serial
    );
    *seen = manifest.serial;
    file::replace_json(path, &newest)
}

/// `NAME.squashfs` → `NAME` + `suffix`, the query kept.
fn sibling(url: &Url, suffix: &str) -> Result<Url> {
    let path = url.path().strip_suffix(".squashfs").context("the image's URL does not end in .squashfs")?;
    let mut sibling = url.clone();
    sibling.set_path(&format!("{path}{suffix}"));
    Ok(sibling)
}

/// The public keys in the image. One that cannot be read is an error: the builder put it there for a reason.
fn keys(folder: &Path) -> Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(keys) };
    for entry in entries.flatten() {
        let path = entry.path();
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let key = PublicKey::decode(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        keys.push(key);
    }
    ensure!(keys.len() <= 64, "{} holds more than 64 keys", folder.display());
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sibling_keeps_host_and_query() {
        let url = Url::parse("http://a:8/x/debian.squashfs?site=1").unwrap();
        assert_eq!(sibling(&url, ".json").unwrap().as_str(), "http://a:8/x/debian.json?site=1");
    }

    #[test]
    fn an_older_image_of_the_same_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("newest.json");
        let manifest = |name: &str, serial| Manifest {
            name: name.into(),
            version: String::new(),
            kernel_releases: Vec::new(),
            size: 1,
            chunk_size: 1 << 20,
            chunks: vec![[0; 32]],
            serial,
        };
        refuse_older(&path, &manifest("a", 5)).unwrap();
        refuse_older(&path, &manifest("a", 5)).unwrap();
        refuse_older(&path, &manifest("b", 1)).unwrap();
        assert!(refuse_older(&path, &manifest("a", 4)).unwrap_err().to_string().contains("older than 5"));
        refuse_older(&path, &manifest("a", 6)).unwrap();
    }

    #[test]
    fn keys_are_read_or_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(keys(&folder.path().join("missing")).unwrap().is_empty());
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        std::fs::write(folder.path().join("a.pub"), pair.pk.to_box().unwrap().to_string()).unwrap();
        assert_eq!(keys(folder.path()).unwrap().len(), 1);
        std::fs::write(folder.path().join("b.pub"), "nonsense").unwrap();
        let error = keys(folder.path()).unwrap_err().to_string();
        assert!(error.contains("b.pub"), "{error}");
    }
}
