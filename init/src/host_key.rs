//! `lifeboat.hostkey=DEVICE:/PATH`: an SSH host key that stays the same, on a partition of the Pi's own.

/// Where the key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKeyFile {
    /// `LABEL=…`, `UUID=…`, `PARTLABEL=…`, `PARTUUID=…` or `/dev/…`.
    pub device: String,
    /// The file on it, from the root of its file system.
    pub path: String,
}

impl HostKeyFile {
    /// The parameter's name.
    pub const PARAMETER: &str = "lifeboat.hostkey";

    /// Reads its value.
    ///
    /// # Errors
    /// What is wrong, for a human.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (device, path) =
            text.split_once(":/").ok_or("DEVICE:/PATH is needed, as LABEL=keys:/host_key")?;
        let tags = ["LABEL=", "UUID=", "PARTLABEL=", "PARTUUID=", "/dev/"];
        if !tags.iter().any(|tag| device.strip_prefix(tag).is_some_and(|rest| !rest.is_empty())) {
            return Err("the device is LABEL=…, UUID=…, PARTLABEL=…, PARTUUID=… or /dev/…".into());
        }
        if path.is_empty() || path.split('/').any(|part| part == "..") {
            return Err("the path names no file".into());
        }
        Ok(HostKeyFile { device: device.into(), path: path.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_and_path() {
        let file = HostKeyFile::parse("LABEL=my keys:/ssh/host_key").unwrap();
        assert_eq!((file.device.as_str(), file.path.as_str()), ("LABEL=my keys", "ssh/host_key"));
        assert!(HostKeyFile::parse("/dev/sda1:/k").is_ok());
        for bad in ["", "LABEL=x", "LABEL=:/k", "x:/k", "LABEL=x:/", "LABEL=x:/../k", "LABEL=x:k"] {
            assert!(HostKeyFile::parse(bad).is_err(), "{bad}");
        }
    }
}
