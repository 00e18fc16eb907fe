//! `lifeboat.hostkey=DEVICE:/PATH`: an SSH host key that stays the same, on a partition of the Pi's own. The SSH server
//! reads it by itself.

use crate::disk_file::DiskFile;
use crate::plan::Parameter;

/// The parameter's name.
pub const PARAMETER: &str = "lifeboat.hostkey";

/// Our own parameters that this file reads: see [`crate::plan::parameters`].
pub(crate) const PARAMETERS: &[Parameter] =
    &[(PARAMETER, "DEVICE:/PATH", "take the SSH host key from this file on a disk, which is only read")];

/// Looks whether a word is right; `false`: it is none of these.
pub(crate) fn take(name: &str, value: &str) -> Result<bool, String> {
    if name == PARAMETER { DiskFile::parse(value).map(|_| true) } else { Ok(false) }
}
