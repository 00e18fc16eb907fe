//! `manifest.json`: what is in an image, file by file, and where each file comes from.

use crate::boot_file::BootFile;
use crate::config::Repository;
use crate::digest;
use crate::package::Package;
use crate::tree::{Node, Origin, Tree};
use anyhow::{Context, Result};
use serde::Serialize;

/// The version of the manifest's format.
pub const MANIFEST_FORMAT: u32 = 1;

/// The whole manifest.
#[derive(Debug, Serialize)]
pub struct Manifest {
    /// The version of the format: [`MANIFEST_FORMAT`].
    pub format: u32,
    /// The image's name.
    pub name: String,
    /// The build's time: Unix seconds.
    pub built: u64,
    /// The version of `boot-files`.
    pub boot_files: &'static str,
    /// The kernel's release, as `uname -r` says it.
    pub kernel_release: String,
    /// The image itself.
    pub image: FileEntry,
    /// Where packages came from.
    pub repositories: Vec<RepositoryEntry>,
    /// Every package that was used.
    pub packages: Vec<Package>,
    /// The files of `boot.img` and of the TFTP tree.
    pub boot: Vec<FileEntry>,
    /// The files of the initramfs.
    pub initramfs: Vec<FileEntry>,
    /// The files of the squashfs in it that becomes `/usr`.
    pub usr: Vec<FileEntry>,
}

/// A repository.
#[derive(Debug, Serialize)]
pub struct RepositoryEntry {
    /// Base addresses.
    pub uris: Vec<String>,
    /// Suites.
    pub suites: Vec<String>,
    /// Components.
    pub components: Vec<String>,
}

impl From<&Repository> for RepositoryEntry {
    fn from(repository: &Repository) -> Self {
        let Repository { uris, suites, components, .. } = repository.clone();
        RepositoryEntry { uris, suites, components }
    }
}

/// One file.
#[derive(Debug, Serialize)]
pub struct FileEntry {
    /// Its path.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

impl FileEntry {
    /// Of a file's content.
    pub fn new(path: &str, data: &[u8], origin: &Origin) -> FileEntry {
        FileEntry {
            path: path.into(),
            size: data.len() as u64,
            sha256: digest::hex(data),
            origin: origin.clone(),
        }
    }
}

/// The entries of the files that the firmware loads.
pub fn of_boot(files: &[BootFile]) -> Vec<FileEntry> {
    files.iter().map(|file| FileEntry::new(&file.name, &file.data, &file.origin)).collect()
}

/// The entries of the initramfs's files.
pub fn of_tree(tree: &Tree) -> Vec<FileEntry> {
    tree.iter()
        .filter_map(|(path, entry)| match &entry.node {
            Node::File(data) => Some(FileEntry::new(path, data, &entry.origin)),
            _ => None,
        })
        .collect()
}

impl Manifest {
    /// The text of `manifest.json`.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self).context("writing the manifest")? + "\n")
    }
}
