//! The images among the files: each `NAME.squashfs` that has a manifest beside it.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use init::manifest::{MANIFEST_LIMIT, Manifest};
use init::signed::SIGNATURE_LIMIT;
use rustix::fd::OwnedFd;
use rustix::fs::{Dir, FileType, OFlags};
use serde::Serialize;

use crate::http::conditions::Version;
use crate::http::files::Root;

/// How deep folders are looked into, how many names are looked at and how many images are shown: a root may hold anything.
const DEPTH: usize = 8;
const NAMES: usize = 20_000;
const IMAGES: usize = 500;

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Image {
    /// The path of its squashfs below the root.
    pub path: String,
    /// Its name, by the manifest.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// The squashfs' size in bytes, by the manifest.
    pub size: u64,
    /// Grows with each image of this name.
    pub serial: u64,
    /// The minisign key that the signature says it is by. This server has no public keys: Pis check it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Images that were read, by the path of their squashfs.
#[derive(Debug, Default)]
pub struct Images {
    read: Mutex<HashMap<PathBuf, Read>>,
}

/// An image, and the versions of the files that it was read from.
#[derive(Debug)]
struct Read {
    versions: [Option<String>; 3],
    image: Image,
}

impl Images {
    /// All images below the root, by path. Blocks; reads only what changed since.
    pub fn list(&self, root: &Root) -> Vec<Image> {
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = HashMap::new();
        for squashfs in squashfs_files(root) {
            let files = ["squashfs", "json", "json.minisig"].map(|end| squashfs.with_extension(end));
            let versions = files.each_ref().map(|file| open(root, file).map(|(_, version)| version.etag()));
            let image = match known.remove(&squashfs) {
                Some(read) if read.versions == versions => read.image,
                _ => read_image(root, &files),
            };
            now.insert(squashfs, Read { versions, image });
        }
        *known = now;
        let mut images: Vec<_> = known.values().map(|read| read.image.clone()).collect();
        images.sort();
        images
    }
}

fn open(root: &Root, path: &Path) -> Option<(OwnedFd, Version)> {
    let file = root.open_below(path, OFlags::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| (file, Version::from(&stat)))
}

/// Reads a small file; `None` where there is none that could be read, or a longer one.
fn read(root: &Root, path: &Path, limit: usize) -> Option<Vec<u8>> {
    use std::io::Read;
    let (file, version) = open(root, path)?;
    let mut bytes = Vec::new();
    let read = std::fs::File::from(file).take(limit as u64 + 1).read_to_end(&mut bytes).ok()?;
    (read <= limit && version.size <= limit as u64).then_some(bytes)
}

fn squashfs_files(root: &Root) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = VecDeque::from([(PathBuf::new(), 0)]);
    let mut names = 0;
    while let Some((folder, depth)) = folders.pop_front() {
        let opened = if depth == 0 { Path::new(".") } else { folder.as_path() };
        let Ok(opened) = root.open_below(opened, OFlags::DIRECTORY) else { continue };
        let Ok(entries) = Dir::read_from(&opened) else { continue };
        for entry in entries.flatten() {
            names += 1;
            if names > NAMES || found.len() >= IMAGES {
                tracing::warn!("the list of images ends at {IMAGES} images or {NAMES} files");
                return found;
            }
            // A name that is no UTF-8 cannot be written in a plan.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let path = folder.join(name);
            match entry.file_type() {
                FileType::Directory if depth < DEPTH => folders.push_back((path, depth + 1)),
                FileType::RegularFile | FileType::Symlink | FileType::Unknown
                    if name.ends_with(".squashfs") =>
                {
                    found.push(path);
                }
                _ => {}
            }
        }
    }
    found
}

fn read_image(root: &Root, [squashfs, json, minisig]: &[PathBuf; 3]) -> Image {
    let path = squashfs.display().to_string();
    let unknown = |problem: String| Image {
        name: squashfs.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
        path: path.clone(),
        version: String::new(),
        size: open(root, squashfs).map_or(0, |(_, version)| version.size),
        serial: 0,
        key_id: None,
        problem: Some(problem),
    };
    let Some(bytes) = read(root, json, MANIFEST_LIMIT) else {
        return unknown("it has no manifest: a Pi takes it only by lifeboat.sha256=".into());
    };
    let manifest = match Manifest::parse(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => return unknown(format!("its manifest: {error}")),
    };
    let signature = read(root, minisig, SIGNATURE_LIMIT);
    let key_id = signature.and_then(|bytes| key_id(std::str::from_utf8(&bytes).ok()?));
    let there = open(root, squashfs).map(|(_, version)| version.size);
    let problem = match there {
        None => Some("it cannot be read".into()),
        Some(size) if size != manifest.size => {
            Some(format!("it has {size} bytes, and its manifest says {}", manifest.size))
        }
        Some(_) if key_id.is_none() => Some("it is not signed: Pis refuse it".into()),
        Some(_) => None,
    };
    let Manifest { name, version, size, serial, .. } = manifest;
    Image { path, name, version, size, serial, key_id, problem }
}

/// The number of the key that a minisign signature says it is by, as minisign prints it. `None`: it is no signature.
pub fn key_id(signature: &str) -> Option<String> {
    use base64::Engine;
    let line = signature.lines().find(|line| !line.starts_with("untrusted comment:"))?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(line.trim()).ok()?;
    // Two bytes of algorithm, eight of the key's number, 64 of signature.
    let id: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
    let is_signature = bytes.len() == 74 && matches!(bytes.get(..2), Some(b"Ed" | b"ED"));
    is_signature.then(|| format!("{:016X}", u64::from_le_bytes(id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use init::manifest::ManifestFile;
    use proptest::prelude::*;

    fn put(root: &Path, name: &str, size: u64, serial: u64) -> Vec<u8> {
        let manifest = ManifestFile {
            format: 1,
            name: "debian".into(),
            version: "13".into(),
            architecture: "arm64".into(),
            kernel_releases: vec![],
            size,
            chunk_size: 1 << 20,
            blake3: vec!["00".repeat(32)],
            serial,
        };
        let json = serde_json::to_vec(&manifest).unwrap();
        std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        std::fs::write(root.join(name), vec![0; size as usize]).unwrap();
        std::fs::write(root.join(name).with_extension("json"), &json).unwrap();
        json
    }

    #[test]
    fn what_is_there_and_what_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let json = put(root, "os/a.squashfs", 10, 3);
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let signature = minisign::sign(None, &pair.sk, json.as_slice(), None, None).unwrap().to_string();
        std::fs::write(root.join("os/a.json.minisig"), &signature).unwrap();
        put(root, "b.squashfs", 10, 1);
        std::fs::write(root.join("c.squashfs"), "x").unwrap();
        std::fs::write(root.join("d.squashfs"), "x").unwrap();
        std::fs::write(root.join("d.json"), "{").unwrap();
        put(root, ".hidden/e.squashfs", 10, 1);
        std::os::unix::fs::symlink("/etc/passwd", root.join("f.squashfs")).unwrap();

        let opened = Root::open(root).unwrap();
        let images = Images::default();
        let list = images.list(&opened);
        let short: Vec<_> =
            list.iter().map(|i| (i.path.as_str(), i.problem.as_deref().unwrap_or("-"))).collect();
        assert_eq!(short[0], ("b.squashfs", "it is not signed: Pis refuse it"));
        assert!(short[1].1.starts_with("it has no manifest"));
        assert!(short[2].1.starts_with("its manifest: it is not a manifest"));
        assert_eq!(short[4], ("os/a.squashfs", "-"));
        let id = list[4].key_id.clone().unwrap();
        assert!(pair.pk.to_box().unwrap().to_string().contains(&id), "{id}");
        assert_eq!((list[4].serial, list[4].size), (3, 10));

        std::fs::write(root.join("os/a.squashfs"), "shorter").unwrap();
        assert_eq!(
            images.list(&opened)[4].problem.as_deref(),
            Some("it has 7 bytes, and its manifest says 10")
        );
        std::fs::remove_file(root.join("os/a.squashfs")).unwrap();
        assert_eq!(images.list(&opened).len(), 4);
    }

    proptest! {
        #[test]
        fn no_signature_panics(text in "(untrusted comment: \\PC{0,9}\n)?[A-Za-z0-9+/=]{0,104}\n?\\PC{0,9}") {
            key_id(&text);
        }
    }

    #[test]
    fn no_signature_no_key() {
        for text in ["", "untrusted comment: x", "untrusted comment: x\nAAAA\n", "\u{e4}"] {
            assert_eq!(key_id(text), None, "{text}");
        }
    }
}
