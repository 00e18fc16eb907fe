//! What the files of an image are called.

use anyhow::{Result, bail, ensure};
use init::manifest::valid_name;
use std::path::{Path, PathBuf};

/// The names of an image's three files, and its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Where they are.
    pub folder: PathBuf,
    /// `NAME.squashfs`
    pub squashfs: PathBuf,
    /// `NAME.json`
    pub manifest: PathBuf,
    /// `NAME.json.minisig`
    pub signature: PathBuf,
    /// The name in the manifest.
    pub name: String,
}

impl Names {
    /// From the squashfs' path; `name` if it is not to be called as its file is.
    ///
    /// # Errors
    /// If the path does not end in `.squashfs`, its folder is missing, or the name is one that a manifest cannot have.
    pub fn new(squashfs: &Path, name: Option<&str>) -> Result<Self> {
        let stem = squashfs
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".squashfs"));
        let Some(stem) = stem.filter(|stem| !stem.is_empty()) else {
            bail!(
                "{} has to be called NAME.squashfs: a Pi finds the manifest NAME.json by it",
                squashfs.display()
            )
        };
        let name = name.unwrap_or(stem);
        ensure!(
            valid_name(name),
            "the name {name:?} is not 1 to 64 of A-Z a-z 0-9 . _ + - (--name gives another)"
        );
        let folder = squashfs.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        ensure!(folder.is_dir(), "there is no folder {}", folder.display());
        Ok(Names {
            folder: folder.to_owned(),
            squashfs: squashfs.to_owned(),
            manifest: squashfs.with_file_name(format!("{stem}.json")),
            signature: squashfs.with_file_name(format!("{stem}.json.minisig")),
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_after_the_squashfs() {
        let names = Names::new(Path::new("/tmp/debian-13.1.squashfs"), None).unwrap();
        assert_eq!(names.manifest, Path::new("/tmp/debian-13.1.json"));
        assert_eq!(names.signature, Path::new("/tmp/debian-13.1.json.minisig"));
        assert_eq!(names.name, "debian-13.1");
        assert_eq!(Names::new(Path::new("a b.squashfs"), Some("ab")).unwrap().name, "ab");
        assert_eq!(Names::new(Path::new("x.squashfs"), None).unwrap().folder, Path::new("."));
    }

    #[test]
    fn names_that_a_pi_could_not_use_are_refused() {
        for path in ["x.img", ".squashfs", "a b.squashfs", "/nonexistent/x.squashfs", "squashfs"] {
            assert!(Names::new(Path::new(path), None).is_err(), "{path}");
        }
    }
}
