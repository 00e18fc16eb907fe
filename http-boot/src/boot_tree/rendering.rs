//! Text that is made for one Pi from the file that all share.

use std::path::Path;

use crate::clients::Identity;

/// A file that can be another one for each Pi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// `config.txt`
    Config,
    /// `cmdline.txt`
    CommandLine,
}

impl Text {
    /// By the name that a bootloader asks for, without its prefix.
    pub fn named(path: &Path) -> Option<Self> {
        match path.to_str()? {
            "config.txt" => Some(Self::Config),
            "cmdline.txt" => Some(Self::CommandLine),
            _ => None,
        }
    }
}

/// What is one Pi's own: its text, and whether it gets anything.
pub trait Rendering: Send + Sync + 'static {
    /// Whether `who` finds no file here, so that its bootloader goes on in its `BOOT_ORDER`.
    fn refuses(&self, who: Identity) -> bool;

    /// What `who` gets instead of the `shared` bytes of that file; none: the file as it is. A file in a Pi's own folder is
    /// not asked about.
    fn render(&self, who: Identity, text: Text, shared: &[u8]) -> Option<Vec<u8>>;
}

/// Everybody gets the files as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsTheyAre;

impl Rendering for AsTheyAre {
    fn refuses(&self, _who: Identity) -> bool {
        false
    }

    fn render(&self, _who: Identity, _text: Text, _shared: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
