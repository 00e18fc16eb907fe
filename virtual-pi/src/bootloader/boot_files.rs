//! Where the firmware's files lie: in a boot.img, or on a TFTP server.

use super::log::Log;
use super::refusal::Refusal;

/// A place with boot files.
pub trait BootFiles {
    /// Reads a file; gives `None` when there is none of this name.
    ///
    /// # Errors
    /// When there may be one, and it cannot be read.
    fn read(&mut self, name: &str, log: &mut Log) -> Result<Option<Vec<u8>>, Refusal>;

    /// Whether a file of this name is there.
    ///
    /// # Errors
    /// As [`BootFiles::read`].
    fn has(&mut self, name: &str, log: &mut Log) -> Result<bool, Refusal>;

    /// The place, as it goes after "it is not".
    fn place(&self) -> &'static str;
}
