//! Writes a squashfs with `mksquashfs` (Debian: squashfs-tools), which carries what backhand cannot and uses all cores.
//!
//! A folder it reads itself. Archives and disk images are handed over as a tar stream, so that nothing has to be unpacked
//! and nobody has to be root.

use super::contents::Contents;
use super::meter::{Meter, Metered};
use super::tree::{Entry, Kind, RUNTIME_FOLDERS, Tree, squashfs_time};
use super::writer::Options;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tar::{EntryType, Header};

/// mksquashfs may use so much memory for its queues.
const MEMORY: &str = "1G";
/// Where a squashfs has its own time (`mkfs_time`, 32 bits).
const TIME_AT: u64 = 8;
/// How much of what mksquashfs says goes into an error.
const SAID_LIMIT: usize = 300;

/// Whether the program is there.
pub fn is_present() -> bool {
    Command::new("mksquashfs").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// What of `tree` mksquashfs cannot carry, a phrase each. It reads a folder itself; of anything else it sees a tar stream,
/// which has no sockets, and for which it makes a top folder of its own.
pub fn losses(tree: &Tree, folder: bool) -> Vec<String> {
    let mut losses = Vec::new();
    if folder {
        return losses;
    }
    let sockets = tree.iter().filter(|(_, entry)| entry.kind == Kind::Socket).count();
    if sockets > 0 {
        losses.push(format!("sockets: {sockets} (nobody listens on them in an image)"));
    }
    let Some(root) = tree.entry(Path::new("")) else { return losses };
    if !root.xattrs.is_empty() {
        losses.push(format!("extended attributes of the top folder: {}", root.xattrs.len()));
    }
    if (root.uid, root.gid) != (0, 0) {
        losses.push("the owner of the top folder (it becomes root's)".to_owned());
    }
    losses
}

/// Writes the image to `output`; `folder` is the source if that is a folder.
///
/// # Errors
/// If mksquashfs is missing or fails, or reading the source fails.
pub fn write(
    tree: &Tree,
    contents: &Contents,
    folder: Option<&Path>,
    output: &Path,
    options: &Options,
) -> Result<()> {
    let mut said = tempfile::tempfile().context("making a file for what mksquashfs says")?;
    let Some(folder) = folder else { return write_stream(tree, contents, output, options, &mut said) };
    let absolute = folder.canonicalize().with_context(|| format!("finding {}", folder.display()))?;
    let mut command = command(&absolute, output, options);
    command.args(["-mkfs-time", &options.time.to_string()]);
    // mksquashfs takes the variable as the latest time that any file may have; ours is the image's alone.
    command.env_remove("SOURCE_DATE_EPOCH");
    // What is left out has to come last.
    command.args(["-wildcards", "-e"]);
    command.args(RUNTIME_FOLDERS.iter().flat_map(|name| [format!("{name}/*"), format!("{name}/.*")]));
    let status = watch(start(command.stdin(Stdio::null()), &said)?, tree.bytes())?;
    check(status, &mut said)
}

/// Hands the files over as a tar stream. mksquashfs (4.5.1) gives the top folder the time of its own start, whatever its
/// options say, but heeds SOURCE_DATE_EPOCH as the latest time for anything: with the newest file's time there, the same
/// source gives the same image, and no file's time changes. The image's own time is put in afterwards.
fn write_stream(
    tree: &Tree,
    contents: &Contents,
    output: &Path,
    options: &Options,
    said: &mut File,
) -> Result<()> {
    let mut command = command(Path::new("-"), output, options);
    command.env("SOURCE_DATE_EPOCH", tree.latest().to_string());
    let mode = tree.entry(Path::new("")).map_or(0o755, |root| root.mode);
    command.args(["-tar", "-root-mode", &format!("{mode:o}")]).stdin(Stdio::piped());
    let mut child = start(&mut command, said)?;
    let input = child.stdin.take().context("opening mksquashfs' input")?;
    let fed = feed(tree, contents, input);
    let status = child.wait().context("waiting for mksquashfs")?;
    // If mksquashfs gave up, its words say why, and that its input broke says nothing.
    match fed {
        Err(error) if !is_broken_pipe(&error) => return Err(error),
        Err(_) => check(status, said).and_then(|()| bail!("mksquashfs ended before all was handed over"))?,
        Ok(()) => check(status, said)?,
    }
    let file = File::options().write(true).open(output).context("opening the new squashfs")?;
    file.write_all_at(&options.time.to_le_bytes(), TIME_AT).context("writing the squashfs' time")
}

fn command(source: &Path, output: &Path, options: &Options) -> Command {
    let mut command = Command::new("mksquashfs");
    command.arg(source).arg(output);
    command.args(["-noappend", "-no-progress", "-quiet", "-exit-on-error", "-mem", MEMORY, "-comp", "zstd"]);
    command.args(["-Xcompression-level", &options.level.to_string(), "-b", &options.block_size.to_string()]);
    command.args(["-processors", &options.threads.to_string()]);
    command
}

fn start(command: &mut Command, said: &File) -> Result<Child> {
    command.stdout(said.try_clone()?).stderr(said.try_clone()?);
    command.spawn().context("starting mksquashfs (Debian: apt install squashfs-tools)")
}

/// Shows how much the program has read until it ends.
fn watch(mut child: Child, total: u64) -> Result<ExitStatus> {
    let meter = Meter::new("packing", total);
    let counters = PathBuf::from(format!("/proc/{}/io", child.id()));
    loop {
        if let Some(status) = child.try_wait().context("waiting for mksquashfs")? {
            meter.finish();
            return Ok(status);
        }
        let text = std::fs::read_to_string(&counters).unwrap_or_default();
        let read = text.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok());
        meter.set(read.unwrap_or_default());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn check(status: ExitStatus, said: &mut File) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    said.rewind().and_then(|()| said.read_to_string(&mut text)).context("reading what mksquashfs said")?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let telling: Vec<&str> =
        lines.iter().filter(|line| line.contains("ERROR") || line.contains("ailed")).copied().collect();
    let text = if telling.is_empty() { lines } else { telling }.join("; ");
    bail!("mksquashfs failed ({status}): {}", text.chars().take(SAID_LIMIT).collect::<String>())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|it| it.downcast_ref::<std::io::Error>());
    kinds.map(std::io::Error::kind).any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}

fn feed(tree: &Tree, contents: &Contents, input: impl Write) -> Result<()> {
    let meter = Meter::new("packing", tree.bytes());
    let mut archive = tar::Builder::new(BufWriter::with_capacity(256 << 10, input));
    for (path, entry) in
        tree.iter().filter(|(path, entry)| !path.as_os_str().is_empty() && entry.kind != Kind::Socket)
    {
        append(&mut archive, path, entry, contents, &meter)
            .with_context(|| format!("packing {:?}", path.display()))?;
    }
    archive.into_inner().and_then(|mut output| output.flush()).context("handing over the files")?;
    meter.finish();
    Ok(())
}

/// One entry: what has no room in tar's own header goes into entries before it.
fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &Path,
    entry: &Entry,
    contents: &Contents,
    meter: &Meter,
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_path("x").context("naming it")?;
    header.set_mode(u32::from(entry.mode));
    header.set_uid(u64::from(entry.uid));
    header.set_gid(u64::from(entry.gid));
    header.set_mtime(u64::from(squashfs_time(entry.mtime)));
    let (mut size, mut target, mut content) = (0, None, None);
    let kind = match &entry.kind {
        Kind::Directory => EntryType::Directory,
        Kind::File { size: length, content: place } => {
            size = *length;
            content = Some(place);
            EntryType::Regular
        }
        Kind::HardLink { of } => {
            target = Some(of);
            EntryType::Link
        }
        Kind::Symlink { target: to } => {
            target = Some(to);
            EntryType::Symlink
        }
        Kind::Device { block, major, minor } => {
            header.set_device_major(*major)?;
            header.set_device_minor(*minor)?;
            if *block { EntryType::Block } else { EntryType::Char }
        }
        Kind::Fifo => EntryType::Fifo,
        Kind::Socket => return Ok(()),
    };
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    archive.append_pax_extensions(attributes(entry).iter().map(|(key, value)| (key.as_str(), *value)))?;
    // Not as PAX records: mksquashfs (4.5.1) takes a leading "../" off the target of a symbolic link there.
    long_name(archive, EntryType::GNULongName, path)?;
    if let Some(target) = target {
        long_name(archive, EntryType::GNULongLink, target)?;
    }
    let reader: Box<dyn Read> = match content {
        Some(place) => contents.open(place, size)?,
        None => Box::new(std::io::empty()),
    };
    archive.append(&header, Metered { inner: reader, meter: meter.clone() })?;
    Ok(())
}

fn attributes(entry: &Entry) -> Vec<(String, &[u8])> {
    if matches!(entry.kind, Kind::HardLink { .. }) {
        return Vec::new();
    }
    let key = |name: &OsStr| format!("SCHILY.xattr.{}", name.to_string_lossy());
    entry.xattrs.iter().map(|(name, value)| (key(name), value.as_slice())).collect()
}

/// A path in an entry of its own before the one that it is for.
fn long_name<W: Write>(archive: &mut tar::Builder<W>, kind: EntryType, name: &Path) -> Result<()> {
    let mut bytes = name.as_os_str().as_bytes().to_vec();
    bytes.push(0);
    let mut header = Header::new_gnu();
    header.set_path("././@LongLink").context("naming it")?;
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    Ok(archive.append(&header, bytes.as_slice())?)
}
