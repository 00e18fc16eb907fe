//! Whose turn it is: a guest that works needs a core, one that waits for its network does not.

use std::sync::{Condvar, Mutex};
use std::thread::available_parallelism;

static LEFT: Mutex<Option<usize>> = Mutex::new(None);
static GIVEN_BACK: Condvar = Condvar::new();

/// How many guests work at a time: one more than there are cores, since each waits now and then.
pub fn most() -> usize {
    available_parallelism().map_or(1, usize::from) + 1
}

/// A place among those that work, given back when it is dropped.
pub struct Turn(());

/// Waits for one.
pub fn take() -> Turn {
    let left = LEFT.lock().unwrap();
    let mut left = GIVEN_BACK.wait_while(left, |left| *left.get_or_insert_with(most) == 0).unwrap();
    *left = left.map(|left| left - 1);
    Turn(())
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut left = LEFT.lock().unwrap();
        *left = left.map(|left| left + 1);
        GIVEN_BACK.notify_one();
    }
}
