//! Step `fetch`: brings the image into RAM, into a tmpfs of just its size.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sys_mount::MountFlags;

use crate::event::Progress;
use crate::pid1::announce::Announcer;
use crate::pid1::boot::Boot;
use crate::pid1::image::Listener;
use crate::pid1::{http, mounts};
use crate::size::human;

/// The folder that the image's own tmpfs is mounted on.
const IMAGE_DIR: &str = "/run/lifeboat/image";
/// The image.
pub(crate) const IMAGE_PATH: &str = "/run/lifeboat/image/root.squashfs";

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let image = boot.image.clone().context("there is no manifest yet")?;
    mount_image_dir(image.size)?;
    let way = http::Way::new(&boot.plan.transport)?;
    let before = image.present(Path::new(IMAGE_PATH));
    let began = Instant::now();
    let tries = boot.fetches;
    // Should this one come to nothing, the next begins elsewhere.
    boot.fetches += 1;
    image.fetch(&way, Path::new(IMAGE_PATH), tries, &mut Voice(&mut boot.announcer))?;
    let seconds = began.elapsed().as_secs_f64();
    let fetched = image.size.saturating_sub(before);
    let rate = human((fetched as f64 / seconds.max(0.001)) as u64);
    tracing::info!(
        "fetched {} in {seconds:.1} s ({rate}/s), all of {} verified",
        human(fetched),
        human(image.size)
    );
    Ok(())
}

/// Huge pages spare the kernel 511 of 512 page faults; a kernel that has none gives small ones.
fn mount_image_dir(size: u64) -> Result<()> {
    std::fs::create_dir_all(IMAGE_DIR).with_context(|| format!("making {IMAGE_DIR}"))?;
    let huge_page = 2 << 20;
    let limit = size.div_ceil(huge_page).saturating_add(1).saturating_mul(huge_page);
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

struct Voice<'a>(&'a mut Announcer);

impl Listener for Voice<'_> {
    fn progress(&mut self, progress: Progress) {
        self.0.progress(progress);
    }

    fn trouble(&mut self, error: &anyhow::Error, wait: Duration) {
        let next = format!("asking again in {:.1} s; what is there stays", wait.as_secs_f64());
        self.0.failed(error, Some(wait), &next);
    }
}
