//! Step `budget`: before a byte is fetched, whether images, overlay and OS fit into the RAM (invariant 8).

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::pid1::boot::Boot;
use crate::pid1::{machine, stack};
use crate::size::human;

/// An overlay that nobody gave a size gets what is left, but is not worth having below this.
const SMALLEST_OVERLAY: u64 = 64 << 20;

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let ram_boot = boot.ram_boot()?;
    let images = boot.images()?;
    // What an earlier try mounted or left may be another image.
    super::mount::unmount_stale()?;
    stack::discard_others(images.len())?;
    let mut present: u64 = 0;
    for (n, image) in images.iter().enumerate() {
        let path = stack::image_path(n);
        image.cut(&path)?;
        present = present.saturating_add(image.present(&path));
    }
    let total = boot.machine.memory;
    let budget = Budget {
        available: machine::memory(Path::new("/"), "MemAvailable:").context("reading MemAvailable")?,
        total,
        images: images.iter().map(|image| (image.name().into(), image.size)).collect(),
        present,
        overlay: ram_boot.overlay.map(|size| size.of(total)),
        floor: ram_boot.floor.of(total),
        zram: boot.zram_bytes,
    };
    boot.overlay_bytes = budget.overlay()?;
    Ok(())
}

/// The figures, in bytes.
struct Budget {
    available: u64,
    total: u64,
    /// Each image's name and size.
    images: Vec<(String, u64)>,
    /// Of the images, what an earlier try has left in RAM: it is not available any more, and need not be.
    present: u64,
    overlay: Option<u64>,
    floor: u64,
    /// The size of the swap in compressed RAM.
    zram: u64,
}

impl Budget {
    /// The size of the overlay.
    fn overlay(&self) -> Result<u64> {
        let wanted = self.overlay.unwrap_or(SMALLEST_OVERLAY);
        let images = self.images.iter().try_fold(0_u64, |sum, (_, size)| sum.checked_add(*size));
        let needed = images.and_then(|sum| sum.checked_add(wanted)?.checked_add(self.floor));
        let there = self.available.saturating_add(self.present);
        let lent = self.lent(wanted);
        let left = needed.and_then(|needed| there.saturating_add(lent).checked_sub(needed));
        let images = images.unwrap_or(u64::MAX);
        let zram = if lent > 0 { format!(", and zram lends {}", human(lent)) } else { String::new() };
        ensure!(
            left.is_some(),
            "{}, its overlay {} and the OS {}, but of {} RAM only {} are free{zram}",
            self.need(images),
            human(wanted),
            human(self.floor),
            human(self.total),
            human(there)
        );
        let overlay = self.overlay.unwrap_or_else(|| wanted + left.unwrap_or(0));
        tracing::info!(
            "budget: image {}, overlay up to {}, floor {}; free {} of {}{zram}",
            human(images),
            human(overlay),
            human(self.floor),
            human(there),
            human(self.total)
        );
        Ok(overlay)
    }

    /// What the swap in compressed RAM adds. Overlay and OS are taken to shrink to a half in it, so that each two bytes there
    /// make room for one; an image is packed already, and shrinks no more.
    fn lent(&self, overlay: u64) -> u64 {
        self.zram.min(overlay.saturating_add(self.floor)) / 2
    }

    /// The images' part of a refusal: of several each by its name.
    fn need(&self, sum: u64) -> String {
        if self.images.len() == 1 {
            return format!("the image needs {}", human(sum));
        }
        let each = self.images.iter().map(|(name, size)| format!("{name} {}", human(*size)));
        format!("the images need {} ({})", human(sum), each.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn budget(image: u64, overlay: Option<u64>) -> Result<u64> {
        Budget { overlay, ..of(&[image]) }.overlay()
    }

    fn of(images: &[u64]) -> Budget {
        let images = images.iter().zip(1..).map(|(size, n)| (format!("{n}.squashfs"), *size)).collect();
        let (available, total) = (900 * MIB, 1000 * MIB);
        Budget { available, total, images, present: 0, overlay: None, floor: 128 * MIB, zram: 0 }
    }

    #[test]
    fn what_is_left_goes_to_the_overlay() {
        assert_eq!(budget(600 * MIB, None).unwrap(), 172 * MIB);
        assert_eq!(budget(600 * MIB, Some(100 * MIB)).unwrap(), 100 * MIB);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_figures() {
        let error = budget(800 * MIB, None).unwrap_err().to_string();
        for figure in ["800.0 MiB", "64.0 MiB", "128.0 MiB", "1000.0 MiB", "900.0 MiB"] {
            assert!(error.contains(figure), "{error}");
        }
        assert!(budget(600 * MIB, Some(200 * MIB)).is_err());
        assert!(budget(u64::MAX, Some(u64::MAX)).is_err());
    }

    #[test]
    fn what_is_present_counts_as_free() {
        let half = Budget { available: 500 * MIB, present: 400 * MIB, ..of(&[600 * MIB]) };
        assert_eq!(half.overlay().unwrap(), 172 * MIB);
    }

    #[test]
    fn of_several_images_the_sum_counts_and_each_is_named() {
        assert_eq!(of(&[500 * MIB, 100 * MIB]).overlay().unwrap(), 172 * MIB);
        let error = of(&[700 * MIB, 100 * MIB]).overlay().unwrap_err().to_string();
        assert!(
            error.starts_with("the images need 800.0 MiB (1.squashfs 700.0 MiB, 2.squashfs 100.0 MiB)"),
            "{error}"
        );
        assert!(of(&[u64::MAX, 1]).overlay().is_err());
    }

    #[test]
    fn zram_lends_for_overlay_and_os_and_not_for_the_image() {
        let with = |zram, image| Budget { zram, ..of(&[image]) }.overlay();
        // 64 and 128 MiB that shrink to a half make room for 96 MiB more, whatever the size.
        assert_eq!(with(1 << 40, 750 * MIB).unwrap(), (64 + 900 + 96 - 750 - 64 - 128) * MIB);
        assert_eq!(with(50 * MIB, 600 * MIB).unwrap(), (172 + 25) * MIB);
        let error = with(1 << 40, 850 * MIB).unwrap_err().to_string();
        assert!(error.ends_with("only 900.0 MiB are free, and zram lends 96.0 MiB"), "{error}");
    }
}
