//! `boot-files os`: makes an OS image (a squashfs, its manifest and the manifest's signature) from a folder, an archive
//! or a disk image.

pub mod backhand_writer;
pub mod contents;
pub mod directory;
pub mod ext4;
pub mod facts;
pub mod manifest;
pub mod meter;
pub mod mksquashfs;
pub mod names;
pub mod partitions;
pub mod sizes;
pub mod source;
pub mod squashfs;
pub mod tarball;
pub mod tree;
pub mod writer;

use crate::keys::file::{self as key_file, SecretKey};
use crate::keys::output::{self, Access, Existing};
use crate::keys::{sign, timestamp};
use anyhow::{Context, Result, bail};
use contents::Contents;
use manifest::{Description, Made};
use names::Names;
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use tree::Tree;
use writer::{Options, Writer};

/// Make an OS image that Pis boot into RAM.
///
/// The source is a root file system: a folder, a tar archive (plain, gzip, xz, zstd) or a disk image such as Raspberry Pi
/// OS comes in (MBR or GPT with ext4, also compressed); it is recognised by its content. Only a folder needs root, and
/// only if its files belong to root. Makes NAME.squashfs, NAME.json (the manifest: a hash for each chunk) and, with a
/// key, NAME.json.minisig. What is in /proc, /sys, /dev, /run and /tmp stays out.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  boot-files os rootfs/ -o debian-13.squashfs --key image.key
  boot-files os debian-13.tar.zst -o debian-13.squashfs --key image.key
  boot-files os 2026-11-04-raspios-trixie-arm64-lite.img.xz -o raspios.squashfs --key image.key
  boot-files os made-elsewhere.squashfs --manifest-only --key image.key

With SOURCE_DATE_EPOCH set, the same source gives the same squashfs and manifest, byte for byte.")]
pub struct Args {
    /// The root file system, or with --manifest-only a squashfs.
    source: PathBuf,
    /// The image to write: NAME.squashfs. The manifest is NAME.json beside it.
    #[arg(short, long, value_name = "NAME.squashfs", required_unless_present = "manifest_only")]
    output: Option<PathBuf>,
    /// The source is a squashfs: leave it as it is and make its manifest and signature.
    #[arg(long, conflicts_with_all = ["output", "writer", "block_size", "level", "partition", "threads"])]
    manifest_only: bool,
    /// The private image key (minisign) to sign the manifest with. Without a signature a Pi refuses the image, unless
    /// lifeboat.sha256= names it.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The file that holds the passphrase of a protected key in its first line.
    #[arg(long, value_name = "FILE", requires = "key")]
    password_file: Option<PathBuf>,
    /// The image's name in the manifest [default: NAME of the output].
    #[arg(long)]
    name: Option<String>,
    /// The image's version in the manifest, for people [default: that of its os-release].
    #[arg(long)]
    version: Option<String>,
    /// The image's serial number: a Pi takes none below the newest it has seen [default: SOURCE_DATE_EPOCH, or the
    /// time in seconds since 1970].
    #[arg(long)]
    serial: Option<u64>,
    /// Take this partition of a disk image [default: the first with ext4 and an /etc/os-release].
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Who writes the squashfs.
    #[arg(long, value_enum, default_value = "auto")]
    writer: Writer,
    /// The size of a squashfs block: a power of two from 4K to 1M. Larger packs better and costs a Pi more per read.
    #[arg(long, value_name = "SIZE", default_value = "128K", value_parser = sizes::block)]
    block_size: u32,
    /// zstd's level: 1 is fast, 22 small. A Pi unpacks all alike.
    #[arg(long, value_name = "1..22", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=22))]
    level: u32,
    /// The size of a manifest's chunk: a power of two from 64K to 16M. A chunk that arrives damaged is fetched again.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = sizes::chunk)]
    chunk_size: u64,
    /// How many cores to use [default: all]. The built-in writer uses one.
    #[arg(long)]
    threads: Option<usize>,
    /// Take a source without an init, or with one for another machine.
    #[arg(long)]
    no_init_check: bool,
    /// Say what was made as JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Summary {
    squashfs: PathBuf,
    size: u64,
    sha256: String,
    manifest: PathBuf,
    signature: Option<PathBuf>,
    name: String,
    version: String,
    serial: u64,
    kernel_releases: Vec<String>,
    writer: Option<&'static str>,
    lost: Vec<String>,
}

/// Makes the image and says what was made.
///
/// # Errors
/// If the source, the key or a name is not what it should be, or reading or writing fails. No output is there then that
/// was not there before, and none is half written.
pub fn run(args: Args) -> Result<()> {
    let key = args.key.as_deref().map(|path| image_key(path, args.password_file.as_deref())).transpose()?;
    let squashfs = args.output.as_ref().unwrap_or(&args.source);
    let names = Names::new(squashfs, args.name.as_deref())?;
    let summary = if args.manifest_only {
        let system = squashfs::Squashfs::open(&args.source)?;
        let description = describe(&args, &names, &system.scan()?, &Contents::Squashfs(system))?;
        finish(&args, &names, None, description, key.as_ref())?
    } else {
        let source = source::open(&args.source, args.partition, &names.folder)?;
        let description = describe(&args, &names, &source.tree, &source.contents)?;
        say(&format!("{}: {}, {} entries", args.source.display(), source.what, source.tree.len()));
        let image = output::beside(&names.squashfs)?;
        let options = Options {
            block_size: args.block_size,
            level: args.level,
            time: image_time(&source.tree)?,
            threads: args
                .threads
                .or_else(|| Some(std::thread::available_parallelism().ok()?.get()))
                .unwrap_or(1)
                .max(1),
        };
        let mut written = writer::write(&source, &image, args.writer, &options)
            .with_context(|| format!("packing {}", args.source.display()))?;
        written.lost.extend(unplaced(&source.tree));
        let mut summary = finish(&args, &names, Some(image), description, key.as_ref())?;
        (summary.writer, summary.lost) = (Some(written.by), written.lost);
        summary
    };
    tell(&summary, args.json)
}

fn image_key(path: &Path, password: Option<&Path>) -> Result<minisign::SecretKey> {
    match key_file::read_secret(path, password)? {
        SecretKey::Image(key) => Ok(*key),
        SecretKey::Boot(_) => {
            bail!("{} is a boot key; OS images are signed with an image key", path.display())
        }
    }
}

fn describe(args: &Args, names: &Names, tree: &Tree, contents: &Contents) -> Result<Description> {
    let source = || format!("checking {}", args.source.display());
    if !args.no_init_check {
        facts::check_init(tree, contents).with_context(source)?;
    }
    Ok(Description {
        name: names.name.clone(),
        version: match &args.version {
            Some(version) => version.clone(),
            None => facts::version(tree, contents).with_context(source)?,
        },
        kernel_releases: facts::kernel_releases(tree),
        serial: timestamp::choose(args.serial)?,
    })
}

/// The image's own time: `SOURCE_DATE_EPOCH`, otherwise that of the newest file, so that the same source gives the same.
fn image_time(tree: &Tree) -> Result<u32> {
    let given = timestamp::source_date_epoch()?;
    Ok(given.map_or_else(|| tree.latest(), |seconds| u32::try_from(seconds).unwrap_or(u32::MAX)))
}

/// Makes manifest and signature and gives all files their names: the squashfs first, the signature last, so that what is
/// signed is there.
fn finish(
    args: &Args,
    names: &Names,
    image: Option<NamedTempFile>,
    description: Description,
    key: Option<&minisign::SecretKey>,
) -> Result<Summary> {
    let mut file = match &image {
        Some(image) => image.reopen().context("reading the new squashfs")?,
        None => {
            File::open(&names.squashfs).with_context(|| format!("opening {}", names.squashfs.display()))?
        }
    };
    let Made { json, size, sha256 } = manifest::make(&mut file, args.chunk_size, description.clone())?;
    let signature = key
        .map(|key| {
            sign::image_signature(key, std::io::Cursor::new(&json), &names.manifest, description.serial)
        })
        .transpose()?;
    if let Some(image) = image {
        output::place(image, &names.squashfs, Access::Everybody, Existing::Replace)?;
    }
    // The signature of an earlier manifest would be a wrong one for this.
    match std::fs::remove_file(&names.signature) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing the old {}", names.signature.display()));
        }
        _ => {}
    }
    output::write(&names.manifest, &json, Access::Everybody, Existing::Replace)?;
    if let Some(signature) = &signature {
        output::write(&names.signature, signature.as_bytes(), Access::Everybody, Existing::Replace)?;
    }
    let Description { name, version, kernel_releases, serial } = description;
    Ok(Summary {
        squashfs: names.squashfs.clone(),
        size,
        sha256,
        manifest: names.manifest.clone(),
        signature: signature.map(|_| names.signature.clone()),
        name,
        version,
        serial,
        kernel_releases,
        writer: None,
        lost: Vec::new(),
    })
}

fn unplaced(tree: &Tree) -> impl Iterator<Item = String> {
    tree.left_out().iter().map(|(name, count)| format!("{name}: {count} (a squashfs has no place for it)"))
}

fn say(line: &str) {
    eprintln!("{line}");
}

fn tell(summary: &Summary, json: bool) -> Result<()> {
    for lost in &summary.lost {
        say(&format!("warning: not in the image: {lost}"));
    }
    if summary.kernel_releases.is_empty() {
        say("note: the image has no kernel modules; those in boot.img are all that it will have");
    }
    if json {
        println!("{}", serde_json::to_string_pretty(summary).context("writing the summary")?);
        return Ok(());
    }
    let by = summary.writer.map(|by| format!(", by {by}")).unwrap_or_default();
    println!("{}: {:.1} MB{by}", summary.squashfs.display(), summary.size as f64 / 1e6);
    println!(
        "{}: {} {}, serial {}",
        summary.manifest.display(),
        summary.name,
        summary.version,
        summary.serial
    );
    match &summary.signature {
        Some(signature) => println!("{}: signed", signature.display()),
        None => println!(
            "not signed (--key): a Pi refuses the image unless its command line says\nlifeboat.sha256={}",
            summary.sha256
        ),
    }
    Ok(())
}
