//! The kernel package: found behind its metapackage, unpacked once into the cache; its image made the firmware's
//! `kernel8.img`, its device trees and overlays.

use crate::boot_file::BootFile;
use crate::cache::Cache;
use crate::deb;
use crate::digest;
use crate::package::Package;
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::store::Store;
use crate::tree::Origin;
use anyhow::{Context, Result, bail, ensure};
use libdeflater::{CompressionLvl, Compressor};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A metapackage leads to packages with these prefixes.
const PARTS: [&str; 4] = ["linux-image-", "linux-modules-", "linux-binary-", "linux-dtbs-"];
/// libdeflate's best level.
const LEVEL: i32 = 12;
/// The firmware's names of device trees that mainline calls otherwise.
const OTHER_NAMES: [(&str, &str); 2] =
    [("bcm2711-rpi-cm4.dtb", "bcm2711-rpi-cm4-io.dtb"), ("bcm2712-rpi-cm5.dtb", "bcm2712-rpi-cm5-cm5io.dtb")];
/// The largest kernel image taken, in bytes.
const IMAGE_LIMIT: u64 = 512 << 20;
/// Where Linux's boot protocol for arm64 has its magic number, and what it is (Documentation/arch/arm64/booting.rst).
const MAGIC: std::ops::Range<usize> = 0x38..0x3c;

/// An unpacked kernel.
#[derive(Debug)]
pub struct Kernel {
    /// Its release, as `uname -r` says it.
    pub release: String,
    /// The package that the image came from.
    pub origin: Origin,
    folder: PathBuf,
}

impl Kernel {
    /// Downloads the kernel's packages and unpacks them into the cache.
    ///
    /// # Errors
    /// If a package does not exist, or is no kernel for arm64.
    pub fn fetch(
        recipe: &Recipe,
        store: &mut Store<'_>,
        cache: &Cache,
        progress: &Progress,
    ) -> Result<Kernel> {
        let packages = packages(store, &recipe.kernel_package)?;
        store.fetch(&packages.iter().collect::<Vec<_>>())?;
        let sums: String = packages.iter().map(|package| package.sha256.as_str()).collect();
        let folder = cache.folder_of("kernel", &digest::hex(sums.as_bytes()), |folder| {
            let _busy = progress.busy("unpacking the kernel");
            lay_out(folder)?;
            for package in &packages {
                unpack(&store.archive(package), folder)?;
            }
            depmod(folder, &release(folder)?)
        })?;
        let release = release(&folder)?;
        let origin = packages.last().map(Origin::from).context("the kernel has no package")?;
        Ok(Kernel { release, origin, folder })
    }

    /// The folder of its modules, with the files that depmod made of all of them.
    pub fn modules(&self) -> PathBuf {
        self.folder.join("usr/lib/modules").join(&self.release)
    }

    /// Its image as the firmware takes it: compressed with gzip.
    ///
    /// # Errors
    /// If it is no arm64 kernel.
    pub fn image(&self, cache: &Cache, progress: &Progress) -> Result<BootFile> {
        let path = self.folder.join("boot/vmlinuz");
        let packed = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let key = format!("{}-gzip{LEVEL}", digest::hex(&packed));
        let folder = cache.folder_of("kernel8", &key, |folder| {
            let _busy = progress.busy("compressing the kernel");
            let image = unpacked_image(packed)?;
            std::fs::write(folder.join("kernel8.img"), gzip(&image)?).context("writing kernel8.img")
        })?;
        let data = std::fs::read(folder.join("kernel8.img")).context("reading kernel8.img")?;
        Ok(BootFile { name: "kernel8.img".into(), data, origin: self.origin.clone() })
    }

    /// The device trees by the names that the firmware asks for.
    ///
    /// # Errors
    /// If the kernel has no such device tree.
    pub fn device_trees(&self, names: &[String]) -> Result<Vec<BootFile>> {
        names.iter().map(|name| self.device_tree(name)).collect()
    }

    fn device_tree(&self, name: &str) -> Result<BootFile> {
        let other = OTHER_NAMES.iter().find(|(ours, _)| *ours == name).map(|(_, theirs)| *theirs);
        for name_there in std::iter::once(name).chain(other) {
            if let Ok(data) = std::fs::read(self.folder.join("dtbs").join(name_there)) {
                return Ok(BootFile { name: name.into(), data, origin: self.origin.clone() });
            }
        }
        bail!("kernel {} has no device tree {name}", self.release)
    }

    /// Overlays by name, and the README by which the firmware knows an overlays folder.
    ///
    /// # Errors
    /// If the kernel's package has no such overlay.
    pub fn overlays(&self, names: &[String]) -> Result<Vec<BootFile>> {
        let mut files = Vec::new();
        for name in names {
            let data =
                std::fs::read(self.folder.join("overlays").join(format!("{name}.dtbo"))).map_err(|_| {
                    anyhow::anyhow!(
                        "[kernel] overlays: package {} has no overlay {name}",
                        self.origin.package
                    )
                })?;
            files.push(BootFile { name: format!("overlays/{name}.dtbo"), data, origin: self.origin.clone() });
        }
        if !files.is_empty() {
            let data = b"Device tree overlays\n".to_vec();
            files.push(BootFile { name: "overlays/README".into(), data, origin: Origin::own() });
        }
        Ok(files)
    }
}

/// The packages behind a metapackage, the kernel image last.
fn packages(store: &Store<'_>, name: &str) -> Result<Vec<Package>> {
    let mut found: Vec<Package> = Vec::new();
    let mut next = vec![name.to_owned()];
    while let Some(name) = next.pop() {
        if found.iter().any(|package| package.name == name) {
            continue;
        }
        for package in store.find([name.as_str()])? {
            let parts = package.depends.iter().filter_map(|alternatives| alternatives.first());
            next.extend(parts.filter(|name| PARTS.iter().any(|part| name.starts_with(part))).cloned());
            found.push(package);
        }
    }
    found.sort_by_key(|package| package.name.starts_with("linux-image-"));
    Ok(found)
}

/// `lib` leads to `usr/lib`, so that depmod finds the modules whichever of the two its version looks in.
fn lay_out(folder: &Path) -> Result<()> {
    for name in ["usr/lib/modules", "boot", "dtbs", "overlays"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    Ok(std::os::unix::fs::symlink("usr/lib", folder.join("lib"))?)
}

fn unpack(deb: &Path, folder: &Path) -> Result<()> {
    deb::each_file(deb, |path, _, content| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let in_package = path.starts_with("usr/lib/linux-image-");
        let target = if path.starts_with("boot/vmlinuz-") {
            folder.join("boot/vmlinuz")
        } else if path.starts_with("usr/lib/modules/")
            && !path.contains("/build")
            && !path.contains("/source")
        {
            folder.join(path)
        } else if in_package && path.contains("/broadcom/") && name.ends_with(".dtb") {
            folder.join("dtbs").join(name)
        } else if in_package && path.contains("/overlays/") && name.ends_with(".dtbo") {
            folder.join("overlays").join(name)
        } else {
            return Ok(());
        };
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        content.write_to(&target)
    })
}

fn release(folder: &Path) -> Result<String> {
    let modules = folder.join("usr/lib/modules");
    let entries: Vec<_> = std::fs::read_dir(&modules)
        .with_context(|| format!("reading {}", modules.display()))?
        .collect::<std::io::Result<_>>()?;
    match &entries[..] {
        [one] => Ok(one.file_name().to_string_lossy().into_owned()),
        [] => bail!("[kernel] package: it has no modules"),
        _ => bail!("[kernel] package: it has modules for more than one kernel"),
    }
}

/// Runs depmod over the modules in `folder`.
///
/// # Errors
/// If depmod fails.
pub fn depmod(folder: &Path, release: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let output = Command::new("depmod")
        .env("PATH", std::env::join_paths(folders)?)
        .arg("-b")
        .arg(folder)
        .arg(release)
        .stdin(Stdio::null())
        .output()
        .context("running depmod (Debian package kmod)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "running depmod: {}",
        said.lines().last().unwrap_or("it gave no reason")
    );
    Ok(())
}

/// The kernel's plain Image: vmlinuz may be just that, gzip, or an EFI program that unpacks itself.
fn unpacked_image(packed: Vec<u8>) -> Result<Vec<u8>> {
    let image = if packed.starts_with(b"\x1f\x8b") {
        read_limited(flate2::read::MultiGzDecoder::new(&packed[..]))?
    } else if packed.get(4..8) == Some(b"zimg") {
        unpacked_zboot(&packed)?
    } else {
        packed
    };
    ensure!(image.get(MAGIC) == Some(b"ARMd"), "vmlinuz is no kernel image for arm64");
    Ok(image)
}

/// An EFI zboot image: offset and size of the payload at 8 and 12, the compression's name at 24
/// (drivers/firmware/efi/libstub/zboot-header.S).
fn unpacked_zboot(packed: &[u8]) -> Result<Vec<u8>> {
    let number = |at: usize| {
        let bytes = packed.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let payload = (|| packed.get(number(8)?..number(8)?.checked_add(number(12)?)?))();
    let payload = payload.context("vmlinuz is a damaged EFI zboot image")?;
    let name = packed.get(24..56).unwrap_or_default();
    match name.split(|byte| *byte == 0).next() {
        Some(b"gzip") => read_limited(flate2::read::GzDecoder::new(payload)),
        Some(b"zstd") => read_limited(zstd::Decoder::new(payload)?),
        Some(b"xzkern") => read_limited(liblzma::read::XzDecoder::new(payload)),
        _ => bail!("vmlinuz is an EFI zboot image compressed with {:?}", String::from_utf8_lossy(name)),
    }
}

fn read_limited(reader: impl Read) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    reader.take(IMAGE_LIMIT).read_to_end(&mut data).context("unpacking vmlinuz")?;
    Ok(data)
}

fn gzip(data: &[u8]) -> Result<Vec<u8>> {
    let level = CompressionLvl::new(LEVEL).map_err(|_| anyhow::anyhow!("libdeflate has no level {LEVEL}"))?;
    let mut compressor = Compressor::new(level);
    let mut packed = vec![0; compressor.gzip_compress_bound(data.len())];
    let length = compressor.gzip_compress(data, &mut packed).context("compressing with gzip")?;
    packed.truncate(length);
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<u8> {
        let mut image = vec![0; 4096];
        image[MAGIC].copy_from_slice(b"ARMd");
        image
    }

    #[test]
    fn an_image_is_found_in_every_wrapping() {
        assert_eq!(unpacked_image(image()).unwrap(), image());
        assert_eq!(unpacked_image(gzip(&image()).unwrap()).unwrap(), image());
        let payload = zstd::encode_all(&image()[..], 1).unwrap();
        let mut zboot = vec![0; 64];
        zboot[..8].copy_from_slice(b"MZ\0\0zimg");
        zboot[8..12].copy_from_slice(&64u32.to_le_bytes());
        zboot[12..16].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        zboot[24..28].copy_from_slice(b"zstd");
        zboot.extend(payload);
        assert_eq!(unpacked_image(zboot).unwrap(), image());
        assert!(unpacked_image(vec![0; 4096]).is_err());
        assert!(unpacked_image(b"MZ\0\0zimg\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()).is_err());
    }
}
