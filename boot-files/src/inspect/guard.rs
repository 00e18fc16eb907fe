//! Crates that read FAT and squashfs panic on some damaged images (held by `a_damaged_image_is_read_or_refused`). Here
//! such a panic becomes an error like any other.

use anyhow::{Result, bail};
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `read`; a panic in it is an error.
///
/// # Errors
/// What `read` returns, or that the image is damaged.
pub fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let other = panic::take_hook();
        panic::set_hook(Box::new(move |information| {
            if !GUARDED.get() {
                other(information);
            }
        }));
    });
    GUARDED.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(false);
    match result {
        Ok(result) => result,
        Err(_) => bail!("is damaged"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
        let panicking = || -> Result<()> { panic!("overflow") };
        assert_eq!(guarded(panicking).unwrap_err().to_string(), "is damaged");
    }
}
