//! A disk's own `/etc/fstab` (fstab(5)).

use std::path::PathBuf;

use super::table::decode;

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `UUID=…`, `/dev/…`, `tmpfs`.
    pub source: String,
    /// Where it is mounted.
    pub at: PathBuf,
    /// The kind of file system.
    pub kind: String,
    /// The options.
    pub options: Vec<String>,
    /// In which turn it is checked (`fs_passno`): 0 never, 1 the root, 2 the others.
    pub pass: u32,
}

/// The lines of `text` that are of the format.
pub fn parse(text: &str) -> Vec<Entry> {
    text.lines().filter_map(entry).collect()
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace();
    let source = words.next().filter(|word| !word.starts_with('#'))?;
    let at = words.next()?;
    let kind = words.next()?;
    let options = words.next().unwrap_or("defaults");
    Some(Entry {
        source: decode(source.as_bytes()).to_string_lossy().replace('"', ""),
        at: decode(at.as_bytes()),
        kind: kind.into(),
        options: options.split(',').map(String::from).collect(),
        pass: words.nth(1).and_then(|pass| pass.parse().ok()).unwrap_or_default(),
    })
}

impl Entry {
    /// Whether it is a device that is mounted at boot: not swap, not `noauto`, not made up by the kernel.
    pub fn is_device(&self) -> bool {
        let device = self.source.starts_with("/dev/") || self.source.contains('=');
        device
            && self.kind != "swap"
            && self.at.is_absolute()
            && !self.options.iter().any(|option| option == "noauto")
    }

    /// The option `subvol=…` or `subvolid=…`, which says what of a btrfs is meant.
    pub fn subvolume(&self) -> Option<&str> {
        self.options.iter().map(String::as_str).find(|option| option.starts_with("subvol"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const RASPBERRY_PI_OS: &str = "proc            /proc           proc    defaults          0       0\n\
        PARTUUID=78ecdbec-01  /boot/firmware  vfat    defaults          0       2\n\
        PARTUUID=78ecdbec-02  /               ext4    defaults,noatime  0       1\n\
        # a swapfile is not a swap partition\n\
        UUID=\"1-2\"\t/srv/a\\040b btrfs subvol=@srv,compress\n\
        /dev/sda3 none swap sw 0 0\n\
        /dev/sda4 /media/x ext4 noauto 0 0\nhalf a line\n";

    #[test]
    fn what_is_mounted_at_boot() {
        let entries = parse(RASPBERRY_PI_OS);
        let devices: Vec<_> = entries.iter().filter(|entry| entry.is_device()).collect();
        let places: Vec<&Path> = devices.iter().map(|entry| entry.at.as_path()).collect();
        assert_eq!(places, [Path::new("/boot/firmware"), Path::new("/"), Path::new("/srv/a b")]);
        assert_eq!(devices.iter().map(|entry| entry.pass).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!((devices[2].source.as_str(), devices[2].subvolume()), ("UUID=1-2", Some("subvol=@srv")));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,200}", line in "[a-z\\\\0-9/= #\t]{0,60}") {
            parse(&text);
            parse(&line);
        }
    }
}
