//! The folder for TFTP: whether what a bootloader asks for is there, in the order in which a Pi 4 does (facts, section 3).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Level, Line};
use crate::boot_tree::text;
use crate::pi::Board;

const CHECK: &str = "tftp";
/// No config.txt is longer than this many bytes, or it is none.
const CONFIG_LIMIT: u64 = 256 * 1024;
/// What TFTP reaches with blocks of 1468 bytes before their number wraps, which older bootloaders cannot follow.
const LARGEST: u64 = 90 << 20;
/// Folders of Pis that are looked at.
const MOST_FOLDERS: usize = 1000;

pub(super) fn check(root: &Path) -> Vec<Line> {
    let mut lines = Vec::new();
    for folders in folders(root) {
        let tree = Tree { folders };
        lines.extend(tree.check());
    }
    if lines.is_empty() {
        lines.push(Line::ok(CHECK, format!("{} has what its config.txt names", root.display())));
    }
    lines
}

/// Each place where a `config.txt` is, with those that files come from when it has them not.
fn folders(root: &Path) -> Vec<Vec<PathBuf>> {
    let shared: Vec<PathBuf> =
        [root.join("default"), root.to_owned()].into_iter().filter(|f| f.is_dir()).collect();
    let mut all = vec![shared.clone()];
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten().take(MOST_FOLDERS);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        let is_pis = name.len() == 8 && name.bytes().all(|b| b.is_ascii_hexdigit())
            || name.parse::<init::mac::Mac>().is_ok()
            || Board::names().contains(&name);
        if is_pis && entry.path().join("config.txt").is_file() {
            all.push(std::iter::once(entry.path()).chain(shared.iter().cloned()).collect());
        }
    }
    all
}

/// Folders, of which the first that has a file counts.
struct Tree {
    folders: Vec<PathBuf>,
}

impl Tree {
    fn find(&self, name: &str) -> Option<PathBuf> {
        let name = name.trim_start_matches('/');
        self.folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    fn problem(&self, found: String, advice: &str) -> Line {
        Line::new(CHECK, Level::Problem, found, advice)
    }

    fn check(&self) -> Vec<Line> {
        let Some(first) = self.folders.first() else { return Vec::new() };
        let Some(path) = self.find("config.txt") else {
            let found = format!("there is no config.txt in {}", first.display());
            return vec![
                self.problem(found, "a Pi's bootloader needs one: `boot-files build` makes the whole folder"),
            ];
        };
        let place = path.display();
        let is_long = path.metadata().is_ok_and(|file| file.len() > CONFIG_LIMIT);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) if !is_long => bytes,
            Ok(_) => {
                return vec![
                    self.problem(format!("{place} is no config.txt: it is far too long"), "shorten it"),
                ];
            }
            Err(error) => {
                return vec![self.problem(format!("{place}: {error}"), "the server cannot read it either")];
            }
        };
        let cut = text::problems(&bytes).into_iter().map(|problem| {
            Line::new(
                CHECK,
                Level::Warning,
                format!("{place}: {problem}"),
                "shorten it: the rest is silently ignored",
            )
        });
        let mut lines: Vec<Line> = cut.collect();
        let config = Config::parse(&String::from_utf8_lossy(&bytes));
        lines.extend(self.firmware(&config));
        for wanted in config.wanted() {
            if self.find(&wanted.file).is_none() {
                let found = format!("{place} names {} ({}), which is not there", wanted.file, wanted.why);
                lines.push(self.problem(found, "put it there, or correct the line"));
            }
        }
        if !config.is_ramdisk && self.find("cmdline.txt").is_none() {
            let found = format!("there is no cmdline.txt beside {place}");
            lines.push(Line::new(CHECK, Level::Warning, found, "the kernel starts without parameters"));
        }
        if let Some(image) = self.find("boot.img").filter(|_| config.is_ramdisk)
            && image.metadata().is_ok_and(|file| file.len() > LARGEST)
        {
            let found = format!("{} has more than {LARGEST} bytes", image.display());
            let advice =
                "bootloaders before 2025-09-23 cannot count that far over TFTP: make it smaller, or use HTTP";
            lines.push(Line::new(CHECK, Level::Warning, found, advice));
        }
        lines
    }

    /// A Pi 4 reads its firmware from here; a Pi 5 has it in its EEPROM.
    fn firmware(&self, config: &Config) -> Vec<Line> {
        let is_for_pi4 = config.is_ramdisk || self.find("bcm2712-rpi-5-b.dtb").is_none();
        let pairs =
            [["start4.elf", "fixup4.dat"], ["start4cd.elf", "fixup4cd.dat"], ["start.elf", "fixup.dat"]];
        let has = |pair: &[&str; 2]| pair.iter().all(|name| self.find(name).is_some());
        if !is_for_pi4 || config.is_ramdisk || config.names_firmware || pairs.iter().any(has) {
            return Vec::new();
        }
        let found = "there is no start4.elf with its fixup4.dat".to_owned();
        let advice = "a Pi 4 looks for start4.elf first, and without it finds nothing here: copy both from one firmware release";
        vec![self.problem(found, advice)]
    }
}

/// A file that a config.txt needs.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    file: String,
    why: String,
}

/// What a config.txt says of files, whatever filter it stands under: some Pi is meant.
#[derive(Debug, Default)]
struct Config {
    is_ramdisk: bool,
    names_firmware: bool,
    prefix: String,
    kernels: BTreeSet<String>,
    trees: BTreeSet<String>,
    initramfs: BTreeSet<String>,
    overlays: BTreeSet<String>,
}

impl Config {
    fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '['])) {
            if let Some(rest) = line.strip_prefix("initramfs ") {
                // Several names and then an address, maybe.
                let names = rest.split_ascii_whitespace().next().unwrap_or_default();
                config.initramfs.extend(names.split(',').map(str::to_owned));
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = value.trim();
            match key.trim() {
                "boot_ramdisk" => config.is_ramdisk = value == "1",
                "start_file" => config.names_firmware = true,
                "os_prefix" => value.clone_into(&mut config.prefix),
                "kernel" => _ = config.kernels.insert(value.into()),
                "device_tree" if !value.is_empty() => _ = config.trees.insert(value.into()),
                "ramfsfile" => config.initramfs.extend(value.split(',').map(str::to_owned)),
                "dtoverlay" => {
                    let name = value.split([',', ':']).next().unwrap_or_default();
                    config.overlays.extend((!name.is_empty()).then(|| name.to_owned()));
                }
                _ => {}
            }
        }
        config
    }

    fn wanted(&self) -> Vec<Wanted> {
        let wanted = |file: String, why: &str| Wanted { file, why: why.into() };
        if self.is_ramdisk {
            return vec![wanted("boot.img".into(), "boot_ramdisk=1")];
        }
        // A slash before a name goes round the prefix.
        let place = |name: &str| {
            if name.starts_with('/') { name.into() } else { format!("{}{name}", self.prefix) }
        };
        let mut all = Vec::new();
        if self.kernels.is_empty() {
            all.push(wanted(place("kernel8.img"), "the kernel, where no line names another"));
        }
        all.extend(self.kernels.iter().map(|name| wanted(place(name), "kernel")));
        all.extend(self.initramfs.iter().map(|name| wanted(place(name), "initramfs")));
        all.extend(self.trees.iter().map(|name| wanted(place(name), "device_tree")));
        all.extend(
            self.overlays.iter().map(|name| wanted(place(&format!("overlays/{name}.dtbo")), "dtoverlay")),
        );
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<Line>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let lines = check(folder.path());
        (folder, lines)
    }

    const WHOLE: [(&str, &str); 7] = [
        (
            "config.txt",
            "[pi4]\nkernel=linux.img\ninitramfs initrd.gz followkernel\n[all]\ndtoverlay=disable-bt,x=1\n",
        ),
        ("cmdline.txt", "quiet"),
        ("start4.elf", ""),
        ("fixup4.dat", ""),
        ("linux.img", ""),
        ("initrd.gz", ""),
        ("overlays/disable-bt.dtbo", ""),
    ];

    #[test]
    fn whole_and_with_each_file_missing() {
        assert_eq!(tree(&WHOLE).1.iter().map(|line| line.level).collect::<Vec<_>>(), [Level::Ok]);
        for missing in WHOLE.map(|(name, _)| name) {
            let rest: Vec<_> = WHOLE.into_iter().filter(|(name, _)| *name != missing).collect();
            let (_folder, lines) = tree(&rest);
            let level = if missing == "cmdline.txt" { Level::Warning } else { Level::Problem };
            assert!(
                lines.iter().any(|l| l.level == level && l.found.contains(missing)),
                "{missing}: {lines:?}"
            );
        }
    }

    #[test]
    fn a_pis_own_folder_lies_over_the_shared_one() {
        let own = [("5b154510/config.txt", "kernel=mine.img\n")];
        let lines = tree(&[&WHOLE[..], &own].concat()).1;
        assert!(lines.len() == 1 && lines[0].found.contains("mine.img"), "{lines:?}");
        let both = [own[0], ("5b154510/mine.img", "")];
        assert_eq!(tree(&[&WHOLE[..], &both].concat()).1[0].level, Level::Ok);
        let strangers = [("notes/config.txt", "kernel=no.img\n")];
        assert_eq!(tree(&[&WHOLE[..], &strangers].concat()).1[0].level, Level::Ok);
    }

    #[test]
    fn a_ramdisk_and_prefixes() {
        assert_eq!(tree(&[("config.txt", "boot_ramdisk=1\n"), ("boot.img", "")]).1[0].level, Level::Ok);
        assert!(tree(&[("config.txt", "boot_ramdisk=1\n")]).1[0].found.contains("boot.img"));
        let config = Config::parse("os_prefix=v2/\nkernel=k\ninitramfs /a,b 0x1000000\n");
        let files: Vec<_> = config.wanted().into_iter().map(|wanted| wanted.file).collect();
        assert_eq!(files, ["v2/k", "/a", "v2/b"]);
        assert_eq!(Config::parse("").wanted()[0].file, "kernel8.img");
    }
}
