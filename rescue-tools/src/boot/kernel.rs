//! The kernel that a disk has for itself: which file, which initramfs, which command line.

use std::cmp::Ordering;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Result;
use init::cmdline::{CommandLine, Word};

use super::root::Root;
use crate::mount::inside::{Inside, by_number};
use crate::refusal::refused;

/// What a person may say instead of what is found. Paths are those that the OS sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The kernel.
    pub kernel: Option<String>,
    /// The initramfs.
    pub initramfs: Option<String>,
    /// The command line.
    pub command_line: Option<String>,
    /// Options of the root's mount, for a command line that is made.
    pub flags: Option<String>,
}

/// What is to be started.
#[derive(Debug)]
pub struct Kernel {
    /// Its path, as the OS sees it.
    pub path: PathBuf,
    /// The file.
    pub file: File,
    /// Its initramfs: path and file.
    pub initramfs: Option<(PathBuf, File)>,
    /// Its command line.
    pub command_line: String,
}

/// Kernels and their initramfs, the likeliest first: what a Pi's firmware loads (Raspberry Pi OS of today and before), the
/// links of Debian, Ubuntu, Arch Linux ARM.
const KNOWN: [(&str, &str); 7] = [
    ("boot/firmware/kernel8.img", "boot/firmware/initramfs8"),
    ("boot/kernel8.img", "boot/initramfs8"),
    ("vmlinuz", "initrd.img"),
    ("boot/vmlinuz", "boot/initrd.img"),
    ("boot/firmware/vmlinuz", "boot/firmware/initrd.img"),
    ("boot/firmware/current/vmlinuz", "boot/firmware/current/initrd.img"),
    ("boot/Image", "boot/initramfs-linux.img"),
];
/// Where a command line is written down: kernel-install(8), and the firmware's own.
const COMMAND_LINES: [&str; 4] = [
    "etc/kernel/cmdline",
    "boot/firmware/cmdline.txt",
    "boot/firmware/current/cmdline.txt",
    "boot/cmdline.txt",
];
/// The kernel takes no longer one (`COMMAND_LINE_SIZE` of arm64).
const COMMAND_LINE_LIMIT: usize = 2047;
/// What a Pi's firmware adds for the machine, whatever it boots, and what says where people look.
const OF_THE_MACHINE: [&str; 8] = [
    "coherent_pool",
    "8250.nr_uarts",
    "smsc95xx.macaddr",
    "vc_mem.mem_base",
    "vc_mem.mem_size",
    "bcm2708_fb",
    "snd_bcm2835",
    "console",
];

/// Finds them below `folder`, where the root is mounted.
///
/// # Errors
/// When there is no kernel, or a file that was named is not there.
pub fn find(folder: &Path, root: &Root, wish: &Wish) -> Result<Kernel> {
    let inside = Inside::new(folder)?;
    let (kernel, initramfs) = match &wish.kernel {
        Some(path) => (PathBuf::from(path), initramfs_of(&inside, Path::new(path))),
        None => likeliest(&inside)?,
    };
    let open = |path: PathBuf| anyhow::Ok((path.clone(), inside.open(&path)?));
    let initramfs = match &wish.initramfs {
        Some(path) => Some(open(path.into())?),
        None => initramfs.map(open).transpose()?,
    };
    let written = match &wish.command_line {
        Some(line) => line.clone(),
        None => COMMAND_LINES.iter().find_map(|path| command_line(&inside, path)).unwrap_or_default(),
    };
    let running = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let command_line = complete(&written, &running, root, wish.flags.as_deref());
    if command_line.len() > COMMAND_LINE_LIMIT {
        return Err(refused(format!(
            "the command line has {} bytes, and the kernel takes {COMMAND_LINE_LIMIT} (--command-line gives another)",
            command_line.len()
        )));
    }
    Ok(Kernel {
        file: inside.open(&kernel)?,
        path: Path::new("/").join(kernel),
        initramfs: initramfs.map(|(path, file)| (Path::new("/").join(path), file)),
        command_line,
    })
}

/// What is written down, without lines that are remarks.
fn command_line(inside: &Inside, path: &str) -> Option<String> {
    let text = inside.text(path)?;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    Some(lines.collect::<Vec<_>>().join(" ")).filter(|line| !line.trim().is_empty())
}

/// The line that is written down, a root where it names none, and before it what belongs to the machine. A line that says
/// where the console is keeps it; but for `serial0`, which only the firmware knows, stands what it made of it for us.
fn complete(written: &str, running: &str, root: &Root, flags: Option<&str>) -> String {
    let (serial, kept): (Vec<&str>, Vec<&str>) =
        written.split_ascii_whitespace().partition(|word| word.starts_with("console=serial"));
    let own = CommandLine::parse(&kept.join(" "));
    let says = |name: &str| own.words.iter().any(|word| word.name == name);
    let is_serial = |word: &Word| {
        let value = word.value.as_deref().unwrap_or("");
        word.name == "console" && (value.starts_with("ttyS") || value.starts_with("ttyAMA"))
    };
    let of_the_machine = |word: &&Word| {
        let family = word.name.split('.').next().unwrap_or_default();
        let known = OF_THE_MACHINE.iter().any(|known| *known == word.name || *known == family);
        (known && !says(&word.name)) || (is_serial(word) && !serial.is_empty())
    };
    let running = CommandLine::parse(running);
    let mut words: Vec<String> =
        running.words.iter().filter(of_the_machine).map(ToString::to_string).collect();
    if !says("root") {
        let content = root.device.content.as_ref().and_then(|content| content.uuid.as_deref());
        words.push(match content {
            Some(uuid) => format!("root=UUID={uuid}"),
            None => format!("root={}", root.device.path.display()),
        });
        let subvolume = root.system.as_ref().and_then(|system| system.subvolume.as_deref());
        let found = subvolume.map(|subvolume| format!("subvol={subvolume}"));
        words.extend(flags.map(str::to_owned).or(found).map(|flags| format!("rootflags={flags}")));
        words.extend((!says("ro") && !says("rw")).then(|| "ro".into()));
    }
    words.extend(kept.into_iter().map(str::to_owned));
    words.join(" ")
}

/// The kernel, and the initramfs that goes with it where there is one.
fn likeliest(inside: &Inside) -> Result<(PathBuf, Option<PathBuf>)> {
    for (kernel, initramfs) in KNOWN.map(|(kernel, initramfs)| (Path::new(kernel), Path::new(initramfs))) {
        if inside.has(kernel) {
            let beside = inside.has(initramfs).then(|| initramfs.into());
            return Ok((kernel.into(), beside.or_else(|| initramfs_of(inside, kernel))));
        }
    }
    let Some(version) = versions(inside).into_iter().max_by(|one, other| newer(one, other)) else {
        return Err(refused(
            "there is no kernel on the disk in a place that is known (--kernel and --initramfs name others)",
        ));
    };
    let kernel = Path::new("boot").join(format!("vmlinuz-{version}"));
    let initramfs = initramfs_of(inside, &kernel);
    Ok((kernel, initramfs))
}

/// The initramfs of the version that the kernel's file name, at the end of all links, has.
fn initramfs_of(inside: &Inside, kernel: &Path) -> Option<PathBuf> {
    let real = std::fs::read_link(by_number(&inside.open(kernel).ok()?)).ok()?;
    let version = real.file_name()?.to_str()?.strip_prefix("vmlinuz-")?;
    let names = [format!("initrd.img-{version}"), format!("initramfs-{version}.img")];
    names.iter().map(|name| Path::new("boot").join(name)).find(|path| inside.has(path))
}

/// Of the kernels in `/boot`.
fn versions(inside: &Inside) -> Vec<String> {
    let Ok(folder) = inside.folder(Path::new("boot")) else { return Vec::new() };
    let entries = std::fs::read_dir(by_number(&folder)).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned()))
        .collect()
}

/// 6.12.9 comes before 6.12.10: numbers count as such.
pub fn newer(one: &str, other: &str) -> Ordering {
    let parts = |version: &str| {
        let parts = version.split(|c: char| !c.is_ascii_alphanumeric());
        parts.map(|part| (part.parse::<u64>().unwrap_or_default(), part.to_owned())).collect::<Vec<_>>()
    };
    parts(one).cmp(&parts(other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::filesystem::FileSystem;
    use crate::disk::lsblk;

    fn root() -> Root {
        let devices = lsblk::parse(include_bytes!("../disk/fixtures/lsblk-stacked.json")).unwrap();
        Root { device: devices[0].clone(), file_system: FileSystem::Ext4, system: None }
    }

    fn disk(files: &[&str]) -> tempfile::TempDir {
        let disk = tempfile::tempdir().unwrap();
        for file in files {
            let path = disk.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        disk
    }

    fn found(disk: &tempfile::TempDir) -> (String, Option<String>) {
        let kernel = find(disk.path(), &root(), &Wish::default()).unwrap();
        let text = |path: PathBuf| path.display().to_string();
        (text(kernel.path), kernel.initramfs.map(|(path, _)| text(path)))
    }

    #[test]
    fn what_the_firmware_loads_comes_first_and_then_the_newest() {
        let debian = disk(&[
            "boot/vmlinuz-6.12.9",
            "boot/vmlinuz-6.12.10",
            "boot/initrd.img-6.12.10",
            "boot/initrd.img-6.12.9",
        ]);
        assert_eq!(found(&debian), ("/boot/vmlinuz-6.12.10".into(), Some("/boot/initrd.img-6.12.10".into())));
        // Links lead where the OS would see them lead.
        std::os::unix::fs::symlink("/boot/vmlinuz-6.12.9", debian.path().join("vmlinuz")).unwrap();
        std::os::unix::fs::symlink("/etc/hosts", debian.path().join("initrd.img")).unwrap();
        assert_eq!(found(&debian), ("/vmlinuz".into(), Some("/boot/initrd.img-6.12.9".into())));
        let raspberry =
            disk(&["boot/firmware/kernel8.img", "boot/firmware/initramfs8", "boot/vmlinuz-6.12.9"]);
        assert_eq!(
            found(&raspberry),
            ("/boot/firmware/kernel8.img".into(), Some("/boot/firmware/initramfs8".into()))
        );
        let error = find(disk(&[]).path(), &root(), &Wish::default()).unwrap_err().to_string();
        assert!(error.contains("no kernel") && error.contains("--kernel"), "{error}");
    }

    #[test]
    fn what_is_named_is_taken_and_must_be_a_file() {
        let disk = disk(&["boot/Image", "srv/my-kernel", "srv/my-initramfs"]);
        let wish = |kernel: &str| Wish {
            kernel: Some(kernel.into()),
            initramfs: Some("/srv/my-initramfs".into()),
            command_line: Some("quiet".into()),
            flags: None,
        };
        let kernel = find(disk.path(), &root(), &wish("/srv/my-kernel")).unwrap();
        assert!(kernel.command_line.ends_with(" quiet"), "{}", kernel.command_line);
        assert_eq!(kernel.initramfs.unwrap().0, Path::new("/srv/my-initramfs"));
        for missing in ["/srv", "/srv/none", "/../../etc/hosts"] {
            let error = format!("{:#}", find(disk.path(), &root(), &wish(missing)).unwrap_err());
            assert!(error.contains("of the disk"), "{error}");
        }
    }

    #[test]
    fn a_line_keeps_what_it_says_and_gets_what_the_machine_needs() {
        let running = "coherent_pool=1M vc_mem.mem_base=0x3eb00000 console=ttyAMA0 rd.luks.uuid=1 panic=10";
        let line = |written| complete(written, running, &root(), None);
        assert_eq!(
            line("console=tty1  root=LABEL=x ro\n"),
            "coherent_pool=1M vc_mem.mem_base=0x3eb00000 console=tty1 root=LABEL=x ro"
        );
        // That of Raspberry Pi OS.
        assert_eq!(
            line("console=serial0,115200 console=tty1 root=PARTUUID=1-02 rootwait"),
            "coherent_pool=1M vc_mem.mem_base=0x3eb00000 console=ttyAMA0 console=tty1 root=PARTUUID=1-02 rootwait"
        );
        assert!(complete("", "", &root(), Some("subvol=@x")).contains(" rootflags=subvol=@x ro"));
        let made = line("");
        assert!(
            made.starts_with("coherent_pool=1M vc_mem.mem_base=0x3eb00000 console=ttyAMA0 root="),
            "{made}"
        );
        assert!(made.ends_with(" ro") && !made.contains("luks") && !made.contains("panic"), "{made}");
    }

    proptest! {
        #[test]
        fn no_line_and_no_version_panics(written in "\\PC{0,100}", running in "\\PC{0,100}", one in "\\PC{0,20}") {
            complete(&written, &running, &root(), None);
            prop_assert_eq!(newer(&one, &one), Ordering::Equal);
        }
    }
}
