//! The files that are booted and served.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Arguments;
use crate::case::Goal;

/// The host, as a guest of QEMU's user network sees it.
const HOST: &str = "10.0.2.2";

/// What the runs need.
#[derive(Debug)]
pub(crate) struct Site {
    /// The peers' initramfs files.
    pub(crate) peers: PathBuf,
    /// Our initramfs files and keys.
    pub(crate) ours: PathBuf,
    /// The kernel's image.
    pub(crate) kernel: Vec<u8>,
    /// Where the consoles go.
    pub(crate) log: PathBuf,
    /// Whether the large image is used at all.
    pub(crate) has_large: bool,
    port: u16,
}

impl Site {
    pub(crate) fn new(arguments: &Arguments, port: u16) -> Result<Self> {
        let log = arguments.ours.join("log");
        std::fs::create_dir_all(&log).with_context(|| format!("making {}", log.display()))?;
        Ok(Self {
            peers: arguments.peers.clone(),
            ours: arguments.ours.clone(),
            kernel: read(&arguments.kernel)?,
            log,
            has_large: arguments.large_rounds > 0,
            port,
        })
    }

    /// Which OS image a goal takes.
    fn image(&self, goal: Goal) -> &'static str {
        match goal {
            Goal::Large => "large-zstd.squashfs",
            Goal::Fetch if self.has_large => "large-zstd.squashfs",
            _ => "small-zstd.squashfs",
        }
    }

    /// Its address, as the guest sees it.
    pub(crate) fn url(&self, goal: Goal) -> String {
        format!("http://{HOST}:{}/{}", self.port, self.image(goal))
    }

    /// Its size in bytes.
    pub(crate) fn image_size(&self, goal: Goal) -> Result<u64> {
        let path = self.ours.join("site").join(self.image(goal));
        Ok(path.metadata().with_context(|| format!("looking at {}", path.display()))?.len())
    }
}

/// A whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}
