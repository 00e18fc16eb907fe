//! `root=` and the words around it: where a boot goes, and where an image is.

use url::Url;

use crate::cmdline::CommandLine;
use crate::install::{Install, InstallWords};
use crate::layers::{LayerWords, file_name};
use crate::manifest::from_hex;
use crate::plan::{DiskBoot, Goal, Hold, Parameter, Problem, RamBoot, Trust, http_url};
use crate::size::Size;

const DEFAULT_FLOOR: Size = Size::Bytes(128 << 20);

/// Our own parameters that this file reads: see [`crate::plan::parameters`].
pub(crate) const PARAMETERS: &[Parameter] = &[
    ("lifeboat.sha256", "HEX", "check the image of root=live: by this SHA-256 instead of a signed manifest"),
    ("lifeboat.overlay", "SIZE", "the most that the writable layer over the image may hold: 512M, 2G or 50%"),
    ("lifeboat.floor", "SIZE", "the memory kept free for the OS when the budget is made (default 128M)"),
    ("lifeboat.rescue", "", "stay in the rescue whatever root= says"),
    ("lifeboat.kexec", "", "start the disk's own kernel rather than go on with this one"),
    ("lifeboat.hold", "", "stop before the hand-over, as rd.break does"),
];

/// The words that decide where a boot goes.
#[derive(Default)]
pub(crate) struct RootWords {
    pub(crate) rescue: bool,
    pub(crate) kexec: bool,
    pub(crate) luks: Vec<String>,
    pub(crate) hold: Option<Hold>,
    pub(crate) sha256: Option<[u8; 32]>,
    pub(crate) overlay: Option<Size>,
    pub(crate) floor: Option<Size>,
    pub(crate) layers: LayerWords,
    pub(crate) install: InstallWords,
}

impl RootWords {
    /// Reads a word; `false`: it is none of these.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "rd.break" => self.hold = Some(Hold::parse(value)?),
            "lifeboat.hold" => self.hold = Some(Hold::BeforeHandOver),
            "rd.luks.uuid" => self.luks.push(luks_uuid(value)?),
            "lifeboat.rescue" => self.rescue = true,
            "lifeboat.kexec" => self.kexec = true,
            "lifeboat.sha256" => {
                self.sha256 = Some(from_hex(value).ok_or("a SHA-256 is 64 hexadecimal digits")?);
            }
            "lifeboat.overlay" => self.overlay = Some(size(value)?),
            "lifeboat.floor" => self.floor = Some(size(value)?),
            _ => return Ok(self.layers.take(name, value)? || self.install.take(name, value)?),
        }
        Ok(true)
    }

    /// Where they lead; what cannot be understood goes to `problems`.
    pub(crate) fn goal(self, line: &CommandLine, problems: &mut Vec<Problem>) -> Goal {
        self.checked_goal(line).unwrap_or_else(|(word, reason)| {
            problems.push(Problem { word, reason });
            Goal::Rescue
        })
    }

    /// The same; an error has the word that is wrong, and why.
    fn checked_goal(mut self, line: &CommandLine) -> Result<Goal, (String, String)> {
        let root = line.last("root").unwrap_or("");
        if let Some(netroot) = line.last("netroot") {
            let reason = "booting a network disk is not supported yet";
            return Err((format!("netroot={netroot}"), reason.into()));
        }
        if self.rescue {
            return Ok(Goal::Rescue);
        }
        let is_live = root.starts_with("live:");
        let install = std::mem::take(&mut self.install).install()?;
        if let Some(install) = install.as_ref().filter(|_| root.is_empty() || is_live) {
            let reason =
                "root= says which disk is booted then: /dev/…, UUID=, LABEL=, PARTUUID= or PARTLABEL=";
            return Err((format!("lifeboat.install={}", install.url), reason.into()));
        }
        if root.is_empty() && self.luks.is_empty() {
            return Ok(Goal::Rescue);
        }
        let init = line.last("init").filter(|path| !path.is_empty()).unwrap_or("/sbin/init");
        if !init.starts_with('/') {
            return Err((format!("init={init}"), "the path must be absolute".into()));
        }
        let layers = std::mem::take(&mut self.layers).layers();
        if !is_live {
            if let Some(layer) = layers.first() {
                let reason = "it is laid over an image of root=live:";
                return Err((format!("lifeboat.layer={}", layer.url), reason.into()));
            }
            if !root.is_empty() && !names_a_disk(root) {
                let reason = "root= is live:URL, /dev/…, UUID=, LABEL=, PARTUUID= or PARTLABEL=";
                return Err((format!("root={root}"), reason.into()));
            }
            return Ok(Goal::DiskBoot(Box::new(self.disk_boot(line, install, init))));
        }
        if self.kexec {
            return Err(("lifeboat.kexec".into(), "an image in RAM is booted by this kernel".into()));
        }
        let trust = self.sha256.map_or(Trust::Signed, Trust::Sha256);
        let mut urls = sources(line, &trust)?.into_iter();
        let url = urls.next().ok_or_else(|| (format!("root={root}"), "it names nothing".to_owned()))?;
        Ok(Goal::RamBoot(Box::new(RamBoot {
            url,
            mirrors: urls.collect(),
            trust,
            layers,
            overlay: self.overlay,
            floor: self.floor.unwrap_or(DEFAULT_FLOOR),
            init: init.into(),
            init_arguments: line.init_arguments.clone(),
            hold: self.hold,
        })))
    }

    fn disk_boot(self, line: &CommandLine, install: Option<Install>, init: &str) -> DiskBoot {
        let given = |name| line.last(name).filter(|value| !value.is_empty()).map(str::to_owned);
        DiskBoot {
            root: given("root"),
            luks: self.luks,
            install,
            flags: given("rootflags"),
            kexec: self.kexec,
            init: init.into(),
            init_arguments: line.init_arguments.clone(),
            hold: self.hold,
        }
    }
}

/// Where an image is: the last `root=live:` counts, as the last word always does, and those just before it whose file has the
/// same name are its mirrors. An error has the word that is wrong.
fn sources(line: &CommandLine, trust: &Trust) -> Result<Vec<Url>, (String, String)> {
    let source = |root: &str, address: &str| {
        let url = http_url(address).map_err(|reason| (format!("root={root}"), reason))?;
        if *trust == Trust::Signed && !url.path().ends_with(".squashfs") {
            let reason = "a signed image is called NAME.squashfs (its manifest is NAME.json); give lifeboat.sha256= for others";
            return Err((format!("root={root}"), reason.to_owned()));
        }
        Ok(url)
    };
    let roots: Vec<&str> = line.all("root").collect();
    let live = roots.into_iter().rev().map_while(|root| Some((root, root.strip_prefix("live:")?)));
    let mut urls: Vec<Url> = Vec::new();
    for (root, address) in live {
        let url = source(root, address)?;
        if urls.first().is_some_and(|first| file_name(first) != file_name(&url)) {
            break;
        }
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    Ok(urls)
}

/// Whether `root=` names a device of this machine (systemd's fstab-generator and the kernel know the same forms).
fn names_a_disk(root: &str) -> bool {
    let tag = root.split_once('=').filter(|(_, value)| !value.is_empty()).map(|(tag, _)| tag);
    match tag {
        Some(tag) => ["UUID", "LABEL", "PARTUUID", "PARTLABEL"].contains(&tag),
        None => root.starts_with("/dev/"),
    }
}

/// A UUID or its beginning, also with `luks-` before it, as dracut takes it.
fn luks_uuid(text: &str) -> Result<String, String> {
    let uuid: String = text.trim_start_matches("luks-").chars().filter(|c| *c != '-').collect();
    let is_good = (1..=32).contains(&uuid.len()) && uuid.chars().all(|c| c.is_ascii_hexdigit());
    if is_good {
        Ok(uuid.to_ascii_lowercase())
    } else {
        Err("a UUID is hexadecimal digits and dashes".into())
    }
}

fn size(text: &str) -> Result<Size, String> {
    text.parse().map_err(|error: crate::size::SizeError| error.to_string())
}
