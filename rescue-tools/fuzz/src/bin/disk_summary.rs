//! What blkid and lsblk say of a disk, which repeats what is written on it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rescue_tools::disk::{lsblk, probe};

fuzz_target!(|text: &str| {
    probe::parse(text);
    let _ = lsblk::parse(text.as_bytes());
});
