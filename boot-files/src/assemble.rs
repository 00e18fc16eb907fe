//! The order in which an image is assembled. Nothing else knows it.

use crate::apt::{self, Apt, Refresh};
use crate::boot_file::BootFile;
use crate::cache::Cache;
use crate::device::Programs;
use crate::kernel::Kernel;
use crate::keys::{boot_sig, timestamp::source_date_epoch};
use crate::manifest::{self, FileEntry, MANIFEST_FORMAT, Manifest};
use crate::output::{self, Draft};
use crate::progress::Progress;
use crate::recipe::{self, Recipe};
use crate::store::Store;
use crate::tree::{Origin, Tree};
use crate::usr::{self, Split};
use crate::{busybox, certificates, config, digest, fat, firmware, initramfs, libraries, modules, skeleton};
use anyhow::{Context, Result, ensure};
use init::config::{USR_MODULES, USR_PATH};
use std::path::{Path, PathBuf};

/// The firmware refuses larger images (boot.img in RAM, config.txt documentation): 96 MiB.
pub const SIZE_LIMIT: u64 = 96 << 20;
/// Over TFTP, older firmware loads no more than this: 64 MiB.
pub const SIZE_WARNING: u64 = 64 << 20;

/// What is to be built, from what, and where to.
#[derive(Debug)]
pub struct Order {
    /// `image.toml`.
    pub config: PathBuf,
    /// The output folder.
    pub output: PathBuf,
    /// The cache folder.
    pub cache: PathBuf,
    /// The folder of `init` and `rescue`.
    pub device_binaries: PathBuf,
    /// When to fetch package lists.
    pub refresh: Refresh,
}

/// How a build ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The output folder already held what these inputs make.
    Unchanged,
    /// There is a new image.
    Built {
        /// Size of `boot.img`, in bytes.
        size: u64,
        /// Whether `boot.sig` has a signature.
        signed: bool,
    },
}

/// Assembles an image.
///
/// # Errors
/// On bad input, a failed download or a full disk. The output folder is then as it was.
pub fn assemble(order: &Order, progress: &Progress) -> Result<Outcome> {
    apt::check_host()?;
    let recipe = read_recipe(&order.config)?;
    warn(&recipe, progress);
    let programs = Programs::read(&order.device_binaries)?;
    let cache = Cache::open(&order.cache)?;
    let apt = Apt::open(&cache, &recipe.repositories)?;
    apt.update(order.refresh, progress)?;
    let releases = apt.releases()?;
    let time = source_date_epoch()?.map_or_else(|| apt::newest_date(&releases), Ok)?;
    let inputs = fingerprint(&recipe, &programs, &releases, time)?;
    if output::is_unchanged(&order.output, &inputs) {
        return Ok(Outcome::Unchanged);
    }

    let mut store = Store::new(&apt, progress);
    let kernel = Kernel::fetch(&recipe, &mut store, &cache, progress)?;
    let mut files = firmware::fetch(&recipe, &mut store)?;
    files.push(BootFile::own("config.txt", recipe.config_txt.as_str()));
    files.push(BootFile::own("cmdline.txt", recipe.cmdline.as_str()));
    files.push(kernel.image(&cache, progress)?);
    files.extend(kernel.device_trees(&recipe.device_trees)?);
    files.extend(kernel.overlays(&recipe.overlays)?);
    let rescue = rescue(&recipe, programs, &kernel, &mut store, time, progress)?;
    files.push(BootFile::own("initramfs8", packed(&rescue.initramfs, &recipe, time, progress)?));
    files.sort_by(|one, other| one.name.cmp(&other.name));

    let image = fat::image(&files, time)?;
    let size = checked_size(&image, progress)?;
    let mut draft = Draft::new(&order.output)?;
    draft.write("boot.img", &image)?;
    let signature = boot_sig::sign(&draft.path("boot.img"), recipe.sign_key.as_deref(), time)?;
    draft.write("boot.sig", signature.as_bytes())?;
    draft.write_tftp(&files)?;
    let manifest = manifest(&recipe, &kernel, &store, &files, &rescue, &image, time);
    draft.write("manifest.json", manifest.to_json()?.as_bytes())?;
    draft.place(&inputs)?;
    Ok(Outcome::Built { size, signed: recipe.sign_key.is_some() })
}

/// The rescue system: the initramfs, and the `/usr` that lies in it as a squashfs. Tools come before busybox, so that it fills only the gaps; libraries come after all programs.
fn rescue(
    recipe: &Recipe,
    programs: Programs,
    kernel: &Kernel,
    store: &mut Store<'_>,
    time: u64,
    progress: &Progress,
) -> Result<Split> {
    progress.step("taking programs and their libraries");
    let mut tree = Tree::default();
    programs.put_into(&mut tree)?;
    skeleton::add(&mut tree, recipe, time)?;
    store.load(recipe.tools.iter().map(|tool| tool.package.as_str())).context("reading [[tools]]")?;
    for tool in &recipe.tools {
        let deb = store.deb(&tool.package)?;
        for pattern in &tool.files {
            for path in deb.matching(pattern)? {
                libraries::add_with_target(&mut tree, deb, path)?;
            }
        }
    }
    busybox::add(&mut tree, store, &recipe.busybox)?;
    certificates::add(&mut tree, store)?;
    tree.complete()?;
    libraries::add(&mut tree, store)?;
    progress.step("taking kernel modules");
    let modules = modules::add(&mut tree, kernel, &recipe.modules)?;
    tree.complete()?;
    progress.step(&format!("kernel {} with {} modules", kernel.release, modules.count));
    let Some(for_usr) = modules.for_usr else {
        progress.warn(&format!(
            "the image has no modules {}: /usr cannot be mounted and is unpacked, which takes more RAM",
            USR_MODULES.join(", ")
        ));
        return Ok(Split { initramfs: tree, usr: Tree::default() });
    };
    let mut split = usr::split(&tree, &kernel.release, &for_usr)?;
    let _busy = progress.busy(&format!("compressing /usr ({:.1} MB)", split.usr.bytes() as f64 / 1e6));
    split.initramfs.add_own(USR_PATH, 0o644, usr::squashfs(&split.usr, time, recipe.compression_level)?)?;
    Ok(split)
}

fn packed(tree: &Tree, recipe: &Recipe, time: u64, progress: &Progress) -> Result<Vec<u8>> {
    let archive = initramfs::archive(tree, time)?;
    let _busy = progress.busy(&format!("compressing the initramfs ({:.1} MB)", archive.len() as f64 / 1e6));
    initramfs::compress(&archive, recipe.compression_level)
}

fn read_recipe(path: &Path) -> Result<Recipe> {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    recipe::make(config::read(path)?, &folder).with_context(|| path.display().to_string())
}

fn warn(recipe: &Recipe, progress: &Progress) {
    if recipe.authorized_keys.is_empty() {
        progress.warn("[access] authorized_keys is empty: nobody will be able to log in");
    }
    if recipe.sign_key.is_none() {
        progress.warn("[sign] key is not set: boot.sig will hold hash and timestamp, but no signature");
    }
}

fn checked_size(image: &[u8], progress: &Progress) -> Result<u64> {
    let size = image.len() as u64;
    let mib = size as f64 / f64::from(1 << 20);
    ensure!(
        size <= SIZE_LIMIT,
        "boot.img would have {mib:.1} MiB, but the Pi's firmware takes at most {} MiB: leave tools or modules out",
        SIZE_LIMIT >> 20
    );
    if size >= SIZE_WARNING {
        progress.warn(&format!(
            "boot.img has {mib:.1} MiB: firmware from before 2022-03 and slow TFTP servers may not load more than {} MiB",
            SIZE_WARNING >> 20
        ));
    }
    Ok(size)
}

/// What makes a build: two with the same fingerprint have the same output.
fn fingerprint(
    recipe: &Recipe,
    programs: &Programs,
    releases: &[(String, String)],
    time: u64,
) -> Result<String> {
    let mut text = serde_json::to_string(recipe).context("writing the recipe")?;
    for (name, release) in releases {
        text.push_str(&format!("\n{name} {}", digest::hex(release.as_bytes())));
    }
    let key = recipe.sign_key.as_deref().map(digest::of_file).transpose().context("reading [sign] key")?;
    // By this name it can be read even when a newer build has taken its place meanwhile.
    let own = digest::of_file(Path::new("/proc/self/exe")).context("reading this program")?;
    text.push_str(&format!(
        "\n{} {}\n{key:?} {own} {time}",
        digest::hex(&programs.init),
        digest::hex(&programs.rescue)
    ));
    Ok(digest::hex(text.as_bytes()))
}

fn manifest(
    recipe: &Recipe,
    kernel: &Kernel,
    store: &Store<'_>,
    files: &[BootFile],
    rescue: &Split,
    image: &[u8],
    time: u64,
) -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT,
        name: recipe.name.clone(),
        built: time,
        boot_files: env!("CARGO_PKG_VERSION"),
        kernel_release: kernel.release.clone(),
        image: FileEntry::new("boot.img", image, &Origin::own()),
        repositories: recipe.repositories.iter().map(Into::into).collect(),
        packages: store.used().cloned().collect(),
        boot: manifest::of_boot(files),
        initramfs: manifest::of_tree(&rescue.initramfs),
        usr: manifest::of_tree(&rescue.usr),
    }
}
