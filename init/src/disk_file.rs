//! `DEVICE:/PATH`: a file on a partition of the Pi's own, as `lifeboat.hostkey=` and `lifeboat.state=` name one.

use std::fmt;

/// Where the file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFile {
    /// `LABEL=…`, `UUID=…`, `PARTLABEL=…`, `PARTUUID=…` or `/dev/…`.
    pub device: String,
    /// The file on it, from the root of its file system, without the first slash.
    pub path: String,
}

impl DiskFile {
    /// Reads `DEVICE:/PATH`.
    ///
    /// # Errors
    /// What is wrong, for a human.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (device, path) =
            text.split_once(":/").ok_or("DEVICE:/PATH is needed, as LABEL=keys:/folder/file")?;
        let tags = ["LABEL=", "UUID=", "PARTLABEL=", "PARTUUID=", "/dev/"];
        if !tags.iter().any(|tag| device.strip_prefix(tag).is_some_and(|rest| !rest.is_empty())) {
            return Err("the device is LABEL=…, UUID=…, PARTLABEL=…, PARTUUID=… or /dev/…".into());
        }
        if path.is_empty() || path.ends_with('/') || path.split('/').any(|part| part == "..") {
            return Err("the path names no file".into());
        }
        Ok(DiskFile { device: device.into(), path: path.into() })
    }
}

impl fmt::Display for DiskFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:/{}", self.device, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn device_and_path() {
        let file = DiskFile::parse("LABEL=my keys:/ssh/host_key").unwrap();
        assert_eq!((file.device.as_str(), file.path.as_str()), ("LABEL=my keys", "ssh/host_key"));
        assert_eq!(file.to_string(), "LABEL=my keys:/ssh/host_key");
        for good in ["/dev/sda1:/k", "UUID=ab-12:/k", "PARTUUID=1-02:/a/b", "PARTLABEL=x:/..k"] {
            assert!(DiskFile::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "LABEL=x", "LABEL=:/k", "x:/k", "LABEL=x:/", "LABEL=x:/../k", "LABEL=x:k", "LABEL=x:/k/"]
        {
            assert!(DiskFile::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_a_file_reads_back(text in "(LABEL=|UUID=|/dev/)?\\PC{0,12}(:/)?\\PC{0,12}") {
            if let Ok(file) = DiskFile::parse(&text) {
                prop_assert_eq!(DiskFile::parse(&file.to_string()), Ok(file));
            }
        }
    }
}
