//! Swap in compressed RAM (Documentation/admin-guide/blockdev/zram.rst). It goes along to the OS, which may have some of
//! its pages in it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::modprobe::Modules;

/// The driver makes one device by itself.
const DEVICE: &str = "/dev/zram0";
const SIZE_PATH: &str = "/sys/block/zram0/disksize";
/// Before any swap on a disk (swapon(2): `SWAP_FLAG_PREFER` and a priority).
const PRIORITY: i32 = 0x8000 | 100;

/// Makes a swap of about `bytes` for the kernel `release`, unless it is there already; gives its size in bytes.
///
/// # Errors
/// When the driver is not in the image, the device is somebody else's, or the kernel refuses.
pub fn swap_on(bytes: u64, release: &str) -> Result<u64> {
    let swaps = std::fs::read_to_string("/proc/swaps").context("reading /proc/swaps")?;
    if swaps.lines().any(|line| line.split_whitespace().next() == Some(DEVICE)) {
        return disk_size();
    }
    let mut modules = Modules::read(&Path::new("/lib/modules").join(release))?;
    // Before Linux 6.12 the driver asks for its compressor by name, which takes a modprobe(8); later it needs none.
    let _ = modules.load("lzo-rle");
    modules.load("zram")?;
    if disk_size()? != 0 {
        bail!("{DEVICE} is in use for something else");
    }
    std::fs::write(SIZE_PATH, bytes.to_string()).with_context(|| format!("writing {SIZE_PATH}"))?;
    let size = disk_size()?;
    let header = header(size, rustix::param::page_size())?;
    let mut device =
        OpenOptions::new().write(true).open(DEVICE).with_context(|| format!("opening {DEVICE}"))?;
    device
        .write_all(&header)
        .and_then(|()| device.sync_all())
        .with_context(|| format!("writing {DEVICE}"))?;
    drop(device);
    // SAFETY: the path is a string with its NUL that lives until the call is over (swapon(2)).
    #[allow(unsafe_code, reason = "neither nix nor rustix has swapon")]
    let refused = unsafe { nix::libc::swapon(c"/dev/zram0".as_ptr(), PRIORITY) };
    nix::errno::Errno::result(refused).context("swapping to it (swapon)")?;
    Ok(size)
}

fn disk_size() -> Result<u64> {
    let size = std::fs::read_to_string(SIZE_PATH).with_context(|| format!("reading {SIZE_PATH}"))?;
    size.trim().parse().with_context(|| format!("{SIZE_PATH} has no size"))
}

/// What mkswap(8) writes: a page (`union swap_header` in `include/linux/swap.h`), here without label and UUID.
fn header(size: u64, page_size: usize) -> Result<Vec<u8>> {
    const VERSION: u32 = 1;
    const MAGIC: &[u8] = b"SWAPSPACE2";
    let last_page = (size / page_size as u64).saturating_sub(1);
    let last_page = u32::try_from(last_page).context("a swap of more than 2^32 pages")?;
    // Behind 1024 bytes for a boot sector: version, last page, number of bad pages.
    let mut page = vec![0; 1024];
    page.extend([VERSION.to_ne_bytes(), last_page.to_ne_bytes(), [0; 4]].concat());
    page.resize(page_size.saturating_sub(MAGIC.len()), 0);
    page.extend(MAGIC);
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The peer is libblkid, which has read mkswap's headers for twenty years.
    #[test]
    fn the_header_is_one_to_blkid() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = header(1 << 20, 4096).unwrap();
        assert_eq!(bytes.len(), 4096);
        bytes.resize(1 << 20, 0);
        std::fs::write(file.path(), &bytes).unwrap();
        let blkid = std::process::Command::new("/sbin/blkid")
            .args(["--probe", "--output", "export"])
            .arg(file.path())
            .output();
        let output = blkid.expect("blkid (Debian package: util-linux)");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("TYPE=swap") && said.contains("VERSION=1"), "{said}");
        // 255 pages behind the header's.
        assert_eq!(bytes[1028..1032], 255_u32.to_ne_bytes());
    }

    #[test]
    fn no_size_is_too_large_to_be_refused() {
        assert!(header(u64::MAX, 4096).is_err());
        assert_eq!(header(0, 16384).unwrap().len(), 16384);
    }
}
