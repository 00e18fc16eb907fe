//! What systemd wants to know of its initrd: when it began, so that `systemd-analyze` shows the initrd's share.
//!
//! systemd takes that from the state that a systemd in the initrd would hand over (`--deserialize=FD`); the two
//! timestamps are all of it that we have. Another init gets no such arguments.

use std::io::Write;
use std::os::fd::{IntoRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};

/// Arguments for `init` (seen from the new root): none unless it is systemd. `began_us` is when `/init` started, in
/// microseconds since the kernel did.
pub fn arguments(init: &str, began_us: i64) -> Vec<String> {
    let is_systemd = std::fs::canonicalize(init).is_ok_and(|path| path.ends_with("lib/systemd/systemd"));
    if !is_systemd {
        return Vec::new();
    }
    match state(began_us) {
        // It is kept open over the exec on purpose: systemd reads and closes it.
        Ok(state) => vec![
            "--switched-root".into(),
            "--system".into(),
            format!("--deserialize={}", state.into_raw_fd()),
        ],
        Err(error) => {
            tracing::warn!("telling systemd when the initrd began: {error}");
            Vec::new()
        }
    }
}

/// The serialised state: `initrd-timestamp=REALTIME MONOTONIC` in microseconds, then the empty line that ends the
/// manager's own part.
fn state(began_us: i64) -> std::io::Result<OwnedFd> {
    let realtime = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let monotonic = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = |time: rustix::time::Timespec| time.tv_sec * 1_000_000 + time.tv_nsec / 1000;
    let (realtime, monotonic) = (microseconds(realtime), microseconds(monotonic));
    let state = memfd_create("lifeboat-initrd", MemfdFlags::empty())?;
    let mut file = std::fs::File::from(state);
    writeln!(file, "initrd-timestamp={} {began_us}", realtime - monotonic + began_us)?;
    writeln!(file)?;
    std::io::Seek::rewind(&mut file)?;
    Ok(file.into())
}

/// Microseconds since the kernel started, suspend not counted.
pub fn now_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}
