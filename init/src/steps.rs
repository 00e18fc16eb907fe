//! The names of the boot's steps, in their order. One word finds a stage on the console, in the events that the
//! server shows, in `rescue status`, in `docs/` and in the tests (`pid1::boot` has the functions, and a test holds
//! the two lists together).

/// The steps every boot takes.
pub const COMMON: [&str; 8] =
    ["console", "filesystems", "plan", "usr", "modules", "zram", "state", "network"];

/// The further steps of a boot into RAM.
pub const RAM_BOOT: [&str; 6] = ["manifest", "budget", "fetch", "mount", "overlay", "hand-over"];

/// The further steps of a boot from a disk.
pub const DISK_BOOT: [&str; 4] = ["install", "unlock", "root", "hand-over"];

/// Where a boot stays that goes nowhere else: SSH answers, and nothing ends it but a human or the reboot timer.
pub const RESCUE: &str = "rescue";

/// Whether `name` is a step of some boot.
pub fn is_step(name: &str) -> bool {
    COMMON.contains(&name) || RAM_BOOT.contains(&name) || DISK_BOOT.contains(&name) || name == RESCUE
}
