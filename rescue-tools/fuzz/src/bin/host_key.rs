//! A host key, as it may lie on a disk.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rescue_tools::sshd::host_key;

fuzz_target!(|text: &str| {
    if let Ok(key) = host_key::from_text(text) {
        host_key::from_text(&host_key::to_text(&key).unwrap()).unwrap();
    }
});
