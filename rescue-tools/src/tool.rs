//! The programs of others that `rescue` calls: found in PATH, run, and named with their package where they are missing.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Every program that `rescue` may call, with the Debian package that has it. The standard profile carries them all:
/// held by `the_profiles_carry_every_program`.
const PACKAGES: &[(&str, &str)] = &[
    ("blkid", "util-linux"),
    ("btrfs", "btrfs-progs"),
    ("cryptsetup", "cryptsetup-bin"),
    ("debugfs", "e2fsprogs"),
    ("ddrescue", "gddrescue"),
    ("dmesg", "util-linux"),
    ("dmsetup", "dmsetup"),
    ("dumpe2fs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("fsck.exfat", "exfatprogs"),
    ("fsck.f2fs", "f2fs-tools"),
    ("fsck.vfat", "dosfstools"),
    ("lsblk", "util-linux"),
    ("lvm", "lvm2"),
    ("mdadm", "mdadm"),
    ("mount", "mount"),
    ("partx", "util-linux"),
    ("resize2fs", "e2fsprogs"),
    ("sfdisk", "fdisk"),
    ("smartctl", "smartmontools"),
    ("umount", "mount"),
    ("xfs_db", "xfsprogs"),
    ("xfs_growfs", "xfsprogs"),
    ("xfs_repair", "xfsprogs"),
    ("zstd", "zstd"),
];

/// What only the profile `full` carries, in the same form.
const IN_FULL: &[(&str, &str)] = &[("kexec", "kexec-tools")];

/// Where programs for root are, in case a PATH leaves them out.
const SYSTEM_FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Of what a program says, so much is kept; the rest is read and dropped. A file system in pieces makes a checker talk
/// for gigabytes.
pub const OUTPUT_LIMIT: usize = 4 << 20;

/// There is no such program here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no {name} on this system: images of the profile \"{profile}\" have it (Debian package: {package})"
)]
pub struct MissingTool {
    /// Its name.
    pub name: String,
    /// The package that has it.
    pub package: &'static str,
    /// The least profile that has it.
    pub profile: &'static str,
}

/// One program, with the arguments of one call.
#[derive(Debug)]
pub struct Tool {
    name: String,
    command: Command,
}

/// What a program that ended left.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// The first [`OUTPUT_LIMIT`] bytes of its standard output.
    pub stdout: Vec<u8>,
    /// The same of its standard error.
    pub stderr: Vec<u8>,
}

/// Where the output of a program that people watch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// To our standard output.
    Stdout,
    /// To our standard error, as our standard output is JSON.
    Stderr,
}

impl Tool {
    /// Finds `name` in PATH, and in the folders of root's programs.
    pub fn new(name: &str) -> Result<Self, MissingTool> {
        let path = find(name, std::env::var_os("PATH").as_deref()).ok_or_else(|| missing(name))?;
        let mut command = Command::new(path);
        // Words that are read by a program must not be translated.
        command.env("LC_ALL", "C");
        // There is no udevd: libdevmapper makes and renames the nodes below /dev/mapper itself then.
        command.env("DM_DISABLE_UDEV", "1");
        Ok(Tool { name: name.into(), command })
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    /// The command itself, for pipes and other needs of one's own. It has the locale C.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end with nothing on its standard input; what it says is kept, whatever its exit code.
    pub fn output(self) -> Result<Output> {
        self.output_with_input(&[])
    }

    /// The same with `input` on its standard input.
    pub fn output_with_input(mut self, input: &[u8]) -> Result<Output> {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = thread::scope(|scope| {
            scope.spawn(move || {
                // A program may end without reading all of it.
                stdin.map(|mut stdin| stdin.write_all(input))
            });
            let stderr = scope.spawn(move || stderr.map(read_limited).unwrap_or_default());
            (stdout.map(read_limited).unwrap_or_default(), stderr.join().unwrap_or_default())
        });
        let status = child.wait().with_context(|| format!("waiting for {}", self.name))?;
        Ok(Output { status, stdout, stderr })
    }

    /// [`Tool::output`] of a program that must not be broken off: neither Ctrl-C nor the end of the SSH connection reaches
    /// it, and we stay to hear it out.
    pub fn unbroken(self) -> Result<Output> {
        self.unbroken_with_input(&[])
    }

    /// The same with `input` on its standard input.
    pub fn unbroken_with_input(mut self, input: &[u8]) -> Result<Output> {
        let _unbroken = Unbroken::begin()?;
        // A terminal sends its signals to the group of processes in front.
        self.command.process_group(0);
        self.output_with_input(input)
    }

    /// [`Tool::output`] of a program that must succeed: its standard output. The error has the last line that it said.
    pub fn stdout(self) -> Result<Vec<u8>> {
        let name = self.name.clone();
        let output = self.output()?;
        if !output.status.success() {
            bail!("{name} failed ({}): {}", output.status, output.last_line());
        }
        Ok(output.stdout)
    }

    /// Runs it where the person sits: it has our standard input and error, and its output goes as `shown` says.
    pub fn run(mut self, shown: Shown) -> Result<ExitStatus> {
        let stdout = match shown {
            Shown::Stdout => Stdio::inherit(),
            Shown::Stderr => Stdio::from(std::io::stderr()),
        };
        self.command.stdout(stdout).status().with_context(|| format!("running {}", self.name))
    }

    fn spawn(&mut self) -> Result<Child> {
        self.command.spawn().with_context(|| format!("starting {}", self.name))
    }
}

impl Output {
    /// Both outputs as text, as far as they are UTF-8.
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&self.stderr));
        text
    }

    /// The last line with something in it, of standard error or else of standard output.
    pub fn last_line(&self) -> String {
        let last = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(String::from)
        };
        last(&self.stderr).or_else(|| last(&self.stdout)).unwrap_or_else(|| "it said nothing".into())
    }
}

/// As long as it lives, the signals of a terminal and of its end do not end us.
struct Unbroken;

/// Whether those signals do what they do by default.
static BREAKABLE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

impl Unbroken {
    fn begin() -> Result<Self> {
        if BREAKABLE.get().is_none() {
            let breakable = Arc::new(AtomicBool::new(true));
            for signal in [SIGHUP, SIGINT, SIGTERM] {
                signal_hook::flag::register_conditional_default(signal, breakable.clone())
                    .context("keeping signals off")?;
            }
            let _ = BREAKABLE.set(breakable);
        }
        Self::set(false);
        Ok(Unbroken)
    }

    fn set(breakable: bool) {
        if let Some(flag) = BREAKABLE.get() {
            flag.store(breakable, Ordering::SeqCst);
        }
    }
}

impl Drop for Unbroken {
    fn drop(&mut self) {
        Self::set(true);
    }
}

fn find(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let folders = path.into_iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute());
    folders
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn missing(name: &str) -> MissingTool {
    let package = |list: &[(&'static str, &'static str)]| {
        list.iter().find(|(program, _)| *program == name).map(|(_, package)| *package)
    };
    match package(IN_FULL) {
        Some(package) => MissingTool { name: name.into(), package, profile: "full" },
        None => {
            let package = package(PACKAGES).unwrap_or("not known");
            MissingTool { name: name.into(), package, profile: "standard" }
        }
    }
}

/// The first [`OUTPUT_LIMIT`] bytes; the rest is read so that the program can go on.
fn read_limited(mut from: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let limit = u64::try_from(OUTPUT_LIMIT).unwrap_or(u64::MAX);
    let _ = from.by_ref().take(limit).read_to_end(&mut kept);
    let _ = std::io::copy(&mut from, &mut std::io::sink());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_and_says_how_it_went() {
        let output = Tool::new("sh").unwrap().args(["-c", "cat; echo err >&2; exit 4"]);
        let output = output.output_with_input(b"in\n").unwrap();
        assert_eq!((output.status.code(), output.text().as_str()), (Some(4), "in\nerr\n"));
        assert_eq!(output.last_line(), "err");
        let error = Tool::new("sh").unwrap().args(["-c", "echo why; exit 1"]).stdout().unwrap_err();
        assert_eq!(format!("{error:#}"), "sh failed (exit status: 1): why");
    }

    #[test]
    fn much_output_and_unread_input_hang_nothing() {
        let script = format!("head -c {} /dev/zero; head -c 300000 /dev/zero >&2", OUTPUT_LIMIT * 2);
        let output = Tool::new("sh").unwrap().args(["-c", &script]).output_with_input(&[0; 1 << 20]).unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (OUTPUT_LIMIT, 300_000));
        assert!(output.status.success());
    }

    #[test]
    fn a_missing_one_is_one_line_with_its_package() {
        let error = missing("e2fsck").to_string();
        assert!(
            error.contains("e2fsck") && error.contains("standard") && error.contains("e2fsprogs"),
            "{error}"
        );
        assert!(Tool::new("no-such-program").is_err());
        assert_eq!(
            find("passwd", Some(OsStr::new("etc:/etc"))).filter(|path| path.starts_with("/etc")),
            None
        );
    }

    #[test]
    fn the_profiles_carry_every_program() {
        for (profile, programs) in [("standard", PACKAGES), ("full", IN_FULL)] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boot-files/profiles");
            let text = std::fs::read_to_string(path.join(profile).with_extension("toml")).unwrap();
            let table: toml::Table = toml::from_str(&text).unwrap();
            let tools = table["tools"].as_array().unwrap();
            for (program, package) in programs {
                assert!(carries(tools, program, package), "{program} of {package} in {profile}");
            }
        }
    }

    fn carries(tools: &[toml::Value], program: &str, package: &str) -> bool {
        let tools = tools.iter().filter(|tool| tool["package"].as_str() == Some(package));
        let files = tools.flat_map(|tool| tool["files"].as_array().unwrap());
        files.map(|file| file.as_str().unwrap().rsplit('/').next().unwrap()).any(|file| {
            match file.split_once('*') {
                Some((start, end)) => program.starts_with(start) && program.ends_with(end),
                None => file == program,
            }
        })
    }
}
