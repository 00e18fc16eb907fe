//! Step `fetch`: brings the images into RAM, into a tmpfs of just their size.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sys_mount::MountFlags;

use crate::event::Progress;
use crate::pid1::announce::Announcer;
use crate::pid1::boot::Boot;
use crate::pid1::http::Way;
use crate::pid1::image::{Image, Listener};
use crate::pid1::mounts;
use crate::pid1::stack::{self, IMAGE_DIR};
use crate::size::human;

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let images = boot.images()?;
    mount_image_dir(&images)?;
    let way = Way::new(&boot.plan.transport)?;
    let tries = boot.fetches;
    // Should this one come to nothing, the next begins elsewhere.
    boot.fetches += 1;
    let total = images.iter().map(|image| image.size).sum();
    let mut before = 0;
    for (n, image) in images.iter().enumerate() {
        let mut voice = Voice { announcer: &mut boot.announcer, before, total };
        fetch(image, &way, &stack::image_path(n), tries, &mut voice)?;
        before += image.size;
    }
    Ok(())
}

fn fetch(image: &Image, way: &Way, path: &Path, tries: usize, voice: &mut Voice<'_>) -> Result<()> {
    let present = image.present(path);
    let began = Instant::now();
    image.fetch(way, path, tries, voice)?;
    let seconds = began.elapsed().as_secs_f64();
    let fetched = image.size.saturating_sub(present);
    let rate = human((fetched as f64 / seconds.max(0.001)) as u64);
    tracing::info!(
        "{}: fetched {} in {seconds:.1} s ({rate}/s), all of {} verified",
        image.name(),
        human(fetched),
        human(image.size)
    );
    Ok(())
}

/// Huge pages spare the kernel 511 of 512 page faults; a kernel that has none gives small ones.
fn mount_image_dir(images: &[Image]) -> Result<()> {
    std::fs::create_dir_all(IMAGE_DIR).with_context(|| format!("making {IMAGE_DIR}"))?;
    let huge_page = 2 << 20;
    let pages = images.iter().map(|image| image.size.div_ceil(huge_page).saturating_add(1));
    let limit = pages.sum::<u64>().saturating_mul(huge_page);
    let flags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
    if mounts::is_mounted(IMAGE_DIR) {
        // A new image may have come to the server since.
        let flags = flags.union(MountFlags::REMOUNT);
        return mounts::mount("tmpfs", Path::new(IMAGE_DIR), "tmpfs", flags, &format!("size={limit}"));
    }
    let options = format!("mode=0700,size={limit}");
    let mount = |options: &str| mounts::mount("tmpfs", Path::new(IMAGE_DIR), "tmpfs", flags, options);
    mount(&format!("{options},huge=within_size")).or_else(|_| mount(&options))
}

/// Tells of one image among several as of a part of them all: their sum only grows.
struct Voice<'a> {
    announcer: &'a mut Announcer,
    /// Bytes of the images before this one.
    before: u64,
    /// Bytes of all of them.
    total: u64,
}

impl Listener for Voice<'_> {
    fn progress(&mut self, progress: Progress) {
        let bytes = self.before.saturating_add(progress.bytes);
        self.announcer.progress(Progress { bytes, total: self.total, ..progress });
    }

    fn trouble(&mut self, error: &anyhow::Error, wait: Duration) {
        let next = format!("asking again in {:.1} s; what is there stays", wait.as_secs_f64());
        self.announcer.failed(error, Some(wait), &next);
    }
}
