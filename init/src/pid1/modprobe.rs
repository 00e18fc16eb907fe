//! Kernel modules as kmod loads them: `modules.alias` says which module serves a device, `modules.dep` what it needs
//! first, `modules.softdep` what it would like before and after (modules.dep(5), modprobe.d(5)). A module's parameters come
//! from the kernel command line, as `MODULE.PARAMETER=VALUE`.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module, init_module};

use crate::cmdline::CommandLine;

/// The running kernel's modules.
pub struct Modules {
    folder: PathBuf,
    /// From a module's name to its path in the folder and those of what it needs, as `modules.dep` orders them.
    dependencies: HashMap<String, Vec<String>>,
    /// By the kind of bus: patterns and the module that serves what matches, in the file's order.
    aliases: HashMap<String, Vec<(String, String)>>,
    /// What to load before and after a module.
    soft: HashMap<String, Soft>,
    builtin: HashSet<String>,
    /// By module: what it is told.
    parameters: Vec<(String, String)>,
    loaded: HashSet<String>,
}

/// `MODULE_INIT_COMPRESSED_FILE` (`include/uapi/linux/module.h`, since Linux 5.17).
const COMPRESSED_FILE: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);
/// A module's soft dependencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Soft {
    before: Vec<String>,
    after: Vec<String>,
}

/// No module unpacks to more.
const MODULE_LIMIT: u64 = 64 << 20;

impl Modules {
    /// Reads the lists of `/lib/modules/RELEASE`.
    ///
    /// # Errors
    /// When `modules.dep` is not there: the image has no modules for this kernel.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("modules.dep");
        let dep = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let optional = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        Ok(Modules {
            folder: folder.into(),
            dependencies: dep.lines().filter_map(dependency_line).collect(),
            aliases: by_bus(optional("modules.alias").lines().filter_map(alias_line)),
            soft: optional("modules.softdep").lines().filter_map(soft_line).collect(),
            builtin: optional("modules.builtin").lines().map(name_of).collect(),
            parameters: parameters(&CommandLine::running()),
            loaded: HashSet::new(),
        })
    }

    /// Loads every module that serves this `modalias`. Those that fail are logged: another may serve as well.
    pub fn load_alias(&mut self, alias: &str) -> usize {
        let candidates = self.aliases.get(bus_of(alias)).into_iter().flatten();
        let matching = candidates.filter(|(pattern, _)| glob(pattern.as_bytes(), alias.as_bytes()));
        let names: Vec<String> = matching.map(|(_, name)| name.clone()).collect();
        let mut count = 0;
        for name in names {
            match self.load(&name) {
                Ok(true) => count += 1,
                Ok(false) => {}
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
        count
    }

    /// Whether the command line has parameters for a module.
    pub fn has_parameters(&self, name: &str) -> bool {
        self.parameters.iter().any(|(module, _)| module == name)
    }

    /// Loads a module and what it needs. `Ok(false)`: it was there before.
    ///
    /// # Errors
    /// When there is no such module, or the kernel refuses it or one that it needs.
    pub fn load(&mut self, name: &str) -> Result<bool> {
        let name = name.replace('-', "_");
        if self.builtin.contains(&name) || !self.loaded.insert(name.clone()) {
            return Ok(false);
        }
        let result = self.load_new(&name);
        if result.is_err() {
            // It may go better another time.
            self.loaded.remove(&name);
        }
        result.map(|()| true)
    }

    fn load_new(&mut self, name: &str) -> Result<()> {
        let files =
            self.dependencies.get(name).with_context(|| format!("no module {name} in this image"))?.clone();
        // modules.dep names the module first and what everything stands on last.
        for file in files.iter().rev() {
            let soft = self.soft.get(&name_of(file)).cloned().unwrap_or_default();
            self.load_wanted(&soft.before);
            let module = name_of(file);
            let parameters = self.parameters.iter().find(|(name, _)| *name == module);
            let parameters = parameters.map_or("", |(_, text)| text.as_str());
            insert(&self.folder.join(file), parameters)
                .with_context(|| format!("loading {file} (for {name})"))?;
            self.load_wanted(&soft.after);
        }
        Ok(())
    }

    /// Soft dependencies: their failure is nobody's.
    fn load_wanted(&mut self, names: &[String]) {
        for name in names {
            if let Err(error) = self.load(name) {
                tracing::debug!("{error:#}");
            }
        }
    }
}

/// Hands one file to the kernel; one that is there already is fine.
fn insert(path: &Path, parameters: &str) -> Result<()> {
    let parameters = CString::new(parameters).context("a NUL in its parameters")?;
    let file = File::open(path).context("opening it")?;
    let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    let done = match kind {
        "ko" => finit_module(&file, &parameters, ModuleInitFlags::empty()),
        // The kernel unpacks the format it was built for; ours is the way for every other.
        _ => finit_module(&file, &parameters, COMPRESSED_FILE).or_else(|error| match error {
            nix::errno::Errno::EEXIST => Err(error),
            _ => init_module(&unpack(&file, kind)?, &parameters),
        }),
    };
    match done {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(error) => Err(error).context("the kernel refused it"),
    }
}

/// A compressed module's content. What cannot be unpacked is no module to the kernel.
fn unpack(mut file: &File, kind: &str) -> Result<Vec<u8>, nix::errno::Errno> {
    use nix::errno::Errno;
    use std::io::{BufReader, Seek};
    let mut bytes = Vec::new();
    let unpacked = file.rewind().and_then(|()| match kind {
        "gz" => flate2::read::GzDecoder::new(file).take(MODULE_LIMIT).read_to_end(&mut bytes).map(drop),
        "zst" => ruzstd::decoding::StreamingDecoder::new(file)
            .map_err(std::io::Error::other)
            .and_then(|decoder| decoder.take(MODULE_LIMIT).read_to_end(&mut bytes).map(drop)),
        "xz" => lzma_rs::xz_decompress(&mut BufReader::new(file), &mut bytes)
            .map_err(|error| std::io::Error::other(format!("{error:?}"))),
        _ => Err(std::io::Error::other("an unknown compression")),
    });
    unpacked.map(|()| bytes).map_err(|_| Errno::ENOEXEC)
}

/// `kernel/net/ipv6/ipv6.ko.xz` is `ipv6`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// What the command line has for modules (modprobe(8)): `usb-storage.quirks=…` is `quirks=…` for `usb_storage`. And
/// `netconsole=…`, the word of a kernel that has it built in.
fn parameters(line: &CommandLine) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for word in &line.words {
        let of_netconsole = (word.name == "netconsole").then_some(("netconsole", "netconsole"));
        let Some((module, name)) = of_netconsole.or(word.name.split_once('.')) else { continue };
        let module = module.replace('-', "_");
        let mut parameter = name.to_owned();
        if let Some(value) = &word.value {
            let quote = if value.contains(char::is_whitespace) { "\"" } else { "" };
            parameter = format!("{name}={quote}{value}{quote}");
        }
        match all.iter_mut().find(|(known, _)| *known == module) {
            Some((_, text)) => *text = format!("{text} {parameter}"),
            None => all.push((module, parameter)),
        }
    }
    all
}

fn dependency_line(line: &str) -> Option<(String, Vec<String>)> {
    let (file, needed) = line.split_once(':')?;
    let files = std::iter::once(file).chain(needed.split_whitespace());
    Some((name_of(file), files.map(str::to_owned).collect()))
}

fn alias_line(line: &str) -> Option<(String, String)> {
    let mut words = line.strip_prefix("alias ")?.split_whitespace();
    Some((words.next()?.into(), words.next()?.into()))
}

/// `pci` of `pci:v00001AF4d*`: depmod's patterns spell it out, so that one has to look at the patterns of one bus only.
fn bus_of(alias: &str) -> &str {
    alias.split_once(':').map_or("", |(bus, _)| bus)
}

fn by_bus(lines: impl Iterator<Item = (String, String)>) -> HashMap<String, Vec<(String, String)>> {
    let mut aliases: HashMap<String, Vec<_>> = HashMap::new();
    for (pattern, module) in lines {
        aliases.entry(bus_of(&pattern).to_owned()).or_default().push((pattern, module));
    }
    aliases
}

/// `softdep NAME pre: A B post: C`
fn soft_line(line: &str) -> Option<(String, Soft)> {
    let mut words = line.strip_prefix("softdep ")?.split_whitespace();
    let name = words.next()?.replace('-', "_");
    let (mut soft, mut is_after) = (Soft::default(), false);
    for word in words {
        match word {
            "pre:" => is_after = false,
            "post:" => is_after = true,
            word if is_after => soft.after.push(word.to_owned()),
            word => soft.before.push(word.to_owned()),
        }
    }
    Some((name, soft))
}

/// fnmatch(3) without flags, as depmod's patterns need it: `*`, `?` and `[a-c]`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one byte further.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let matched = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => text.get(t).and_then(|byte| class(pattern, p, *byte)),
            Some(byte) if Some(byte) == text.get(t) => Some(p + 1),
            _ => None,
        };
        match (matched, star) {
            (Some(next), _) => {
                p = next;
                t += 1;
            }
            (None, Some((at, from))) => {
                p = at + 1;
                t = from + 1;
                star = Some((at, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Matches `byte` against the class that starts at `start`; gives the position behind it.
fn class(pattern: &[u8], start: usize, byte: u8) -> Option<usize> {
    let length = pattern.get(start..)?.iter().position(|byte| *byte == b']')?;
    let mut members = pattern.get(start + 1..start + length)?;
    let mut inside = false;
    while let Some((first, rest)) = members.split_first() {
        members = rest;
        let mut last = first;
        if let [b'-', end, rest @ ..] = members {
            (last, members) = (end, rest);
        }
        inside |= (*first..=*last).contains(&byte);
    }
    inside.then_some(start + length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_come_from_the_command_line() {
        let all = parameters(&CommandLine::parse(
            "quiet usb-storage.quirks=1:2:u usb_storage.x a.b=\"c d\" netconsole=@/,@1.2.3.4/ -- e.f=1",
        ));
        let all: Vec<(&str, &str)> = all.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let netconsole = ("netconsole", "netconsole=@/,@1.2.3.4/");
        assert_eq!(all, [("usb_storage", "quirks=1:2:u x"), ("a", "b=\"c d\""), netconsole]);
    }

    #[test]
    fn aliases_match_as_in_depmods_patterns() {
        for (pattern, text, matches) in [
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("virtio:d00000001v*", "virtio:d00000002v00001AF4", false),
            ("of:N*T*Cbrcm,bcm2711-genet-v5C*", "of:NethernetT(null)Cbrcm,bcm2711-genet-v5", false),
            ("of:N*T*Cbrcm,bcm2711-genet-v5", "of:NethernetT(null)Cbrcm,bcm2711-genet-v5", true),
            ("usb:v0BDAp815[2-3a-c]d*", "usb:v0BDAp815bd3000", true),
            ("usb:v0BDAp815[2-3a-c]d*", "usb:v0BDAp815dd3000", false),
            ("a?c", "abc", true),
            ("a[", "a[", false),
            ("*", "", true),
            ("**x", "yyx", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn lists_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("modules.dep"), "kernel/a-b.ko.xz: kernel/c.ko\nkernel/c.ko:\n")
            .unwrap();
        std::fs::write(folder.path().join("modules.alias"), "# x\nalias pci:v1* a_b\nalias bad\n").unwrap();
        std::fs::write(folder.path().join("modules.softdep"), "softdep a-b pre: c post: d e\n").unwrap();
        std::fs::write(folder.path().join("modules.builtin"), "kernel/drivers/net/lo-op.ko\n").unwrap();
        let mut modules = Modules::read(folder.path()).unwrap();
        assert_eq!(modules.dependencies["a_b"], ["kernel/a-b.ko.xz", "kernel/c.ko"]);
        assert_eq!(modules.aliases["pci"], [("pci:v1*".to_owned(), "a_b".to_owned())]);
        assert_eq!(
            modules.soft["a_b"],
            Soft { before: vec!["c".to_owned()], after: vec!["d".to_owned(), "e".to_owned()] }
        );
        assert!(!modules.load("lo-op").unwrap());
        let error = format!("{:#}", modules.load("nothing").unwrap_err());
        assert!(error.contains("no module nothing"), "{error}");
    }

    #[test]
    fn compressed_modules_unpack() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.ko.gz");
        let mut gz = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        gz.write_all(b"module").unwrap();
        gz.finish().unwrap();
        assert_eq!(unpack(&File::open(&path).unwrap(), "gz").unwrap(), b"module");
        assert!(unpack(&File::open(&path).unwrap(), "xz").is_err());
        assert!(unpack(&File::open(&path).unwrap(), "zst").is_err());
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[a-c*?\\[\\]-]{0,12}", text in "[a-c\\[\\]-]{0,12}") {
            glob(pattern.as_bytes(), text.as_bytes());
        }

        #[test]
        fn a_text_matches_itself_and_stars_around(text in "[a-z0-9:,]{0,12}") {
            prop_assert!(glob(text.as_bytes(), text.as_bytes()));
            let (around, longer) = (format!("*{text}*"), format!("x{text}y"));
            prop_assert!(glob(around.as_bytes(), longer.as_bytes()));
        }
    }
}
