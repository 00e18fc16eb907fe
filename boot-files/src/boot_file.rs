//! One file of `boot.img` and of the TFTP tree.

use crate::tree::Origin;

/// A file that the Pi's firmware loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    /// Its path in the image; at most one folder deep.
    pub name: String,
    /// Its content.
    pub data: Vec<u8>,
    /// Where it comes from.
    pub origin: Origin,
}

impl BootFile {
    /// A file that this program made.
    pub fn own(name: &str, data: impl Into<Vec<u8>>) -> BootFile {
        BootFile { name: name.into(), data: data.into(), origin: Origin::own() }
    }
}
