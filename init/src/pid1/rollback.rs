//! Which images are too old: those whose serial number is below the newest one that is known of their name (invariant 5).
//!
//! Known from three places: this boot, the image that we are in (`[serials]` of image.toml, which is signed with it), and
//! the state that earlier boots left, where `lifeboat.state=` says where.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};

use super::file;
use crate::manifest::Manifest;

/// The newest serial of each image's name that this boot has seen.
const SEEN_PATH: &str = "/run/lifeboat/newest.json";

/// Serial numbers by the names of images.
pub type Serials = BTreeMap<String, u64>;

/// What is known of the serial numbers.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The least that the image takes.
    pub floor: Serials,
    /// The newest that earlier boots have started.
    pub booted: Serials,
}

/// The newest that this boot has seen, each of them signed.
pub fn seen() -> Serials {
    file::read_json(Path::new(SEEN_PATH)).unwrap_or_default()
}

impl Known {
    /// Refuses an image that is too old, and remembers one that is not.
    ///
    /// # Errors
    /// When it is too old, with who knows better; or when it cannot be remembered.
    pub fn refuse_older(&self, manifest: &Manifest) -> Result<()> {
        self.refuse(manifest, Path::new(SEEN_PATH))
    }

    fn refuse(&self, manifest: &Manifest, path: &Path) -> Result<()> {
        let mut seen: Serials = file::read_json(path).unwrap_or_default();
        for (serials, who) in [
            (&seen, "that this boot has seen"),
            (&self.floor, "that this boot.img takes at least ([serials] in image.toml)"),
            (&self.booted, "that an earlier boot has started (lifeboat.state=)"),
        ] {
            let newest = serials.get(&manifest.name).copied().unwrap_or(0);
            ensure!(
                manifest.serial >= newest,
                "the image {} has the serial {}, older than {newest} {who}: somebody serves an old one",
                manifest.name,
                manifest.serial
            );
        }
        seen.insert(manifest.name.clone(), manifest.serial);
        file::replace_json(path, &seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, serial: u64) -> Manifest {
        Manifest {
            name: name.into(),
            version: String::new(),
            kernel_releases: Vec::new(),
            size: 1,
            chunk_size: 1 << 20,
            chunks: vec![[0; 32]],
            serial,
        }
    }

    #[test]
    fn an_older_image_of_the_same_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("newest.json");
        let refuse = |name: &str, serial| Known::default().refuse(&manifest(name, serial), &path);
        refuse("a", 5).unwrap();
        refuse("a", 5).unwrap();
        refuse("b", 1).unwrap();
        assert!(refuse("a", 4).unwrap_err().to_string().contains("older than 5 that this boot has seen"));
        refuse("a", 6).unwrap();
        assert!(refuse("a", 5).is_err());
    }

    #[test]
    fn the_image_and_earlier_boots_know_better() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("newest.json");
        let known =
            Known { floor: [("a".into(), 5)].into(), booted: [("a".into(), 7), ("b".into(), 2)].into() };
        let refuse = |name: &str, serial| known.refuse(&manifest(name, serial), &path);
        for (name, serial, who) in [
            ("a", 4, "older than 5 that this boot.img"),
            ("a", 6, "older than 7 that an earlier boot"),
            ("b", 1, "2 that"),
        ] {
            let error = refuse(name, serial).unwrap_err().to_string();
            assert!(error.contains(who), "{error}");
            assert!(!path.exists(), "what is refused is not remembered");
        }
        refuse("a", 7).unwrap();
        refuse("b", 3).unwrap();
        refuse("c", 0).unwrap();
    }
}
