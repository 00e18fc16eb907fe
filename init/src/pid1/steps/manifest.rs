//! Step `manifest`: learns what the images are, and whether somebody we trust says so.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use minisign_verify::PublicKey;
use reqwest::blocking::Client;
use url::Url;

use crate::config::KEYS_DIR;
use crate::manifest::{MANIFEST_LIMIT, Manifest};
use crate::pid1::boot::Boot;
use crate::pid1::image::{Hashes, Image};
use crate::pid1::rollback::Known;
use crate::pid1::tls::Dates;
use crate::pid1::{clock, http};
use crate::plan::Trust;
use crate::signed::SIGNATURE_LIMIT;

/// Images without a manifest are fetched in pieces of this size.
const PIECE: u64 = 1 << 20;

/// What an image is held against.
#[derive(Clone, Copy)]
struct Here<'a> {
    /// The running kernel's release, where the image should have modules for it.
    kernel: Option<&'a str>,
    /// Which serial numbers are too old.
    known: &'a Known,
}

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let ram_boot = boot.ram_boot()?;
    let root = (&ram_boot.url, &ram_boot.mirrors, &ram_boot.trust);
    let layers = ram_boot.layers.iter().map(|layer| (&layer.url, &layer.mirrors, &Trust::Signed));
    let places: Vec<_> = [root].into_iter().chain(layers).collect();
    let client = http::client(&boot.plan.transport, Dates::Told)?;
    let booted = boot.kept.as_ref().map(|kept| kept.serials.clone()).unwrap_or_default();
    let known = Known { floor: boot.config.serials.clone(), booted };
    let mut images = Vec::new();
    for (n, (url, mirrors, trust)) in places.into_iter().enumerate() {
        // A layer need not have modules.
        let kernel = (n == 0).then_some(boot.machine.kernel.as_str());
        images.push(learn_from_any(&client, url, mirrors, trust, Here { kernel, known: &known })?);
    }
    boot.images = images;
    Ok(())
}

/// What the image at the first of these places is that says something good.
fn learn_from_any(
    client: &Client,
    url: &Url,
    mirrors: &[Url],
    trust: &Trust,
    here: Here<'_>,
) -> Result<Image> {
    let sources: Vec<&Url> = [url].into_iter().chain(mirrors).collect();
    let mut failures = Vec::new();
    for (n, url) in sources.iter().enumerate() {
        match learn(client, url, trust, here) {
            Ok(image) => {
                let others = sources.iter().enumerate().filter(|(other, _)| *other != n);
                let mirrors = others.map(|(_, url)| Url::clone(url)).collect();
                return Ok(Image { mirrors, ..image });
            }
            Err(error) if sources.len() == 1 => return Err(error),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!("none of {} sources: {}", sources.len(), failures.join("; "))
}

/// What the image at this place is.
fn learn(client: &Client, url: &Url, trust: &Trust, Here { kernel, known }: Here<'_>) -> Result<Image> {
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
    known.refuse_older(&manifest)?;
    tracing::info!(
        "image {} {} (serial {}): {}, signature good",
        manifest.name,
        manifest.version,
        manifest.serial,
        crate::size::human(manifest.size)
    );
    if let Some(kernel) = kernel
        && !manifest.kernel_releases.iter().any(|release| release == kernel)
    {
        tracing::info!("it has no modules for the running kernel {kernel}");
    }
    let (size, chunk_size) = (manifest.size, manifest.chunk_size);
    Ok(Image { url, mirrors, size, chunk_size, hashes: Hashes::Chunks(manifest.chunks) })
}

/// `NAME.squashfs` → `NAME` + `suffix`, the query kept.
fn sibling(url: &Url, suffix: &str) -> Result<Url> {
    let path = url.path().strip_suffix(".squashfs").context("the image's URL does not end in .squashfs")?;
    let mut sibling = url.clone();
    sibling.set_path(&format!("{path}{suffix}"));
    Ok(sibling)
}

/// The public keys in the image. One that cannot be read is an error: the builder put it there for a reason.
pub(crate) fn keys(folder: &Path) -> Result<Vec<PublicKey>> {
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
