//! The output folder: written beside, flushed, and only then moved into place, so that nobody ever serves half an image.

use crate::boot_file::BootFile;
use crate::digest;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The folder of the files for TFTP.
const TFTP: &str = "tftp";
/// The record of what an output folder was made from. It also marks the folder as ours to write in.
const RECORD: &str = ".boot-files.json";

/// What an output folder was made from, and what came out.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The fingerprint of all inputs.
    inputs: String,
    /// The SHA-256 of every file, by its path in the folder.
    files: BTreeMap<String, String>,
}

/// Whether the folder holds, untouched, what these inputs make.
pub fn is_unchanged(folder: &Path, inputs: &str) -> bool {
    let record =
        fs::read(folder.join(RECORD)).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
    record.is_some_and(|record| {
        let same = |(name, sum): (&String, &String)| {
            digest::of_file(&folder.join(name)).is_ok_and(|now| now == *sum)
        };
        record.inputs == inputs && record.files.iter().all(same)
    })
}

/// An output that is not in place yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Draft {
    folder: PathBuf,
    draft: TempDir,
    files: BTreeMap<String, String>,
}

impl Draft {
    /// Begins an output for `folder`, and makes the folder if need be.
    ///
    /// # Errors
    /// If it cannot be made, or has a TFTP folder that is not ours.
    pub fn new(folder: &Path) -> Result<Draft> {
        let context = || format!("making the output folder {}", folder.display());
        fs::create_dir_all(folder).with_context(context)?;
        ensure!(
            folder.join(RECORD).exists() || !folder.join(TFTP).exists(),
            "{} is there already and was not made by this program: choose another output folder",
            folder.join(TFTP).display()
        );
        let draft = tempfile::Builder::new().prefix(".draft-").tempdir_in(folder).with_context(context)?;
        Ok(Draft { folder: folder.to_owned(), draft, files: BTreeMap::new() })
    }

    /// Where a file of the draft is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.draft.path().join(name)
    }

    /// Writes a file, and its folder if need be.
    ///
    /// # Errors
    /// If it cannot be written; on a full disk, for one.
    pub fn write(&mut self, name: &str, data: &[u8]) -> Result<()> {
        let context = || format!("writing {}", self.folder.join(name).display());
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(context)?;
        }
        let mut file = File::create_new(&path).with_context(context)?;
        file.write_all(data).and_then(|()| file.sync_all()).with_context(context)?;
        self.files.insert(name.to_owned(), digest::hex(data));
        Ok(())
    }

    /// Writes the tree for TFTP.
    ///
    /// # Errors
    /// As [`Draft::write`].
    pub fn write_tftp(&mut self, files: &[BootFile]) -> Result<()> {
        files.iter().try_for_each(|file| self.write(&format!("{TFTP}/{}", file.name), &file.data))
    }

    /// Moves everything into place.
    ///
    /// # Errors
    /// If a file cannot be moved.
    pub fn place(mut self, inputs: &str) -> Result<()> {
        let record = Record { inputs: inputs.to_owned(), files: std::mem::take(&mut self.files) };
        let text = serde_json::to_vec_pretty(&record).context("writing the record of inputs")?;
        self.write(RECORD, &text)?;
        let tops: Vec<_> = record.files.keys().filter(|name| !name.contains('/')).cloned().collect();
        // Without its record the folder counts as changed: an interruption from here on costs a rebuild, no more.
        let old_record = self.folder.join(RECORD);
        let marker = fs::read(&old_record).is_ok();
        if record.files.keys().any(|name| name.starts_with("tftp/")) {
            fs::set_permissions(self.path(TFTP), fs::Permissions::from_mode(0o755))
                .context("opening tftp to all")?;
            if marker && self.folder.join(TFTP).exists() {
                self.rename(&self.folder.join(TFTP), &self.path("tftp.old"))?;
            }
            self.rename(&self.path(TFTP), &self.folder.join(TFTP))?;
        }
        for name in tops.iter().map(String::as_str).chain([RECORD]) {
            self.rename(&self.path(name), &self.folder.join(name))?;
        }
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("flushing {}", self.folder.display()))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).with_context(|| format!("moving {} into place", to.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &Path, data: &str, inputs: &str) -> Result<()> {
        let mut draft = Draft::new(folder)?;
        draft.write("boot.img", data.as_bytes())?;
        draft.write_tftp(&[BootFile::own("overlays/README", data)])?;
        draft.place(inputs)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_dropped_draft_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let mut draft = Draft::new(&out).unwrap();
        draft.write("boot.img", b"half").unwrap();
        drop(draft);
        assert!(names(&out).is_empty());
    }

    #[test]
    fn unchanged_means_same_inputs_and_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        assert!(!is_unchanged(&out, "a"));
        place(&out, "1", "a").unwrap();
        assert_eq!(names(&out), [".boot-files.json", "boot.img", "tftp"]);
        assert!(is_unchanged(&out, "a"));
        assert!(!is_unchanged(&out, "b"));
        place(&out, "2", "b").unwrap();
        assert_eq!(fs::read_to_string(out.join("tftp/overlays/README")).unwrap(), "2");
        fs::write(out.join("boot.img"), "x").unwrap();
        assert!(!is_unchanged(&out, "b"));
    }

    #[test]
    fn a_foreign_tftp_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tftp")).unwrap();
        let error = place(folder.path(), "1", "a").unwrap_err().to_string();
        assert!(error.contains("was not made by this program"), "{error}");
        assert_eq!(names(folder.path()), ["tftp"]);
    }
}
