//! The Pi's own firmware: `start4.elf` and its `fixup4.dat`, which the bootloader loads before the kernel.

use crate::boot_file::BootFile;
use crate::recipe::Recipe;
use crate::store::Store;
use crate::tree::Node;
use anyhow::{Result, bail};

/// The files of the firmware package that go into `boot.img`.
///
/// # Errors
/// If the package does not exist or lacks a file.
pub fn fetch(recipe: &Recipe, store: &mut Store<'_>) -> Result<Vec<BootFile>> {
    store.load([recipe.firmware_package.as_str()])?;
    let deb = store.deb(&recipe.firmware_package)?;
    let mut files = Vec::new();
    for name in &recipe.firmware_files {
        let found = deb.files.iter().find(|(path, _)| path.rsplit('/').next() == Some(name));
        match found.map(|(_, entry)| (&entry.node, &entry.origin)) {
            Some((Node::File(data), origin)) => {
                files.push(BootFile { name: name.clone(), data: data.clone(), origin: origin.clone() });
            }
            _ => bail!("[firmware] package {} {} has no file {name}", deb.package.name, deb.package.version),
        }
    }
    Ok(files)
}
