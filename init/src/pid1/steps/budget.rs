//! Step `budget`: before a byte is fetched, whether image, overlay and OS fit into the RAM (invariant 8).

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::fetch::IMAGE_PATH;
use crate::pid1::boot::Boot;
use crate::pid1::machine;
use crate::size::human;

/// An overlay that nobody gave a size gets what is left, but is not worth having below this.
const SMALLEST_OVERLAY: u64 = 64 << 20;

pub(crate) fn run(boot: &mut Boot) -> Result<()> {
    let ram_boot = boot.ram_boot()?;
    let image = boot.image.as_ref().context("there is no manifest yet")?;
    // What an earlier try mounted or left may be another image.
    super::mount::unmount_stale()?;
    image.cut(Path::new(IMAGE_PATH))?;
    let total = boot.machine.memory;
    let budget = Budget {
        available: machine::memory(Path::new("/"), "MemAvailable:").context("reading MemAvailable")?,
        total,
        image: image.size,
        present: image.present(Path::new(IMAGE_PATH)),
        overlay: ram_boot.overlay.map(|size| size.of(total)),
        floor: ram_boot.floor.of(total),
    };
    boot.overlay_bytes = budget.overlay()?;
    Ok(())
}

/// The figures, in bytes.
struct Budget {
    available: u64,
    total: u64,
    image: u64,
    /// Of the image, what an earlier try has left in RAM: it is not available any more, and need not be.
    present: u64,
    overlay: Option<u64>,
    floor: u64,
}

impl Budget {
    /// The size of the overlay.
    fn overlay(&self) -> Result<u64> {
        let wanted = self.overlay.unwrap_or(SMALLEST_OVERLAY);
        let needed = self.image.checked_add(wanted).and_then(|sum| sum.checked_add(self.floor));
        let there = self.available.saturating_add(self.present);
        let left = needed.and_then(|needed| there.checked_sub(needed));
        ensure!(
            left.is_some(),
            "the image needs {}, its overlay {} and the OS {}, but of {} RAM only {} are free",
            human(self.image),
            human(wanted),
            human(self.floor),
            human(self.total),
            human(there)
        );
        let overlay = self.overlay.unwrap_or_else(|| wanted + left.unwrap_or(0));
        tracing::info!(
            "budget: image {}, overlay up to {}, floor {}; free {} of {}",
            human(self.image),
            human(overlay),
            human(self.floor),
            human(there),
            human(self.total)
        );
        Ok(overlay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn budget(image: u64, overlay: Option<u64>) -> Result<u64> {
        Budget { available: 900 * MIB, total: 1000 * MIB, image, present: 0, overlay, floor: 128 * MIB }
            .overlay()
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
        let half = Budget {
            available: 500 * MIB,
            total: 1000 * MIB,
            image: 600 * MIB,
            present: 400 * MIB,
            overlay: None,
            floor: 128 * MIB,
        };
        assert_eq!(half.overlay().unwrap(), 172 * MIB);
    }
}
