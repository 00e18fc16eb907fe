//! The claim on a block device that whatever changes one needs.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::inventory::{Device, Inventory};
use super::usage::{Use, uses};

/// A block device that nothing uses, open for writing and for nobody else (`O_EXCL`: the kernel lets nobody mount it or
/// put a device on it meanwhile). That is all that this type says: the right disk it is not.
#[derive(Debug)]
pub struct Target {
    file: File,
    device: Device,
}

/// Why a device cannot be claimed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// There is none of that name, or it is no block device, or several have that label.
    #[error("refusing to {purpose} {word}: {reason}")]
    NoDevice {
        /// What was to be done, as a verb: "write to".
        purpose: String,
        /// What the person said.
        word: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel lets nobody write to it.
    #[error(
        "refusing to {purpose} {}: it is read-only (a card's write protection? `blockdev --setrw` ends what software set)",
        path.display()
    )]
    ReadOnly {
        /// What was to be done.
        purpose: String,
        /// The device.
        path: PathBuf,
    },
    /// Something uses it.
    #[error("refusing to {purpose} {}: {}", path.display(), list(uses))]
    InUse {
        /// What was to be done.
        purpose: String,
        /// The device.
        path: PathBuf,
        /// By what, in the order in which it can be ended.
        uses: Vec<Use>,
    },
    /// The block devices could not be looked at.
    #[error("looking for what uses {word}: {reason}")]
    Look {
        /// What the person said.
        word: String,
        /// What failed.
        reason: String,
    },
    /// It could not be opened.
    #[error("opening {}: {error}", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

fn list(uses: &[Use]) -> String {
    uses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl ClaimError {
    /// Whether it is a refusal (exit code 3), as opposed to something that failed.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, ClaimError::Look { .. } | ClaimError::Open { .. })
    }
}

impl Target {
    /// Claims the device that `word` names (as [`Inventory::named`] takes it) in order to `purpose` it: a verb for the
    /// error ("write to", "repair").
    pub fn claim(word: &str, purpose: &str) -> Result<Self, ClaimError> {
        let inventory = Inventory::read()
            .map_err(|error| ClaimError::Look { word: word.into(), reason: format!("{error:#}") })?;
        Self::claim_in(&inventory, word, purpose)
    }

    /// The same among devices that were looked at a moment ago.
    pub fn claim_in(inventory: &Inventory, word: &str, purpose: &str) -> Result<Self, ClaimError> {
        let device = free(inventory, word, purpose)?;
        let file = open(&device, purpose)?;
        Ok(Target { file, device })
    }

    /// The open device, at its first byte.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The open device, to write and seek.
    pub fn file_mut(&mut self) -> &mut File {
        &mut self.file
    }

    /// Its path, with links followed.
    pub fn path(&self) -> &Path {
        &self.device.path
    }

    /// What was known of it when it was claimed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.device.size
    }

    /// Gives the claim up for a program that claims the device by itself (e2fsck, xfs_repair and their like open it with
    /// `O_EXCL`). Between the two anybody may take it: then that program says so.
    pub fn release(self) -> Device {
        self.device
    }
}

/// The device of that name, if nothing uses it.
pub fn free(inventory: &Inventory, word: &str, purpose: &str) -> Result<Device, ClaimError> {
    let purpose = purpose.to_string();
    let device = match inventory.named(word) {
        Ok(device) => device,
        Err(error) => {
            return Err(ClaimError::NoDevice { purpose, word: word.into(), reason: format!("{error:#}") });
        }
    };
    let path = device.path.clone();
    let uses = uses(inventory, device);
    if !uses.is_empty() {
        return Err(ClaimError::InUse { purpose, path, uses });
    }
    if device.read_only {
        return Err(ClaimError::ReadOnly { purpose, path });
    }
    Ok(device.clone())
}

fn open(device: &Device, purpose: &str) -> Result<File, ClaimError> {
    let path = device.path.clone();
    let flags = (OFlags::EXCL | OFlags::CLOEXEC).bits();
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags.cast_signed()).open(&path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => {
            let purpose = purpose.to_string();
            return Err(match Errno::from_io_error(&error) {
                Some(Errno::BUSY) => {
                    ClaimError::InUse { purpose, uses: vec![Use::Claimed { device: path.clone() }], path }
                }
                Some(Errno::ROFS | Errno::ACCESS) => ClaimError::ReadOnly { purpose, path },
                _ => ClaimError::Open { path, error },
            });
        }
    };
    // A disk may have been pulled out and another put in since it was looked at.
    let number = file.metadata().map(|file| (rustix::fs::major(file.rdev()), rustix::fs::minor(file.rdev())));
    let size = file.seek(SeekFrom::End(0)).and_then(|size| file.rewind().map(|()| size));
    match (number, size) {
        (Ok(number), Ok(size)) if number == device.number && size == device.size => Ok(file),
        (Err(error), _) | (_, Err(error)) => Err(ClaimError::Open { path, error }),
        _ => Err(ClaimError::Open {
            path,
            error: std::io::Error::other("it is another device than a moment ago"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::lsblk;

    fn inventory() -> Inventory {
        Inventory { devices: lsblk::parse(include_bytes!("fixtures/lsblk-stacked.json")).unwrap() }
    }

    #[test]
    fn what_is_in_use_is_refused_with_the_way_out() {
        let error = free(&inventory(), "vda", "write to").unwrap_err();
        let said = error.to_string();
        assert!(error.is_refusal());
        for part in ["refusing to write to /dev/vda:", "swapoff /dev/vda3", "; ", "rescue umount /dev/vda2"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(said.lines().count(), 1);
    }

    #[test]
    fn what_is_free_is_taken_unless_it_is_read_only() {
        let mut inventory = inventory();
        assert_eq!(free(&inventory, "vdf", "repair").unwrap().path, Path::new("/dev/vdf"));
        for device in &mut inventory.devices {
            device.read_only = true;
        }
        let error = free(&inventory, "vdf", "repair").unwrap_err();
        assert!(matches!(error, ClaimError::ReadOnly { .. }) && error.is_refusal(), "{error}");
    }

    #[test]
    fn what_is_no_device_is_refused_with_what_there_is() {
        for word in ["/dev/nope", "/etc/passwd", "UUID=none", "nope"] {
            let error = free(&inventory(), word, "write to").unwrap_err();
            assert!(matches!(error, ClaimError::NoDevice { .. }) && error.is_refusal(), "{error}");
            assert!(error.to_string().contains(word) && error.to_string().lines().count() == 1, "{error}");
        }
        assert!(free(&inventory(), "/dev/nope", "write to").unwrap_err().to_string().contains("/dev/vdi3"));
    }
}
