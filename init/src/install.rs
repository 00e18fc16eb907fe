//! `lifeboat.install=`: a disk image that is written to this machine's disk before that is booted.
//!
//! What is on the disk is lost by it, so that it takes more than a word: the disk is empty, or the words name the very boot in which
//! it may be done (`lifeboat.install_boot=`), and then in no other. Such a plan that comes a second time, by mistake or from somebody
//! who kept it, installs nothing (`pid1::steps::install`).

use url::Url;

use crate::plan::{Parameter, http_url};

/// Our own parameters that this file reads: see [`crate::plan::parameters`].
pub(crate) const PARAMETERS: &[Parameter] = &[
    (
        "lifeboat.install",
        "URL",
        "write this disk image, signed by a key of the image (URL.minisig), before root= is looked for",
    ),
    ("lifeboat.install_to", "DEV", "the disk that it is written to: /dev/…; only while that is empty"),
    (
        "lifeboat.install_boot",
        "ID",
        "whatever is on that disk, in the boot with this ID (/proc/sys/kernel/random/boot_id) and no other",
    ),
];

/// A disk image for a disk of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// The image. Its signature is at the same URL with `.minisig` behind it.
    pub url: Url,
    /// The disk, a path below `/dev`.
    pub to: String,
    /// The ID of the boot in which it may be written over what is there.
    pub boot: Option<String>,
}

/// The words of it.
#[derive(Default)]
pub(crate) struct InstallWords {
    url: Option<Url>,
    to: Option<String>,
    boot: Option<String>,
}

impl InstallWords {
    /// Reads a word; `false`: it is none of these.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "lifeboat.install" => self.url = Some(http_url(value)?),
            "lifeboat.install_to" => self.to = Some(disk(value)?),
            "lifeboat.install_boot" => self.boot = Some(boot_id(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What they say together.
    ///
    /// # Errors
    /// The word that is there without the other, and why that will not do.
    pub(crate) fn install(self) -> Result<Option<Install>, (String, String)> {
        match (self.url, self.to, self.boot) {
            (Some(url), Some(to), boot) => Ok(Some(Install { url, to, boot })),
            (Some(url), None, _) => {
                Err((format!("lifeboat.install={url}"), "lifeboat.install_to= says to which disk".into()))
            }
            (None, Some(to), _) => {
                Err((format!("lifeboat.install_to={to}"), "lifeboat.install= says which image".into()))
            }
            (None, None, Some(boot)) => {
                Err((format!("lifeboat.install_boot={boot}"), "lifeboat.install= says which image".into()))
            }
            (None, None, None) => Ok(None),
        }
    }
}

fn disk(path: &str) -> Result<String, String> {
    let name = path.strip_prefix("/dev/").unwrap_or_default();
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.');
    let known = |b: u8| b.is_ascii_alphanumeric() || b"/_.:+-".contains(&b);
    if name.starts_with("disk/") || name.starts_with("mapper/") {
        Err("the kernel's own name of a disk is needed, like /dev/mmcblk0: there is no udev here that makes others".into())
    } else if name.split('/').all(is_plain) && name.bytes().all(known) {
        Ok(path.into())
    } else {
        Err("the path of a disk is needed, like /dev/mmcblk0".into())
    }
}

/// A boot's ID as the kernel writes it: a UUID in lower case.
///
/// # Errors
/// What is wrong with it.
pub fn boot_id(text: &str) -> Result<String, String> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let is_hex = groups.iter().all(|group| group.bytes().all(|b| b.is_ascii_hexdigit()));
    if lengths == [8, 4, 4, 4, 12] && is_hex {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a boot's ID is needed, as the boot server's page shows it".into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cmdline::CommandLine;
    use crate::plan::{Goal, Plan};

    const BOOT: &str = "0d1c8a52-3f4e-4b6a-9c7d-0123456789ab";

    fn plan(words: &str) -> Plan {
        Plan::parse(&CommandLine::parse(words))
    }

    #[test]
    fn an_install_belongs_to_a_boot_from_a_disk() {
        let words = format!(
            "lifeboat.install=http://a/pi.img.xz lifeboat.install_to=/dev/mmcblk0 lifeboat.install_boot={BOOT} root=LABEL=root"
        );
        let plan = plan(&words);
        assert_eq!(plan.problems, []);
        let Goal::DiskBoot(boot) = plan.goal else { panic!("{:?}", plan.goal) };
        let install = boot.install.unwrap();
        assert_eq!((install.to.as_str(), install.boot.as_deref()), ("/dev/mmcblk0", Some(BOOT)));
    }

    #[test]
    fn half_of_it_or_another_goal_is_the_rescue_by_name() {
        let url = "lifeboat.install=http://a/pi.img";
        let to = "lifeboat.install_to=/dev/sda";
        for (words, named) in [
            (url.to_owned(), url),
            (format!("{url} root=LABEL=x"), url),
            (format!("{to} root=LABEL=x"), to),
            (format!("lifeboat.install_boot={BOOT} root=LABEL=x"), "lifeboat.install_boot="),
            (format!("{url} {to}"), url),
            (format!("{url} {to} root=live:http://a/x.squashfs"), url),
            (format!("{url} lifeboat.install_to=/etc root=LABEL=x"), "lifeboat.install_to=/etc"),
            (
                format!("{url} lifeboat.install_to=/dev/../etc root=LABEL=x"),
                "lifeboat.install_to=/dev/../etc",
            ),
            (format!("{url} {to} lifeboat.install_boot=1 root=LABEL=x"), "lifeboat.install_boot=1"),
            (format!("lifeboat.install=ftp://a/b {to} root=LABEL=x"), "lifeboat.install=ftp://a/b"),
        ] {
            let plan = plan(&words);
            assert_eq!(plan.goal, Goal::Rescue, "{words}");
            assert!(plan.problems.iter().any(|p| p.word.starts_with(named)), "{words}: {:?}", plan.problems);
        }
        // Who says that it shall be the rescue installs nothing, and is not told off for the rest.
        assert_eq!(plan(&format!("{url} {to} root=LABEL=x lifeboat.rescue")).problems, []);
    }

    proptest! {
        #[test]
        fn a_disk_is_below_dev(path in "(/dev/|/|\\.\\.|[a-z0-9]|\\PC){0,12}") {
            if let Ok(path) = disk(&path) {
                let mut parts = path.strip_prefix("/dev/").unwrap_or_default().split('/');
                prop_assert!(parts.all(|part| !part.is_empty() && part != "." && part != ".."), "{path}");
            }
        }
    }
}
