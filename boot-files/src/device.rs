//! The project's own programs for the device: PID 1 and `rescue`, built before and given as files.

use crate::elf;
use crate::tree::{Origin, Tree};
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// Where cargo leaves them.
pub const DEFAULT_FOLDER: &str = "target/aarch64-unknown-linux-gnu/image";

/// PID 1 and `rescue`, checked: static programs for arm64.
#[derive(Debug)]
pub struct Programs {
    /// PID 1.
    pub init: Vec<u8>,
    /// The rescue's verbs and SSH server.
    pub rescue: Vec<u8>,
}

impl Programs {
    /// Reads them.
    ///
    /// # Errors
    /// If one is missing, or no static program for arm64.
    pub fn read(folder: &Path) -> Result<Programs> {
        Ok(Programs { init: read(folder, "init")?, rescue: read(folder, "rescue")? })
    }

    /// Adds them to the tree.
    ///
    /// # Errors
    /// If there are other files at their paths.
    pub fn put_into(self, tree: &mut Tree) -> Result<()> {
        tree.add_own("init", 0o755, self.init)?;
        // Beside init: it is there also when /usr cannot be mounted.
        tree.add_own("rescue", 0o755, self.rescue)?;
        tree.add_link("usr/bin/rescue", "../../rescue", Origin::own())
    }
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    let data = std::fs::read(&path).with_context(|| {
        format!(
            "reading the device program {} (build it first, or name its folder with --device-binaries)",
            path.display()
        )
    })?;
    let elf = elf::parse(&data).with_context(|| path.display().to_string())?;
    let elf = elf.with_context(|| format!("{} is no program", path.display()))?;
    ensure!(elf.is_static(), "{} is not static: it needs {}", path.display(), elf.needed.join(", "));
    Ok(data)
}
