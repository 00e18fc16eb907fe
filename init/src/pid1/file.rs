//! Files in `/run/lifeboat`: replaced as a whole, and waited for without polling.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Replaces `path` by `bytes`: a reader sees the old file or the new one.
///
/// # Errors
/// When the folder cannot be written to; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("new{}", std::process::id()));
    std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("writing {}", path.display()))
}

/// [`replace`] with a value's JSON.
///
/// # Errors
/// As [`replace`].
pub fn replace_json(path: &Path, value: &impl Serialize) -> Result<()> {
    replace(path, &serde_json::to_vec(value).with_context(|| format!("encoding {}", path.display()))?)
}

/// Reads a value that another of our programs wrote; `None` while it is not there.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Waits until `ready` gives something, looking again whenever a file in `folder` is replaced. `None`: `limit` has passed.
///
/// # Errors
/// When the kernel refuses the watch.
pub fn wait_for<T>(
    folder: &Path,
    limit: Duration,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<Option<T>> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .context("making an inotify instance")?;
    let events = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE;
    inotify::add_watch(&watch, folder, events).with_context(|| format!("watching {}", folder.display()))?;
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return Ok(Some(value));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for a change"),
        }
        let mut events = [0; 4096];
        while rustix::io::read(&watch, &mut events).is_ok_and(|count| count > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_wakes_the_waiter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        std::thread::scope(|scope| {
            scope.spawn(|| replace_json(&path, &7).unwrap());
            let seen = wait_for(folder.path(), Duration::from_secs(20), || read_json::<u32>(&path)).unwrap();
            assert_eq!(seen, Some(7));
        });
        assert_eq!(wait_for(folder.path(), Duration::ZERO, || None::<()>).unwrap(), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
