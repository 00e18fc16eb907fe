//! An OS' system.conf, as far as it is about the watchdog.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let said = init::watchdog::setting(text);
    assert!(said.is_none() || text.contains("RuntimeWatchdogSec"));
});
